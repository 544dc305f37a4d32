"""Facts held against events: counted, found, and recorded by the one door.

`integration.fact` has every fact that has a name, as the event that it is. A fact and its event commit together, so in
one snapshot a fact without an event is missing, and never merely late.

Balances are overwritten and have no names. What there is now is held against the customer's last event, and what is
missing is named by what it comes after: `17-after-533` follows event number 533, whoever records it, and however often.

A balance that is recorded here must not overtake what accounting records at this moment: read before a sale and
recorded after it, it would be the last word. So whoever has recorded balances waits, its transaction still open, until
everybody who was recording then has ended (`recorders`), and looks whether the balances are still the same
(`changed_count`). Who came later, drew later numbers. No sale waits for that: no row of ours is one that it would
write. One of us at a time: two would wait for each other.

Locks: the advisory lock of `record_balances`, then the primary key entries of the events, in the order of the facts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, TextClause, exc, text

from outbox_worker.errors import SchemaMismatch, Unrecordable

BALANCE = "bonus_balance"
_BEYOND = ("-infinity", "infinity")
_UNRECORDABLE = ("22", "23", "P0")  # classes of SQLSTATE that blame the data: a bad value, a constraint, raised by code


@dataclass(frozen=True, slots=True)
class Window:
    """From `since` on, and before `until`."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class KindCount:
    """How many facts of a kind there are, and how many of them have an event."""

    kind: str
    fact_count: int
    known_count: int


@dataclass(frozen=True, slots=True)
class MissingFact:
    """A fact without an event. It does not say when it occurred where its capture failed, and it was not looked at."""

    kind: str
    source_id: str
    occurred_at: datetime | None = None

    @property
    def event_id(self) -> str:
        """The id that its event will have."""
        return f"{self.kind}:{self.source_id}"


@dataclass(frozen=True, slots=True)
class MissingBalance:
    """A balance that is not what the customer's last event says; `sequence` is that event's, 0 if there is none."""

    customer_id: str
    sequence: int

    kind = BALANCE

    @property
    def source_id(self) -> str:
        """What the change is called: a customer's event is followed by one balance that was missed, not by two."""
        return f"{self.customer_id}-after-{self.sequence}"


@dataclass(frozen=True, slots=True)
class RecordedBalance:
    """A balance as it was recorded, unless that was known."""

    customer_id: str
    balance: str | None
    is_new: bool


_PRESENT = text("""
select to_regclass('integration.fact') is not null and to_regclass('integration.bonus_balance_event') is not null
""")

_COUNT = text("""
select fact.kind, count(*), count(event.event_id)
from integration.fact fact
left join outbox.event event on event.event_id = (fact.kind || ':' || fact.source_id) collate "C"
where fact.occurred_at >= :since and fact.occurred_at < :until
group by fact.kind
order by fact.kind
""")

# Numbers as text are in order when the shorter ones come first, and other ids are in some order too.
_MISSING = text("""
select fact.kind, fact.source_id, fact.occurred_at
from integration.fact fact
where fact.occurred_at >= :since and fact.occurred_at < :until
  and (fact.occurred_at, length(fact.source_id), fact.source_id, fact.kind)
    > (:since, length(:source_id), :source_id, :kind)
  and not exists (
      select from outbox.event event where event.event_id = (fact.kind || ':' || fact.source_id) collate "C")
order by fact.occurred_at, length(fact.source_id), fact.source_id, fact.kind
limit :count_max
""")

_FAILED = text("""
select failure.kind, failure.source_id
from outbox.capture_failure failure
where failure.repaired_at is null and failure.source_id is not null and failure.kind <> 'bonus_balance'
  and not exists (
      select from outbox.event event where event.event_id = (failure.kind || ':' || failure.source_id) collate "C")
group by failure.kind, failure.source_id
order by min(failure.capture_failure_id)
""")

# The payload is made here, in the transaction that records it. The order is that of the deliveries.
_RECORD = text("""
select fact.event_id,
       outbox.record_event(fact.kind, fact.source_id, fact.customer_id, fact.payload, fact.occurred_at,
                           fact.occurred_at < clock_timestamp() - cast(:live_within as interval)) as is_new
from (
    select fact.*, fact.kind || ':' || fact.source_id as event_id
    from integration.fact fact
    where fact.kind || ':' || fact.source_id = any (:event_ids)
      and fact.occurred_at between cast(:first as timestamptz) and cast(:last as timestamptz)
    order by fact.occurred_at, length(fact.source_id), fact.source_id, fact.kind
) fact
""")

