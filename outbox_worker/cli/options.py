"""Options that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from outbox_worker.rules import timetable

Option = Callable[[Callable[..., Any]], Callable[..., Any]]


def together(*stack: Option) -> Option:
    """Make one option of several, shown in this order."""

    def apply(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(stack):
            command = option(command)
        return command

    return apply


configuration_option = click.option(
    "--configuration",
    "-c",
    "configuration_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The TOML file [default: $OUTBOX_WORKER_CONFIGURATION, else /etc/outbox-worker/outbox-worker.toml].",
)
limit_option = click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="Show so many at most."
)
json_option = click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON document.")
reveal_option = click.option("--reveal", is_flag=True, help="Show phones as they are.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Tell what would be done, and do nothing.")
yes_option = click.option("--yes", "-y", "is_sure", is_flag=True, help="Do not ask, also when it is about many.")
operation_option = click.option("--operation", metavar="NAME", help="Only this operation, as add_purchase.")
destination_option = click.option("--destination", metavar="NAME", help="Only this destination, as api.")
customer_option = click.option(
    "--customer", "customer_id", metavar="ID", help="Only this customer, by accounting's id."
)
reason_option = click.option("--reason", metavar="TEXT", help="Why: it is recorded. Needed unless --dry-run.")
actor_option = click.option(
    "--actor", metavar="NAME", help="Who says so: it is recorded [default: user and host, with sudo the one behind it]."
)


def duration(text: str) -> timedelta:
    """Read `90s`, `15m`, `2h` or `7d`; anything else is a usage error."""
    found = timetable.duration(text)
    if found is None:
        raise click.BadParameter(f"{text!r} is no duration; write 90s, 15m, 2h or 7d")
    return found


def instant(text: str) -> datetime:
    """Read an instant in ISO 8601, in this machine's zone unless it says another; or how long ago it was, as `2h`."""
    ago = timetable.duration(text)
    if ago is not None:
        return datetime.now(UTC) - ago
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is no instant; write 2026-03-01T12:00:00+02:00, 2026-03-01, or 2h"
        ) from None


older_than_option = click.option(
    "--older-than", type=duration, metavar="DURATION", help="Only what was recorded longer ago, as 15m, 2h, 7d."
)


def confirm_many(question: str, count: int, *, is_sure: bool) -> None:
    """Ask before something is done to more than one; without anybody to ask, --yes must have been said."""
    if count < 2 or is_sure:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Say --yes; there is nobody to ask.")
    click.confirm(f"{question} Go on?", abort=True, err=True)
