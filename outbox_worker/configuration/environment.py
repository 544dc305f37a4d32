"""Settings from variables, OUTBOX_WORKER__SECTION__KEY, as pydantic-settings reads them."""

from __future__ import annotations

import os
from typing import Any

from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from outbox_worker.configuration.model import Configuration
from outbox_worker.configuration.sources import PREFIX


class _Environment(Configuration, BaseSettings):
    """The shape by which variables are read. Only read by; never made."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", env_ignore_empty=True)


def read_variable(name: str) -> dict[str, Any] | None:
    """Return what a variable sets, as a document of its own; None when it should be JSON and is not."""
    source = EnvSettingsSource(_Environment)
    source.env_vars = {name.lower(): os.environ[name]}
    try:
        return source()
    except SettingsError:  # its words quote the value
        return None