# What an account was is asked of the events since the window began, which the block range index has at hand. Where they
# do not say the same, or say nothing, it is a suspect; of that, all events are asked.
_SUSPECTS = text("""
with last as materialized (
    select distinct on (event.customer_id) event.customer_id, event.payload ->> 'balance' as balance
    from outbox.event event
    where event.kind = 'bonus_balance' and event.recorded_at >= :since - interval '1 hour'
    order by event.customer_id, event.sequence desc
)
select count(*),
       array_agg(balance.customer_id order by balance.customer_id)
           filter (where last.balance is distinct from balance.balance)
from (
    select balance.customer_id::text as customer_id, balance.payload ->> 'balance' as balance
    from integration.bonus_balance_event balance
    where balance.occurred_at >= :since and balance.occurred_at < :until or balance.occurred_at is null
) balance
left join last on last.customer_id = balance.customer_id
""")

# The range of ids is that of the kind, by the primary key. A balance that nobody was ever told, and that is nothing, is
# not missing; a number is nothing when it has no digit from 1 to 9.
_MISSING_BALANCES = text("""
with last as materialized (
    select distinct on (event.customer_id) event.customer_id, event.sequence, event.payload ->> 'balance' as balance
    from outbox.event event
    where event.event_id >= 'bonus_balance:' and event.event_id < 'bonus_balance;'
      and event.customer_id = any (:customer_ids)
    order by event.customer_id, event.sequence desc
)
select balance.customer_id, coalesce(last.sequence, 0)
from (
    select balance.customer_id::text as customer_id, balance.payload ->> 'balance' as balance
    from integration.bonus_balance_event balance
    where balance.customer_id::text = any (:customer_ids)
) balance
left join last on last.customer_id = balance.customer_id
where case when last.sequence is null then balance.balance ~ '[1-9]'
           else last.balance is distinct from balance.balance end
order by balance.customer_id
""")

# The doorbell's key and two.
_ALONE = text("select pg_advisory_xact_lock(122550254464890)")

# What was recorded since it was found missing was said by accounting itself.
_RECORD_BALANCES = text("""
with said as materialized (
    select event.customer_id, max(event.sequence) as sequence
    from outbox.event event
    where event.kind = 'bonus_balance' and event.recorded_at >= statement_timestamp() - interval '1 hour'
      and event.customer_id = any (:customer_ids)
    group by event.customer_id
)
select missing.customer_id, missing.balance,
       outbox.record_event(missing.kind, missing.source_id, missing.customer_id, missing.payload, missing.occurred_at,
                           missing.occurred_at < clock_timestamp() - cast(:live_within as interval)) as is_new
from (
    select balance.kind, missing.customer_id, missing.source_id, balance.payload,
           balance.payload ->> 'balance' as balance, coalesce(balance.occurred_at, clock_timestamp()) as occurred_at
    from unnest(cast(:customer_ids as text[]), cast(:sequences as bigint[]), cast(:source_ids as text[]))
        missing (customer_id, sequence, source_id)
    join integration.bonus_balance_event balance on balance.customer_id::text = missing.customer_id
    left join said on said.customer_id = missing.customer_id
    where said.sequence is null or said.sequence <= missing.sequence
    order by balance.occurred_at, missing.customer_id
) missing
""")

_RECORDERS = text("""
select coalesce(lock.virtualtransaction, '')
from pg_locks lock
where lock.locktype = 'relation' and lock.relation = 'outbox.event'::regclass and lock.mode = 'RowExclusiveLock'
  and lock.database = (select oid from pg_database where datname = current_database())
  and lock.granted and lock.pid is distinct from pg_backend_pid()
""")

_CHANGED = text("""
select count(*)
from unnest(cast(:customer_ids as text[]), cast(:balances as text[])) recorded (customer_id, balance)
join integration.bonus_balance_event balance on balance.customer_id::text = recorded.customer_id
where balance.payload ->> 'balance' is distinct from recorded.balance
""")

_REPAIR = text("""
update outbox.capture_failure failure set repaired_at = clock_timestamp()
where failure.repaired_at is null and exists (
    select from outbox.event event where event.event_id = (failure.kind || ':' || failure.source_id) collate "C")
returning failure.kind
""")

# A change of a balance that was not captured is made up for when the balance is right.
_REPAIR_BALANCES = text("""
update outbox.capture_failure failure set repaired_at = clock_timestamp()
where failure.repaired_at is null and failure.kind = 'bonus_balance' and failure.failed_at < :before
returning failure.kind
""")


def now(connection: Connection) -> datetime:
    """Return the time to begin at. Raises SchemaMismatch where the mapping does not say what a fact is."""
    if not connection.scalar(_PRESENT):
        raise SchemaMismatch(
            "schema integration lacks view fact or bonus_balance_event: there is nothing to hold events against. Give "
            "your mapping the views that sql/accounting/reference_mapping.sql has; `outbox-worker doctor` names them."
        )
    return clock(connection)


def clock(connection: Connection) -> datetime:
    """Return the database's time."""
    found: datetime = connection.scalar(text("select clock_timestamp()")) or datetime.min  # noqa: DTZ901  # never None
    return found


