"""`outbox-worker status`: what waits, and why."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from outbox_worker import configuration
from outbox_worker.cli import output
from outbox_worker.cli.options import configuration_option
from outbox_worker.database import backlog, schema, table_sizes
from outbox_worker.database.connecting import look
from outbox_worker.database.round_states import RoundState
from outbox_worker.database.table_sizes import TableSize
from outbox_worker.errors import DatabaseUnavailable

Reading = tuple[backlog.Status, list[TableSize]]

STATES = ("pending", "in_doubt", "held", "waiting", "dead")


@click.command()
@configuration_option
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.option("--watch", "-w", is_flag=True, help="Show it anew until Ctrl-C.")
@click.option("--every", "every_s", default=2.0, type=click.FloatRange(0.5, 3600), help="Seconds; for --watch [2].")
def status(configuration_file: Path | None, as_json: bool, watch: bool, every_s: float) -> None:
    """Tell the backlog, its lag, and what is in doubt, held, dead, waiting or paused.

    pending: to be sent. in_doubt: sent, perhaps acted upon; will be looked up. held: in doubt, and a person must say.
    waiting: InBoost does not know the client, or the client has no usable phone. dead: refused by InBoost.
    """
    settings = configuration.load(configuration_file, to_deliver=False)
    if watch and as_json:
        raise click.UsageError("--watch is for people, --json for scripts; say one of them.")
    read = partial(_read, settings.database.conninfo)
    if watch:
        _watch(read, every_s)
    elif as_json:
        click.echo(msgspec.json.encode(_as_data(*read())).decode())
    else:
        Console(highlight=False).print(_screen(*read()))


def _read(conninfo: str) -> Reading:
    found = backlog.StatusReader(conninfo, "outbox-worker status")()
    with look(conninfo, "outbox-worker status") as connection:
        schema.require_version(connection)
        return found, table_sizes.read(connection)


def _watch(read: Callable[[], Reading], every_s: float) -> None:
    """Show it anew until Ctrl-C; a database that is away for a while is said, and waited for."""
    console = Console(highlight=False)
    with suppress(KeyboardInterrupt), Live(_screen_now(read), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(every_s)
            live.update(_screen_now(read), refresh=True)


def _screen_now(read: Callable[[], Reading]) -> RenderableType:
    try:
        found, sizes = read()
    except DatabaseUnavailable as error:
        return Text(f"{datetime.now():%H:%M:%S}  {error}")  # noqa: DTZ005  # the reader's own clock
    return Group(Text(f"{found.read_at.astimezone():%H:%M:%S}\n"), _screen(found, sizes))


def _as_data(found: backlog.Status, sizes: list[TableSize]) -> dict[str, Any]:
    return {
        "read_at": found.read_at,
        "lag_s": found.lag_s,
        "claimed_count": found.claimed_count,
        "worker_count": found.worker_count,
        "capture_failure_count": found.capture_failure_count,
        "unidentified_s": found.unidentified_s,
        "without_phone_count": found.without_phone_count,
        **{f"{state}_count": found.count(state) for state in STATES},
        "estimated_count": found.estimated_count,
        "waiting": [asdict(row) for row in found.waiting],
        "destinations": [asdict(row) for row in found.destinations],
        "rounds": [_of_round(row) for row in found.rounds],
        "tables": [asdict(row) for row in sizes],
    }


def _of_round(row: RoundState) -> dict[str, Any]:
    return {"round": row.round, "age_s": row.fresh_s, "try_count": row.try_count, "paused_at": row.paused_at}


def _screen(found: backlog.Status, sizes: list[TableSize]) -> RenderableType:
    table = Table("destination", "state", *(f"{state}" for state in STATES), box=None, header_style="bold")
    for destination in found.destinations:
        name = destination.destination
        counts = [f"{found.count(it, name)}{'+' * found.is_at_least(it, name)}" for it in STATES]
        table.add_row(name, _state_of(destination, found.read_at), *counts)
    lines = [
        f"lag                {found.lag_s:.1f} s: how long the oldest delivery waits that is due",
        f"in flight          {found.claimed_count} requests of {found.worker_count} workers",
        f"capture failures   {found.capture_failure_count} facts could not be recorded when they happened",
        *_of_orders(found),
        *_upkeep(found.rounds, sizes),
    ]
    if found.is_capped:
        lines.insert(1, f"in all             about {found.estimated_count} deliveries; a count with + is not of all")
    return Group(table, "", *map(Text, lines))


def _state_of(destination: backlog.DestinationStatus, now: datetime) -> str:
    if destination.paused_at is not None:
        return f"paused since {destination.paused_at:%Y-%m-%d %H:%M:%S}: {destination.pause_reason}"
    if destination.rest_until is not None and destination.rest_until > now:
        return f"resting for {(destination.rest_until - now).total_seconds():.0f} s"
    return f"failing ({destination.failure_count} in a row)" if destination.failure_count else "open"


def _of_orders(found: backlog.Status) -> list[str]:
    """Tell of orders with contact data, where any of them waits."""
    lines = []
    if found.unidentified_s:
        waits = output.lasting(found.unidentified_s)
        lines.append(f"to be identified   orders, the oldest for {waits}; workers with [rounds] do it")
    if count := found.without_phone_count:
        lines.append(f"without a phone    {count} deliveries wait until their buyer has one")
    return lines


def _upkeep(rounds: list[RoundState], sizes: list[TableSize]) -> list[str]:
    """Tell how fresh the rounds are, and how much the outbox takes."""
    fresh = [f"{it.round} {_freshness(it)}" for it in rounds if it.fresh_s is not None]
    largest = [f"{it.table} {_size(it.size_bytes)}" for it in sizes[:3]]
    return [
        f"rounds             {', '.join(fresh) or 'none is switched on'}",
        f"on disk            {_size(sum(it.size_bytes for it in sizes))}, most of it {', '.join(largest)}",
    ]


def _freshness(state: RoundState) -> str:
    age = f"{output.lasting(state.fresh_s or 0.0)} ago" if state.succeeded_at else "not yet"
    tried = f", tried {state.try_count} times since" if state.try_count else ""
    return f"{age}{tried}{' (paused)' if state.paused_at else ''}"


def _size(size_bytes: float) -> str:
    for unit in ("kB", "MB", "GB"):
        size_bytes /= 1024
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}"
    return f"{size_bytes / 1024:.1f} TB"
