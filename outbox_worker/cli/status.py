"""`outbox-worker status`: what waits, and why."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from outbox_worker import configuration
from outbox_worker.cli import output
from outbox_worker.cli.options import configuration_option
from outbox_worker.database import backlog, retention
from outbox_worker.database.engine import session
from outbox_worker.database.retention import TableSize
from outbox_worker.database.rounds import RoundState

STATES = ("pending", "in_doubt", "held", "waiting", "dead")


@click.command()
@configuration_option
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def status(configuration_file: Path | None, as_json: bool) -> None:
    """Tell the backlog, its lag, and what is in doubt, held, dead, waiting or paused.

    pending: to be sent. in_doubt: sent, perhaps acted upon; will be looked up. held: in doubt, and a person must say.
    waiting: InBoost does not know the client, or the client has no usable phone. dead: refused by InBoost.
    """
    settings = configuration.load(configuration_file, to_deliver=False)
    found = backlog.StatusReader(settings.database.conninfo, "outbox-worker status")()
    with session(settings.database.conninfo, "outbox-worker status") as connection:
        sizes = retention.sizes(connection)
    if as_json:
        click.echo(msgspec.json.encode(_as_data(found, sizes)).decode())
    else:
        _show(found)
        _show_upkeep(found.rounds, sizes)


def _as_data(found: backlog.Status, sizes: list[TableSize]) -> dict[str, Any]:
    return {
        "read_at": found.read_at,
        "lag_s": found.lag_s,
        "claimed_count": found.claimed_count,
        "worker_count": found.worker_count,
        "capture_failure_count": found.capture_failure_count,
        **{f"{state}_count": found.count(state) for state in STATES},
        "waiting": [asdict(row) for row in found.waiting],
        "destinations": [asdict(row) for row in found.destinations],
        "rounds": [_of_round(row) for row in found.rounds],
        "tables": [asdict(row) for row in sizes],
    }


def _of_round(row: RoundState) -> dict[str, Any]:
    return {"round": row.round, "age_s": row.fresh_s, "try_count": row.try_count, "paused_at": row.paused_at}


def _show(found: backlog.Status) -> None:
    console = Console()
    table = Table("destination", "state", *(f"{state}" for state in STATES), box=None, header_style="bold")
    for destination in found.destinations:
        counts = [
            sum(
                row.delivery_count
                for row in found.waiting
                if row.destination == destination.destination and row.state == state
            )
            for state in STATES
        ]
        table.add_row(destination.destination, _state_of(destination, found.read_at), *map(str, counts))
    console.print(table)
    console.print(f"\nlag                {found.lag_s:.1f} s: how long the oldest delivery waits that is due")
    console.print(f"in flight          {found.claimed_count} requests of {found.worker_count} workers")
    console.print(f"capture failures   {found.capture_failure_count} facts could not be recorded when they happened")


def _state_of(destination: backlog.DestinationStatus, now: datetime) -> str:
    if destination.paused_at is not None:
        return f"paused since {destination.paused_at:%Y-%m-%d %H:%M:%S}: {destination.pause_reason}"
    if destination.rest_until is not None and destination.rest_until > now:
        return f"resting for {(destination.rest_until - now).total_seconds():.0f} s"
    return f"failing ({destination.failure_count} in a row)" if destination.failure_count else "open"


def _show_upkeep(rounds: list[RoundState], sizes: list[TableSize]) -> None:
    """Tell how fresh the rounds are, and how much the outbox takes."""
    fresh = [f"{it.round} {_freshness(it)}" for it in rounds if it.fresh_s is not None]
    output.show(f"rounds             {', '.join(fresh) or 'none is switched on'}")
    largest = [f"{it.table} {_size(it.size_bytes)}" for it in sizes[:3]]
    output.show(f"on disk            {_size(sum(it.size_bytes for it in sizes))}, most of it {', '.join(largest)}")


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
