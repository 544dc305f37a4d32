"""What people do about deliveries in doubt and dead letters: find them, ask, settle them, tell what came of it.

filters ──find──▶ deliveries ──ask──▶ settle, some hundreds in each transaction ──▶ report, exit status
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import click

from outbox_worker import configuration
from outbox_worker.cli import advice, authorship, options, output
from outbox_worker.cli.listing import FILTER_OPTIONS, Filters
from outbox_worker.cli.report import Report
from outbox_worker.configuration import Configuration
from outbox_worker.database import deliveries, destinations, settling
from outbox_worker.database.acts import Instruction
from outbox_worker.database.deliveries import Delivery
from outbox_worker.database.engine import session
from outbox_worker.database.settling import Settled, Settlement

BATCH = 500  # deliveries settled in one transaction: it holds their locks for some milliseconds

EPILOG = """\b
Exit status: 0 all was done; 1 nothing matched, or not all that were named;
2 usage; 3 some were being sent at this moment and were left alone (the rest
was done: give the command again); 69 no database; 78 configuration or schema.

\b
--json gives one object: act, dry_run, released_count (deliveries that waited
behind and go on), not_found (of the events that were named), deliveries: of
each event_id, operation, destination, customer_id, state (before), outcome
(done, being_sent, changed; with --dry-run would_be_done, being_sent).
"""

settling_options = options.together(
    click.argument("event_ids", metavar="[EVENT]...", nargs=-1),
    options.configuration_option,
    *FILTER_OPTIONS,
    click.option("--all", "everything", is_flag=True, help="All of them."),
    options.reason_option,
    options.actor_option,
    options.dry_run_option,
    options.yes_option,
    options.json_option,
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a settling command was told beside its filters."""

    configuration_file: Path | None
    everything: bool
    actor: str | None
    reason: str | None
    dry_run: bool
    is_sure: bool
    as_json: bool


def settle(settlement: Settlement, states: tuple[str, ...], words: dict[str, Any]) -> None:
    """Settle what the command's words mean; `states` are those that are meant where no event is named.

    Raises NothingMatched, or BeingSent when something was left alone, after all else was done.
    """
    filters, asked = Filters.taken_from(words), Asked(**words)
    by = authorship.instruction(asked.actor, asked.reason, dry_run=asked.dry_run)
    if filters.says_nothing and not asked.everything:
        raise click.UsageError("Name events, say what is meant by filters, or say --all.")
    settings = configuration.load(asked.configuration_file, to_deliver=False)
    selection = filters.selection(settings, settlement.states if filters.event_ids else states)
    with session(settings.database.conninfo, f"outbox-worker {settlement.act}") as connection:
        found = deliveries.find(connection, selection)
    report = Report(settlement.act, asked.dry_run)
    report.not_found = sorted(set(selection.event_ids) - {it.event_id for it in found})
    if asked.dry_run:
        report.outcomes = [(it, "would_be_done" if it.claimed_at is None else "being_sent") for it in found]
    else:
        _confirm(settlement, found, is_sure=asked.is_sure)
        for settled in _settled(settings, settlement, found, by):
            report.add(settled)
    _tell(report, settings, settlement, as_json=asked.as_json)


def _confirm(settlement: Settlement, found: Sequence[Delivery], *, is_sure: bool) -> None:
    question = f"{settlement.act.capitalize()} {output.counted(len(found), 'delivery', 'deliveries')}?"
    options.confirm_many(question, len(found), is_sure=is_sure)


def _settled(
    settings: Configuration, settlement: Settlement, found: Sequence[Delivery], by: Instruction
) -> Iterator[Settled]:
    rest = iter(found)
    while batch := list(islice(rest, BATCH)):
        with session(settings.database.conninfo, f"outbox-worker {settlement.act}") as connection:
            settled = settling.settle(connection, settlement, batch, by, settings.relay.blocking_states)
        yield settled


def _tell(report: Report, settings: Configuration, settlement: Settlement, *, as_json: bool) -> None:
    if as_json:
        output.emit(report.as_data())
    else:
        report.show()
        if settlement.sends and not report.dry_run:
            _show_pauses(settings, {it.destination for it in report.of("done")})
    report.raise_for_status()


def _show_pauses(settings: Configuration, names: set[str]) -> None:
    with session(settings.database.conninfo, "outbox-worker destinations") as connection:
        paused = [it for it in destinations.read(connection) if it.paused_at is not None and it.destination in names]
    for it in paused:
        output.show(f"{it.destination} is paused ({it.pause_reason}); nothing leaves before:")
        output.show_command(f"{advice.command('destinations', 'resume', it.destination)} {advice.WHY}", indent=2)
