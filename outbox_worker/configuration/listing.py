"""Every setting with its value, by place: what `configuration show` prints and what a reload compares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from outbox_worker.configuration.overrides import Section
from outbox_worker.configuration.refusal import Location


def values_of(section: Section, location: Location = ()) -> Iterator[tuple[Location, Any]]:
    """Return each key below a section with its value, defaults too, in the order of the model."""
    for name, field in type(section).model_fields.items():
        yield from _values((*location, field.alias or name), getattr(section, name))


def _values(location: Location, value: Any) -> Iterator[tuple[Location, Any]]:
    if isinstance(value, Section):
        yield from values_of(value, location)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _values((*location, str(key)), item)
    else:
        yield location, value


def changes(before: Section, now: Section) -> list[Location]:
    """Return the places at which two readings of the settings differ."""
    old, new = dict(values_of(before)), dict(values_of(now))
    return [place for place in {**old, **new} if old.get(place) != new.get(place)]
