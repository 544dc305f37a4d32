"""How commands speak: JSON for scripts on standard output, instants and durations for people."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from outbox_worker.cli.masking import encoded

PIPE_WIDTH = 10_000


def emit(value: Any) -> None:
    """Write one JSON document."""
    click.echo(encoded(value))


def show_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table. The last column wraps, the others stay whole so that ids can be copied; into a pipe none wraps."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        is_last = heading is headings[-1]
        table.add_column(heading, no_wrap=not is_last, overflow="fold", min_width=10 if is_last else None)
    for row in rows:
        table.add_row(*map(Text, row))
    is_bounded = sys.stdout.isatty() or "COLUMNS" in os.environ
    Console(highlight=False, width=None if is_bounded else PIPE_WIDTH).print(table)


def show(text: str | Text, *, indent: int = 0) -> None:
    """Write a paragraph, wrapped at the width of the screen."""
    console = Console(highlight=False)
    paragraph = text if isinstance(text, Text) else Text(text)
    for line in paragraph.wrap(console, max(console.width - indent, 20)):
        line.rstrip()
        console.print(Text(" " * indent).append_text(line), soft_wrap=True)


def show_command(command: str, *, indent: int = 0) -> None:
    """Write a command on a line of its own, never wrapped, so that it can be copied."""
    Console(highlight=False).print(Text(" " * indent + command, style="cyan"), soft_wrap=True)


def blank() -> None:
    """Leave a line free."""
    click.echo()


def when(instant: datetime, beside: datetime | None = None) -> str:
    """Write an instant in this machine's zone, without the day if it is that of `beside`."""
    local = instant.astimezone()
    is_same_day = beside is not None and beside.astimezone().date() == local.date()
    return f"{local:%H:%M:%S}" if is_same_day else f"{local:%Y-%m-%d %H:%M:%S}"


def ago(instant: datetime) -> str:
    """Write how long ago an instant was, or how far ahead it is."""
    seconds = (datetime.now(UTC) - instant).total_seconds()
    return f"{lasting(seconds)} ago" if seconds >= 0 else f"in {lasting(-seconds)}"


def lasting(seconds: float) -> str:
    """Write a duration with two digits or so."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}" if seconds < 10 else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"


def spoken(name: str) -> str:
    """Write one of our names as words."""
    return name.replace("_", " ")


def counted(number: int, one: str, many: str = "") -> str:
    """Write a number with its noun."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
