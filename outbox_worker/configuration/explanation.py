"""The settings for people: each with its value, as a person would write it, and its origin. Secrets stay hidden."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from outbox_worker.configuration.listing import values_of
from outbox_worker.configuration.model import Configuration
from outbox_worker.configuration.refusal import Location, Origins

HIDDEN = "***"
Shown = str | int | float | bool | list[Any] | None


class Explained(NamedTuple):
    """A setting: its dotted name, its value, and the file or variable that it comes from, or `default`."""

    name: str
    value: Shown
    origin: str


def explain(configuration: Configuration, document: Mapping[str, Any], origins: Origins) -> list[Explained]:
    """Return every setting; `document` is what was read, so all else is a default."""
    return [
        Explained(".".join(location), _shown(location, value), _origin(location, document, origins))
        for location, value in values_of(configuration)
    ]


def _origin(location: Location, document: Mapping[str, Any], origins: Origins) -> str:
    found: Any = document
    for name in location:
        if not isinstance(found, Mapping) or name not in found:
            return "default"
        found = found[name]
    return origins.of(location)


def _shown(location: Location, value: Any) -> Shown:
    if location == ("database", "url"):
        return _without_password(value)
    if isinstance(value, SecretStr):
        return HIDDEN
    if location[:2] == ("inboost", "hooks") and location[-1] == "url" and value:
        parts = urlsplit(value)  # its last part is all that protects a hook
        return f"{parts.scheme}://{parts.netloc}/{HIDDEN}"
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, tuple | list):
        return [_shown(location, item) for item in value]
    if isinstance(value, Path | ZoneInfo):
        return str(value)
    return str(value) if isinstance(value, str) else value


def _without_password(url: SecretStr) -> str:
    words = conninfo_to_dict(url.get_secret_value())
    return make_conninfo(**{name: HIDDEN if "pass" in name else str(word) for name, word in words.items()})
