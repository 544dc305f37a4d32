"""`outbox-worker events`: what was recorded, and what became of it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

import click

from outbox_worker import configuration
from outbox_worker.cli import authorship, options, output, telling
from outbox_worker.cli.masking import Screen
from outbox_worker.cli.preview import Preview, preview
from outbox_worker.configuration import Configuration
from outbox_worker.database import events as recorded
from outbox_worker.database.deliveries import STATES as WAITING
from outbox_worker.database.engine import session
from outbox_worker.database.events import ENDS, Event, Fact, Fate, Wanted
from outbox_worker.errors import NothingMatched, Unsendable
from outbox_worker.inboost import body

LOOK_BACK = timedelta(days=31)

SHOW_EPILOG = """\b
Exit status: 0, or 1 if there is no such event.

\b
--json gives one object:
  event       event_id, sequence, kind, source_id, customer_id, occurred_at,
              recorded_at, historic, payload
  operations  of each: operation, destination, state (pending, in_doubt, held,
              waiting, dead, delivered, discarded, expired, unknown), settled_at, due_at,
              claimed_at (while it is being sent), reason,
              addressee (where the event has contact data): identified_at,
                contact_id, phone, chosen_as, chosen_at
              attempts: number, purpose, worker, begun_at, took_us, outcome,
                evidence, status, verdict, reason, digest, excerpt, is_same_body
                (whether the body was the one that would be sent now)
              request: method, address, body, digest; or unsendable, waits
              advice: sentence, commands
  acts        acted_at, act, event_id, operation, destination, actor, recorder,
              reason, detail
  duplicates  refused_at, historic, recorder: the latest 20
"""

LIST_EPILOG = """\b
Exit status: 0, or 1 if there is none.

\b
--json gives {"events": [...]}, of each: event_id, kind, source_id, customer_id,
occurred_at, recorded_at, historic, and operations: operation, destination,
state, settled_at.

\b
What waits is found at once however old it is. The rest is looked through by
the time of recording, from --until backwards to --since.
"""

RECORD_EPILOG = """\b
Exit status: 0 if it was recorded, 1 if it is known (it is noted as a duplicate,
and nothing is sent), 65 if no request can be made of it.

