"""`outbox-worker reconcile`: what accounting says against the events, and what the events say against InBoost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from outbox_worker import configuration, logs
from outbox_worker.cli import options, output
from outbox_worker.configuration import Configuration
from outbox_worker.database.engine import session
from outbox_worker.database.reconciliation import Window
from outbox_worker.inboost.client import Client
from outbox_worker.records import Outcome
from outbox_worker.runtime.comparison import Compared, Comparison, Finding, Pace
from outbox_worker.runtime.reconciliation import Reconciled, Terms
from outbox_worker.runtime.reconciliation import reconcile as record_missing

SHOWN = 20  # facts named one by one on the screen

EPILOG = """\b
Exit status: 0 if nothing was missing. 1 if something was, and was recorded (with --dry-run: is), or
could not be, or is lost at InBoost. 69: the database or InBoost cannot be reached.

\b
Run it after a restore, a bulk load, or whenever `outbox-worker doctor` finds a trigger that was off:
  outbox-worker reconcile --dry-run
  outbox-worker reconcile --since 2026-03-01 --all-balances

\b
--json gives one object: since, until, is_whole, kinds (of each: fact_count, known_count,
recorded_count, repaired_count, refused_count), refused, inboost (null, or asked_count, found_count,
lost, doubts, unanswered).
"""


@click.command(epilog=EPILOG)
@options.configuration_option
@click.option(
    "--since", type=options.instant, default="3d", show_default=True, metavar="WHEN", help="Facts from then on."
)
@click.option("--until", type=options.instant, metavar="WHEN", help="Facts before then [default: now].")
@click.option(
    "--live-within",
    type=options.duration,
    default="24h",
    show_default=True,
    metavar="DURATION",
    help="Older facts become history: they go to InBoost's API and start no webhook.",
)
@click.option("--all-balances", is_flag=True, help="Compare every account, not only those changed in the window.")
@options.dry_run_option
@click.option("--against-inboost", is_flag=True, help="Ask InBoost too whether it has what was delivered.")
@click.option(
    "--rate", default=20.0, show_default=True, type=click.FloatRange(0.1, 1000), help="Questions to InBoost per second."
)
@options.json_option
@click.pass_context
def reconcile(
    context: click.Context,
    configuration_file: Path | None,
    since: datetime,
    until: datetime | None,
    live_within: timedelta,
    all_balances: bool,
    dry_run: bool,
    against_inboost: bool,
    rate: float,
    as_json: bool,
) -> None:
    """Record what accounting has and no event says: after a disabled trigger, a restore, a bulk load.

    Safe at any time, and beside the worker: what is known is left alone. WHEN is an instant, or how long ago it was.
    With --against-inboost, InBoost is asked for each purchase that it took in that window, and for what is in doubt;
    of that nothing is changed, only told.
    """
    if until is not None and until <= since:
        raise click.UsageError("--until is not after --since.")
    settings = configuration.load(configuration_file, to_deliver=against_inboost)
    conninfo = settings.database.conninfo
    with session(conninfo, "outbox-worker reconcile"):
        pass  # refuses a schema that is not ours before anything else is tried
    terms = Terms(live_within=live_within, all_balances=all_balances, dry_run=dry_run)
    found = record_missing(conninfo, since=since, until=until, terms=terms)
    compared = _compare(settings, found.window, rate) if against_inboost else None
    if as_json:
        output.emit(_as_data(found, compared))
    else:
        _show(found, compared, dry_run=dry_run)
    context.exit(0 if found.is_whole and not (compared and compared.lost) else 1)


def _compare(settings: Configuration, window: Window, rate: float) -> Compared:
    inboost = settings.inboost
    client = Client(
        connect_timeout=inboost.connect_timeout, request_timeout=inboost.request_timeout, ca_file=inboost.ca_file
    )
    with client, _progress() as (begin, advance):
        comparison = Comparison(settings.database.conninfo, settings.profile(), client, Pace(rate), advance)
        begin(comparison.count(window))
        return comparison.run(window)


@contextmanager
def _progress() -> Iterator[tuple[Callable[[int], None], Callable[[], None]]]:
    """Show a bar on a terminal; yields what begins it with a total, and what moves it on."""
    console = Console(stderr=True)
    columns = (TextColumn("asking InBoost"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("asking InBoost")
        yield lambda total: progress.update(task, total=total), lambda: progress.advance(task)


# For people


def _show(found: Reconciled, compared: Compared | None, *, dry_run: bool) -> None:
    window = found.window
    output.show(f"Facts from {output.when(window.since)} to {output.when(window.until)}")
    output.blank()
    headings = ["kind", "facts", "known", "missing" if dry_run else "recorded", "repaired"]
    output.show_table(headings, _rows(found, dry_run=dry_run))
    output.blank()
    output.show(_sentence(found, dry_run=dry_run))
    for refused in found.refused[:SHOWN]:
        output.show(f"not recorded: {refused.kind} {refused.source_id}: {logs.clean(refused.reason)}", indent=2)
    _show_rest(len(found.refused))
    if compared is not None:
        output.blank()
        _show_compared(compared)


def _rows(found: Reconciled, *, dry_run: bool) -> Iterator[list[str]]:
    for kind, it in sorted(found.counts.items()):
        change = it.fact_count - it.known_count if dry_run else it.recorded_count
        yield [kind, *(f"{number:,}" for number in (it.fact_count, it.known_count, change, it.repaired_count))]


def _sentence(found: Reconciled, *, dry_run: bool) -> str:
    if found.is_whole:
        return "Nothing is missing."
    refused = len(found.refused)
    if dry_run:
        missing = sum(it.fact_count - it.known_count for it in found.counts.values())
        return f"Missing: {missing:,} in the window, {refused:,} whose capture failed. Nothing was recorded."
    recorded = sum(it.recorded_count for it in found.counts.values())
    return f"Missing before, recorded now: {recorded:,}." + (f" Could not be recorded: {refused:,}." if refused else "")


def _show_compared(compared: Compared) -> None:
    output.show(
        f"InBoost was asked for {output.counted(compared.asked_count, 'delivery', 'deliveries')}: "
        f"{compared.found_count:,} delivered and there, {len(compared.lost):,} lost, "
        f"{len(compared.doubts):,} in doubt, {len(compared.unanswered):,} without an answer."
    )
    there = [it for it in compared.doubts if it.outcome is Outcome.FOUND]
    absent = [it for it in compared.doubts if it.outcome is not Outcome.FOUND]
    _show_findings("Delivered, and InBoost does not have it. Ask InBoost's side why:", compared.lost)
    _show_findings("In doubt, and InBoost has it:", there, "outbox-worker in-doubt confirm EVENT --reason …")
    _show_findings("In doubt, and InBoost does not have it:", absent, "outbox-worker in-doubt resend EVENT --reason …")
    _show_findings("Without an answer:", compared.unanswered)


def _show_findings(heading: str, findings: Sequence[Finding], command: str = "") -> None:
    if not findings:
        return
    output.blank()
    output.show(heading)
    for it in findings[:SHOWN]:
        reason = f": {logs.clean(it.reason)}" if it.reason else ""
        state = f"{output.spoken(it.entry.state)} since {output.when(it.entry.since)}"
        output.show(f"{it.entry.event_id} {it.entry.operation}, {state}{reason}", indent=2)
    _show_rest(len(findings))
    if command:
        output.show_command(command, indent=2)


def _show_rest(count: int) -> None:
    if count > SHOWN:
        output.show(f"… and {count - SHOWN:,} more: --json", indent=2)


# For scripts


def _as_data(found: Reconciled, compared: Compared | None) -> dict[str, Any]:
    return {
        "since": found.window.since,
        "until": found.window.until,
        "is_whole": found.is_whole,
        "kinds": {kind: asdict(counts) for kind, counts in sorted(found.counts.items())},
        "refused": [asdict(it) | {"reason": logs.clean(it.reason)} for it in found.refused],
        "inboost": None if compared is None else _compared_as_data(compared),
    }


def _compared_as_data(compared: Compared) -> dict[str, Any]:
    return {
        "asked_count": compared.asked_count,
        "found_count": compared.found_count,
        "lost": [_finding_as_data(it) for it in compared.lost],
        "doubts": [_finding_as_data(it) for it in compared.doubts],
        "unanswered": [_finding_as_data(it) for it in compared.unanswered],
    }


def _finding_as_data(finding: Finding) -> dict[str, Any]:
    entry = finding.entry
    return {
        "event_id": entry.event_id,
        "operation": entry.operation,
        "state": entry.state,
        "since": entry.since,
        "inboost": finding.outcome,
        "reason": logs.clean(finding.reason) or None,
    }
