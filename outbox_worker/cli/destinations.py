"""`outbox-worker destinations`: where deliveries go, and whether anything may go there now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from outbox_worker import configuration
from outbox_worker.cli import authorship, options, output
from outbox_worker.configuration import Configuration
from outbox_worker.database import destinations as database
from outbox_worker.database.acts import Instruction
from outbox_worker.database.destinations import Destination
from outbox_worker.database.engine import session
from outbox_worker.errors import NothingMatched

LIST_EPILOG = """\b
--json gives {"destinations": [...]}, of each: destination, paused_at,
pause_reason, failure_count (in a row), rest_until, rate_max (requests a
second), waiting_count.
"""

EPILOG = """\b
Exit status: 0 done; 1 nothing to do, for it is so already; 2 usage.

\b
--json gives one object: act, dry_run, destinations: of each destination,
outcome (done, unchanged; with --dry-run would_be_done, unchanged).
"""

Change = Callable[..., bool]

changing_options = options.together(
    click.argument("names", metavar="[NAME]...", nargs=-1),
    options.configuration_option,
    click.option("--all", "everything", is_flag=True, help="All destinations."),
    options.reason_option,
    options.actor_option,
    options.dry_run_option,
    options.yes_option,
    options.json_option,
)


@click.group()
def destinations() -> None:
    """List destinations: the API and each hook; pause one, or resume it."""


@destinations.command(name="list", epilog=LIST_EPILOG)
@options.configuration_option
@options.json_option
def list_(configuration_file: Path | None, as_json: bool) -> None:
    """List destinations with what waits for each."""
    found = _read(configuration.load(configuration_file, to_deliver=False))
    if as_json:
        output.emit({"destinations": [asdict(it) for it in found]})
        return
    rows = ([it.destination, f"{it.waiting_count:,}", _state_of(it) + _rate_of(it)] for it in found)
    output.show_table(["destination", "waiting", "state"], rows)


@destinations.command(epilog=EPILOG)
@changing_options
def pause(**words: Any) -> None:
    """Have nothing more sent to a destination until it is resumed. What is on its way is not stopped.

    Events are recorded as ever, and wait.
    """
    _change("pause", "paused", database.pause, lambda it: it.paused_at is None, **words)


@destinations.command(epilog=EPILOG)
@changing_options
def resume(**words: Any) -> None:
    """Have everything go to a destination again, at once: its pause, its failures and its rest are forgotten."""
    _change("resume", "resumed", database.resume, lambda it: not it.is_open, **words)


def _change(
    act: str,
    done: str,
    change: Change,
    is_due: Callable[[Destination], bool],
    *,
    names: tuple[str, ...],
    configuration_file: Path | None,
    everything: bool,
    reason: str | None,
    actor: str | None,
    dry_run: bool,
    is_sure: bool,
    as_json: bool,
) -> None:
    by = authorship.instruction(actor, reason, dry_run=dry_run)
    if bool(names) == everything:
        raise click.UsageError("Name destinations, or say --all.")
    settings = configuration.load(configuration_file, to_deliver=False)
    meant = _meant(_read(settings), names)
    due = [it.destination for it in meant if is_due(it)]
    if not dry_run:
        options.confirm_many(f"{act.capitalize()} {', '.join(due)}?", len(due), is_sure=is_sure or bool(names))
        due = [name for name in due if _is_done(settings, act, change, name, by)]
    outcome = "would_be_done" if dry_run else "done"
    outcomes = {it.destination: outcome if it.destination in due else "unchanged" for it in meant}
    if as_json:
        rows = [{"destination": name, "outcome": it} for name, it in outcomes.items()]
        output.emit({"act": act, "dry_run": dry_run, "destinations": rows})
    else:
        _show_outcomes(outcomes, done)
    if not due:
        raise NothingMatched(f"there was nothing to {act}")


def _show_outcomes(outcomes: Mapping[str, str], done: str) -> None:
    said = {"done": f"is {done}", "would_be_done": f"would be {done}", "unchanged": f"need not be {done}"}
    for name, outcome in outcomes.items():
        output.show(f"{name} {said[outcome]}")


def _read(settings: Configuration) -> list[Destination]:
    with session(settings.database.conninfo, "outbox-worker destinations") as connection:
        return database.read(connection)


def _meant(found: list[Destination], names: tuple[str, ...]) -> list[Destination]:
    known = {it.destination: it for it in found}
    if unknown := [name for name in names if name not in known]:
        raise click.UsageError(f"no destination is called {', '.join(unknown)}; there are {', '.join(known)}.")
    return [known[name] for name in names] if names else found


def _is_done(settings: Configuration, act: str, change: Change, name: str, by: Instruction) -> bool:
    with session(settings.database.conninfo, f"outbox-worker destinations {act}") as connection:
        return change(connection, name, by)


def _state_of(destination: Destination) -> str:
    if destination.paused_at is not None:
        return f"paused since {output.when(destination.paused_at)}: {destination.pause_reason}"
    if destination.rest_until is not None:
        return f"resting until {output.when(destination.rest_until)}"
    return f"failing, {destination.failure_count} in a row" if destination.failure_count else "open"


def _rate_of(destination: Destination) -> str:
    return "" if destination.rate_max is None else f"; {destination.rate_max:g} a second at most"