\b
The payload is the JSON object that the mapping would have recorded: see the
capture functions in sql/accounting/reference_mapping.sql.
--json gives event_id, is_new (null with --dry-run), requests: of each operation
method, address, body, digest; or unsendable, waits.
"""


@click.group()
def events() -> None:
    """Show what was recorded and what became of it; put a fact in by hand."""


@events.command(epilog=SHOW_EPILOG)
@telling.showing_options
def show(**words: Any) -> None:
    """Tell the whole story of EVENT, as purchase:1234: did it reach InBoost, when, and if not why not.

    With each attempt and what was answered, look-ups, people's acts, and what may safely be done next.
    """
    telling.show_parts((), **words)


@events.command(name="list", epilog=LIST_EPILOG)
@options.configuration_option
@click.option("--kind", metavar="NAME", help="Only this kind, as purchase.")
@options.customer_option
@options.operation_option
@click.option(
    "--state", type=click.Choice([*WAITING, *ENDS.values()]), help="Only where an operation is in this state."
)
@click.option("--since", type=options.instant, metavar="INSTANT", help="Recorded then or later [default: 31d].")
@click.option("--until", type=options.instant, metavar="INSTANT", help="Recorded before then.")
@options.limit_option
@options.json_option
def list_(
    configuration_file: Path | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    as_json: bool,
    **filters: str | None,
) -> None:
    """List events, the newest first, with the state of each operation.

    INSTANT is in ISO 8601, or so long ago: 15m, 2h, 7d.
    """
    settings = configuration.load(configuration_file, to_deliver=False)
    if since is None and filters["state"] not in WAITING:
        since = (until or datetime.now(UTC)) - LOOK_BACK
    wanted = Wanted(since, until, **filters)
    with session(settings.database.conninfo, "outbox-worker events list") as connection:
        found = recorded.newest(connection, wanted, limit)
        fates = recorded.fates(connection, found, receipts_only=True)
    if as_json:
        output.emit({"events": [_as_data(event, fates[event.event_id]) for event in found]})
    if not found:
        raise NothingMatched("no event matches" + (f" that was recorded since {output.when(since)}" if since else ""))
    if not as_json:
        rows = (_row(event, fates[event.event_id]) for event in found)
        output.show_table(["recorded", "event", "customer", "operations"], rows)


def _as_data(event: Event, fates: list[Fate]) -> dict[str, Any]:
    data = {name: value for name, value in asdict(event).items() if name not in ("sequence", "payload")}
    of_each = [
        {"operation": it.operation, "destination": it.destination, "state": it.state, "settled_at": it.settled_at}
        for it in fates
    ]
    return data | {"operations": of_each}


def _row(event: Event, fates: list[Fate]) -> list[str]:
    states = ", ".join(f"{it.operation} {it.state.replace('_', ' ')}" for it in fates)
    return [output.when(event.recorded_at), event.event_id, event.customer_id or "", states]


@events.command(epilog=RECORD_EPILOG)
@click.argument("kind")
@click.argument("source_id")
@options.configuration_option
@click.option("--customer", "customer_id", metavar="ID", help="Whose it is, by accounting's id.")
@click.option("--payload", type=click.File(encoding="utf-8"), required=True, metavar="FILE", help="A file, or - .")
@click.option("--occurred-at", type=options.instant, metavar="INSTANT", help="When it happened [default: now].")
@click.option("--historic", is_flag=True, help="It is history: only what takes history, no webhooks.")
@options.reveal_option
@options.reason_option
@options.actor_option
@options.dry_run_option
@options.json_option
def record(
    kind: str,
    source_id: str,
    configuration_file: Path | None,
    customer_id: str | None,
    payload: TextIO,
    occurred_at: datetime | None,
    historic: bool,
    reveal: bool,
    reason: str | None,
    actor: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Record the fact KIND SOURCE_ID by hand, by the door that the triggers use: it is sent as if they had.

    The request of each operation is made first, and shown; if that fails, nothing is recorded.
    """
    by = authorship.instruction(actor, reason, dry_run=dry_run)
    settings = configuration.load(configuration_file, to_deliver=False)
    fact = Fact(kind, source_id, customer_id, payload.read(), occurred_at or datetime.now(UTC), historic)
    previews = _previews(settings, fact)
    is_new = None
    if not dry_run:
        with session(settings.database.conninfo, "outbox-worker events record") as connection:
            is_new = recorded.record(connection, fact, by)
    screen = Screen(reveals=reveal)
    if as_json:
        requests = {it.operation: it.as_data(screen) for it in previews}
        output.emit({"event_id": fact.event_id, "is_new": is_new, "requests": requests})
    else:
        _show_recorded(fact, previews, screen, is_new=is_new)
    if is_new is False:
        raise NothingMatched(f"{fact.event_id} is known, so nothing was changed; `events show` tells its story")


def _previews(settings: Configuration, fact: Fact) -> list[Preview]:
    """Render the fact for every operation that it will have. Raises Unsendable if that cannot be sent, ever."""
    try:
        body.read(fact.payload)  # also of a fact that has no operation
    except Unsendable as error:
        raise Unsendable(f"{fact.event_id} was not recorded: {error}") from None
    with session(settings.database.conninfo, "outbox-worker events record") as connection:
        routes = recorded.routes(connection, fact.kind)
        if not routes:
            raise click.UsageError(f"no kind is called {fact.kind}; there are {', '.join(recorded.kinds(connection))}.")
    previews = [
        preview(
            settings.profile(),
            route.operation,
            route.destination,
            event_id=fact.event_id,
            payload=fact.payload,
            occurred_at=fact.occurred_at,
            recorded_at=datetime.now(UTC),
        )
        for route in routes
        if route.enabled and (route.historic or not fact.historic)
    ]
    for it in previews:
        if it.unsendable is not None and not it.waits:
            raise Unsendable(
                f"{fact.event_id} was not recorded, for {it.operation} could not be made of it: {it.unsendable}"
            )
    return previews


def _show_recorded(fact: Fact, previews: list[Preview], screen: Screen, *, is_new: bool | None) -> None:
    said = {True: "is recorded", False: "was known", None: "would be recorded"}[is_new]
    output.show(f"{fact.event_id} {said}, for {output.counted(len(previews), 'operation')}.")
    for it in previews:
        output.show(f"{it.operation}{', when the client has a phone' if it.waits else ''}:")
        if it.request is not None:
            output.show(it.line(screen), indent=2)
        output.show(it.body(screen), indent=4)
