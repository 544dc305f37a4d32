"""The example of a configuration file, made from the model: each setting with what it is for and what holds without it.

`configuration example` prints it, `systemd/outbox-worker.toml` ships it, and a test keeps the two the same.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from datetime import time, timedelta
from itertools import pairwise
from typing import Any, get_args
from zoneinfo import ZoneInfo

from pydantic.fields import FieldInfo

from outbox_worker.configuration.model import Configuration
from outbox_worker.configuration.overrides import OperationSettings, Section
from outbox_worker.configuration.sources import SECRETS
from outbox_worker.configuration.values import Seconds

WIDTH = 120
_IN_SECONDS = get_args(Seconds)[1]
OPERATION = "add_purchase"  # which the settings of an operation are shown by
UNITS = (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1)), ("s", timedelta(seconds=1)))
HEAD = f"""
The settings of outbox-worker. Copy to /etc/outbox-worker/outbox-worker.toml, for root and its own group only (0640).

What is commented out shows the default, or an example where there is none. Durations are in seconds, where they are not
like "15m", "2h", "7d". Paths are relative to this file. Every setting can be given in the environment too, and wins:

    OUTBOX_WORKER__RELAY__SLOTS=32
    OUTBOX_WORKER__INBOOST__HOOKS__ACCRUAL__URL=https://…

Lists and tables are JSON there. A mistyped key is refused, never ignored.

Secrets have three places: a key here, a file named by the key with _file, or, with neither, a credential of systemd
(LoadCredential=inboost_token:/…); where there are no credentials, a file of that name beside this one. The credentials:
{", ".join(SECRETS.values())}.
"""


def example() -> str:
    """Return the whole file."""
    lines = [*_comment(HEAD), *_section((), Configuration, set())]
    return "\n".join(lines) + "\n"


def descriptions(section: type[Section]) -> dict[str, str]:
    """Return the text that stands below each key of a section.

    It is read here and not by pydantic, which would do it in every process that has settings, at a tenth of a second.
    """
    [definition] = ast.parse(inspect.getsource(section)).body
    return {
        key.target.id: inspect.cleandoc(text.value.value)
        for key, text in pairwise(getattr(definition, "body", []))
        if isinstance(key, ast.AnnAssign) and isinstance(key.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


def _section(path: tuple[str, ...], section: type[Section], shown: set[type[Section]]) -> Iterator[str]:
    """Show a section; of one whose like was `shown` only what must be given."""
    fields = section.model_fields
    inner = {name: found for name, field in fields.items() if (found := _inner(field)) is not None}
    keys = {name: field for name, field in fields.items() if name not in inner}
    again, texts = section in shown, descriptions(section)
    shown.add(section)
    if path:
        yield from ("", "") if len(path) == 1 else ("",)
        yield from () if again else _comment(_purpose(section))
        yield from (f"[{'.'.join(path)}]",) if keys else ()
    for number, (name, field) in enumerate(keys.items()):
        if not again or _is_needed(field):
            text = "" if again else texts.get(name, "")
            yield from ("",) if number and text else ()
            yield from _comment(text) if text else ()
            yield from _key(path, name, field)
    for name, found in inner.items():
        place = (*path, name, OPERATION) if found is OperationSettings else (*path, name)
        yield from _section(place, found, shown)


def _key(path: tuple[str, ...], name: str, field: FieldInfo) -> Iterator[str]:
    if name == "fields" and field.examples:  # a table of its own
        yield f"[{'.'.join((*path, name))}]"
        yield from (f"#{each}" for each in field.examples)
    else:
        yield f"{'' if _is_needed(field) else '#'}{name} = {_value(field).replace('{name}', path[-1])}"


def _inner(field: FieldInfo) -> type[Section] | None:
    """Return the section that a field is, if it is one."""
    kind = field.annotation
    if isinstance(kind, type) and issubclass(kind, Section):
        return kind
    return OperationSettings if OperationSettings in get_args(kind) else None


def _is_needed(field: FieldInfo) -> bool:
    return isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get("needed"))


def _purpose(section: type[Section]) -> str:
    words = inspect.cleandoc(section.__doc__ or "").partition("`: ")[2]
    return words[:1].upper() + words[1:]


def _comment(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(text.strip("\n").split("\n\n")):
        yield from ("#",) if number else ()
        if paragraph.startswith("    "):
            yield from (f"# {line}" for line in paragraph.splitlines())
        else:
            yield from textwrap.wrap(
                paragraph, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
            )


def _value(field: FieldInfo) -> str:
    if field.examples:
        return str(field.examples[0])
    return _written(field.get_default(call_default_factory=True), in_seconds=_IN_SECONDS in field.metadata)


def _written(value: Any, *, in_seconds: bool) -> str:
    if isinstance(value, timedelta) and in_seconds:
        return f"{value.total_seconds():g}"
    if isinstance(value, timedelta):
        unit, length = next((unit, length) for unit, length in UNITS if not value % length)
        return f'"{value // length}{unit}"'
    if isinstance(value, time):
        return f'"{value:%H:%M}"'
    return json.dumps(str(value) if isinstance(value, ZoneInfo) else value)
