"""Events and what became of them: the fact, each attempt, each look-up, each verdict, people's acts.

A delivery's row is gone once its duty is done, so what became of an operation is read from three places: the row, the
journal of attempts (its receipt is the one that acknowledged), and the journal of acts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Text, cast, func, literal, or_, select

from outbox_worker.database import acts, deliveries, tables
from outbox_worker.database.acts import Act, Deed, Instruction
from outbox_worker.database.deliveries import STATES, Delivery, Selection

# Looked through one after the other until there are enough events, so that the newest of a busy day cost little.
WINDOWS = (timedelta(hours=1), timedelta(days=1), timedelta(days=7), timedelta(days=31))
ENDS = {
    "confirm": "delivered",
    "discard": "discarded",
    "expire": "expired",
}  # acts after which there is no delivery any more
DUPLICATES_MAX = 20


@dataclass(frozen=True, slots=True)
class Event:
    """A fact as it was recorded; the payload is JSON text with the scale of every number."""

    event_id: str
    sequence: int
    kind: str
    source_id: str
    customer_id: str | None
    occurred_at: datetime
    recorded_at: datetime
    historic: bool
    payload: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """A row of the journal. `digest` is in hexadecimal digits."""

    event_id: str
    operation: str
    number: int
    purpose: str
    worker: str
    begun_at: datetime
    took_us: int | None
    outcome: str
    evidence: str | None
    status: int | None
    verdict: str
    reason: str | None
    digest: str | None
    excerpt: str | None


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A recording that was refused because the fact was known."""

    refused_at: datetime
    historic: bool | None
    recorder: str


@dataclass(frozen=True, slots=True)
class CaptureFailure:
    """A fact that could not be recorded when it happened."""

    failed_at: datetime
    message: str
    repaired_at: datetime | None


@dataclass(frozen=True, slots=True)
class Route:
    """An operation that events of a kind have."""

    operation: str
    destination: str
    historic: bool
    enabled: bool