def count(connection: Connection, window: Window) -> list[KindCount]:
    """Count the facts that occurred in the window, and those of them that have an event."""
    rows = connection.execute(_COUNT, {"since": window.since, "until": window.until})
    return [KindCount(*row) for row in rows]


def missing(connection: Connection, window: Window, after: MissingFact | None, count_max: int) -> list[MissingFact]:
    """Return facts of the window without an event, in the order in which they occurred, from `after` on."""
    parameters = {
        "since": after.occurred_at if after else window.since,
        "until": window.until,
        "source_id": after.source_id if after else "",
        "kind": after.kind if after else "",
        "count_max": count_max,
    }
    return [MissingFact(*row) for row in connection.execute(_MISSING, parameters)]


def failed(connection: Connection) -> list[MissingFact]:
    """Return the facts whose capture failed and that have no event, whenever they occurred."""
    return [MissingFact(*row) for row in connection.execute(_FAILED)]


def record(connection: Connection, facts: Sequence[MissingFact], live_within: timedelta) -> dict[str, bool]:
    """Record facts, and return for each event id whether it was new; a fact that is gone is not returned.

    Older ones than `live_within` are recorded as history: no webhook then starts today's campaign for them.
    Raises Unrecordable, and then the transaction can only be rolled back.
    """
    instants = [fact.occurred_at for fact in facts if fact.occurred_at is not None]
    first, last = (min(instants), max(instants)) if len(instants) == len(facts) else _BEYOND
    event_ids = [fact.event_id for fact in facts]
    span = {"first": str(first), "last": str(last)}
    parameters = {"event_ids": event_ids, "live_within": live_within, **span}
    return {row.event_id: row.is_new for row in _recorded(connection, _RECORD, parameters)}


def suspects(connection: Connection, window: Window) -> tuple[int, list[str]]:
    """Count the accounts whose balance changed in the window, and return the customers where events may be missing.

    A mapping that does not know when a balance changed (null) has them all compared.
    """
    compared_count, found = connection.execute(_SUSPECTS, {"since": window.since, "until": window.until}).one()
    return compared_count, found or []


def missing_balances(connection: Connection, customer_ids: Sequence[str]) -> list[MissingBalance]:
    """Return those of the customers whose balance is not what the last event about it says."""
    rows = connection.execute(_MISSING_BALANCES, {"customer_ids": list(customer_ids)})
    return [MissingBalance(*row) for row in rows]


def record_balances(
    connection: Connection, balances: Sequence[MissingBalance], live_within: timedelta
) -> list[RecordedBalance]:
    """Record balances as they are now, but for those recorded meanwhile. Raises Unrecordable as `record` does.

    Before the transaction is committed, wait until none of the `recorders` is left, and see that `changed_count` is 0.
    """
    connection.execute(_ALONE)
    parameters = {
        "customer_ids": [it.customer_id for it in balances],
        "sequences": [it.sequence for it in balances],
        "source_ids": [it.source_id for it in balances],
        "live_within": live_within,
    }
    rows = _recorded(connection, _RECORD_BALANCES, parameters)
    return [RecordedBalance(row.customer_id, row.balance, row.is_new) for row in rows]


def recorders(connection: Connection) -> set[str]:
    """Name the other transactions that have recorded something and have not ended."""
    return set(connection.scalars(_RECORDERS))


def changed_count(connection: Connection, recorded: Sequence[RecordedBalance]) -> int:
    """Count the customers whose balance is not any more what was recorded."""
    customer_ids, balances = [it.customer_id for it in recorded], [it.balance for it in recorded]
    return connection.scalar(_CHANGED, {"customer_ids": customer_ids, "balances": balances}) or 0


def open_balance_failures_since(connection: Connection) -> datetime | None:
    """Return when the first capture of a balance failed that is not made up for."""
    found: datetime | None = connection.scalar(
        text("select min(failed_at) from outbox.capture_failure where repaired_at is null and kind = 'bonus_balance'")
    )
    return found


def repair(connection: Connection) -> list[str]:
    """Note of every capture that failed, and whose fact has its event now, that it is repaired; return the kinds."""
    return list(connection.scalars(_REPAIR))


def repair_balances(connection: Connection, before: datetime) -> list[str]:
    """Note the same of balances, once all that had changed before an instant were compared and are right."""
    return list(connection.scalars(_REPAIR_BALANCES, {"before": before}))


def _recorded(connection: Connection, statement: TextClause, parameters: Mapping[str, Any]) -> Sequence[Row[Any]]:
    try:
        return connection.execute(statement, parameters).all()
    except exc.DBAPIError as error:
        sqlstate = getattr(error.orig, "sqlstate", None) or ""
        if not sqlstate.startswith(_UNRECORDABLE):
            raise
        words = str(error.orig).partition("\n")[0]
        raise Unrecordable(f"{words} ({sqlstate})") from None