@dataclass(slots=True)
class Fate:
    """What became of one operation of an event.

    `state` is that of the delivery while there is one; then `delivered`, `discarded` or `expired`, since `settled_at`;
    `unknown` where neither a duty nor a receipt is left.
    """

    operation: str
    destination: str | None
    delivery: Delivery | None = None
    attempts: list[Attempt] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)

    @property
    def state(self) -> str:
        if self.delivery is not None:
            return self.delivery.state
        if self.receipt is not None:
            return "delivered"
        return ENDS[self.end.act] if self.end is not None else "unknown"

    @property
    def receipt(self) -> Attempt | None:
        """The attempt that InBoost acknowledged."""
        return next((it for it in self.attempts if it.verdict == "acknowledge"), None)

    @property
    def end(self) -> Act | None:
        """The act by which the duty was ended without an answer."""
        return next((it for it in self.acts if it.act in ENDS), None)

    @property
    def settled_at(self) -> datetime | None:
        if self.delivery is not None:
            return None
        if self.receipt is not None:
            return self.receipt.begun_at + timedelta(microseconds=self.receipt.took_us or 0)
        return self.end.acted_at if self.end is not None else None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events: those recorded from `since` on (None: ever), and before `until`, of which all of this is true.

    `state` is that of one of the deliveries, of the given operation where there is one, or `delivered`, `discarded`.
    """

    since: datetime | None = None
    until: datetime | None = None
    kind: str | None = None
    customer_id: str | None = None
    operation: str | None = None
    state: str | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """What a person records by hand."""

    kind: str
    source_id: str
    customer_id: str | None
    payload: str
    occurred_at: datetime
    historic: bool

    @property
    def event_id(self) -> str:
        """The id that the event will have."""
        return f"{self.kind}:{self.source_id}"


def find(connection: Connection, event_id: str) -> Event | None:
    """Return one event."""
    return next(_events(connection, _described().where(tables.event.c.event_id == event_id)), None)


def fates(connection: Connection, found: Sequence[Event], *, receipts_only: bool = False) -> dict[str, list[Fate]]:
    """Return what became of each event, operation by operation; `receipts_only` leaves the other attempts unread."""
    event_ids = [event.event_id for event in found]
    told = _Fates(connection, event_ids)
    if event_ids:
        for delivery in deliveries.find(connection, Selection(event_ids=tuple(event_ids))):
            told.of(delivery.event_id, delivery.operation, delivery.destination).delivery = delivery
    for attempt in _attempts(connection, event_ids, receipts_only=receipts_only):
        told.of(attempt.event_id, attempt.operation).attempts.append(attempt)
    for act in acts.of_events(connection, event_ids):
        if act.event_id is not None and act.operation is not None:
            told.of(act.event_id, act.operation, act.destination).acts.append(act)
    return {event_id: sorted(of_event, key=lambda fate: fate.operation) for event_id, of_event in told.by_event.items()}


def newest(connection: Connection, wanted: Wanted, count_max: int) -> list[Event]:
    """Return the newest events that are wanted.

    Those with something still to be done are found from what waits, others by the block range index on when they were
    recorded, in windows that grow backwards to `since`.
    """
    until = wanted.until or datetime.now(UTC)
    for since in (until - window for window in WINDOWS if wanted.state not in STATES):
        if wanted.since is not None and since <= wanted.since:
            break
        if len(found := _newest_since(connection, wanted, since, count_max)) == count_max:
            return found
    return _newest_since(connection, wanted, wanted.since, count_max)


def duplicates(connection: Connection, event: Event) -> list[Duplicate]:
    """Return the latest recordings that were refused, the last one first."""
    it = tables.duplicate.c
    query = select(it.refused_at, it.historic, it.recorder).where(
        it.event_id == event.event_id, it.refused_at >= event.recorded_at
    )
    rows = connection.execute(query.order_by(it.refused_at.desc()).limit(DUPLICATES_MAX))
    return [Duplicate(*row) for row in rows]


def capture_failure(connection: Connection, kind: str, source_id: str) -> CaptureFailure | None:
    """Return the last failure to capture a fact."""
    it = tables.capture_failure.c
    query = select(it.failed_at, it.message, it.repaired_at).where(it.kind == kind, it.source_id == source_id)
    row = connection.execute(query.order_by(it.failed_at.desc()).limit(1)).first()
    return None if row is None else CaptureFailure(*row)


def kinds(connection: Connection) -> list[str]:
    """Return the kinds of events that there are."""
    return list(connection.scalars(select(tables.route.c.kind).distinct().order_by(tables.route.c.kind)))


def routes(connection: Connection, kind: str | None = None) -> list[Route]:
    """Return the operations of a kind, or of all."""
    it = tables.route.c
    query = select(it.operation, it.destination, it.historic, it.enabled).order_by(it.operation)
    return [Route(*row) for row in connection.execute(query if kind is None else query.where(it.kind == kind))]


def record(connection: Connection, fact: Fact, instruction: Instruction) -> bool:
    """Put a fact in by the one door; return whether it is new. A known one is noted as a duplicate, and not sent."""
    is_new = connection.scalar(
        select(
            func.outbox.record_event(
                fact.kind,
                fact.source_id,
                cast(literal(fact.customer_id, Text), Text),
                cast(literal(fact.payload, Text), tables.JsonText),
                fact.occurred_at,
                fact.historic,
            )
        )
    )
    detail = '{"is_new": true}' if is_new else '{"is_new": false}'
    acts.record(connection, instruction, [Deed("record", event_id=fact.event_id, detail=detail)])
    return bool(is_new)


def _described() -> Select[Any]:
    it = tables.event.c
    return select(
        it.event_id,
        it.sequence,
        it.kind,
        it.source_id,
        it.customer_id,
        it.occurred_at,
        it.recorded_at,
        it.historic,
        cast(it.payload, Text),
    )


def _events(connection: Connection, query: Select[Any]) -> Iterator[Event]:
    return (Event(*row) for row in connection.execute(query))


def _newest_since(connection: Connection, wanted: Wanted, since: datetime | None, count_max: int) -> list[Event]:
    it = tables.event.c
    query = _described().where(*_conditions(wanted))
    if since is not None:
        query = query.where(it.recorded_at >= since)
    return list(_events(connection, query.order_by(it.recorded_at.desc(), it.sequence.desc()).limit(count_max)))


def _conditions(wanted: Wanted) -> Iterator[ColumnElement[bool]]:
    it = tables.event.c
    if wanted.until is not None:
        yield it.recorded_at < wanted.until
    if wanted.kind is not None:
        yield it.kind == wanted.kind
    if wanted.customer_id is not None:
        yield it.customer_id == wanted.customer_id
    if wanted.state in STATES:
        yield it.event_id.in_(_waiting_ids(wanted))
    elif wanted.state is not None:
        yield _has_ended(wanted.state, wanted.operation)
    elif wanted.operation is not None:
        yield it.kind.in_(select(tables.route.c.kind).where(tables.route.c.operation == wanted.operation))


def _waiting_ids(wanted: Wanted) -> Select[Any]:
    delivery = tables.delivery.c
    query = select(delivery.event_id).where(delivery.state == wanted.state)
    if wanted.operation is not None:
        query = query.where(delivery.operation == wanted.operation)
    if wanted.customer_id is not None:
        query = query.where(delivery.lane.in_(deliveries.lanes_of_customer(wanted.customer_id)))
    return query


def _has_ended(state: str, operation: str | None) -> ColumnElement[bool]:
    event, act, attempt = tables.event.c, tables.act.c, tables.attempt.c
    ends = [name for name, of_state in ENDS.items() if of_state == state]
    by_person = select(act.act_id).where(act.event_id == event.event_id, act.act.in_(ends))
    by_answer = select(attempt.number).where(attempt.event_id == event.event_id, attempt.verdict == "acknowledge")
    if operation is not None:
        by_person, by_answer = (
            by_person.where(act.operation == operation),
            by_answer.where(attempt.operation == operation),
        )
    return or_(by_person.exists(), by_answer.exists()) if state == "delivered" else by_person.exists()


def _attempts(connection: Connection, event_ids: Sequence[str], *, receipts_only: bool) -> Iterator[Attempt]:
    it = tables.attempt.c
    query = select(
        it.event_id,
        it.operation,
        it.number,
        it.purpose,
        cast(it.worker, Text),
        it.begun_at,
        it.took_us,
        it.outcome,
        it.evidence,
        it.status,
        it.verdict,
        it.reason,
        func.encode(it.digest, "hex"),
        it.excerpt,
    ).where(it.event_id.in_(event_ids))
    if receipts_only:
        query = query.where(it.verdict == "acknowledge")
    return (Attempt(*row) for row in connection.execute(query.order_by(it.event_id, it.operation, it.number)))


class _Fates:
    """Fates in the making, by event."""

    def __init__(self, connection: Connection, event_ids: Sequence[str]) -> None:
        self.by_event: dict[str, list[Fate]] = {event_id: [] for event_id in event_ids}
        self._destinations = {route.operation: route.destination for route in routes(connection)}

    def of(self, event_id: str, operation: str, destination: str | None = None) -> Fate:
        """Return the fate of one operation of an event."""
        told = self.by_event[event_id]
        found = next((it for it in told if it.operation == operation), None)
        if found is None:
            found = Fate(operation, destination or self._destinations.get(operation))
            told.append(found)
        return found
