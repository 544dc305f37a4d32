"""What a link owes: the customer's purchases of the last months, the balance, the deliveries that wait for the client.

    record_history ──▶ record_balances ──▶ release        each in a transaction of its own, each noted in the link

In this order, so that the balance stands behind the history in its lane; what waits there is older than both, and goes
first. Interrupted anywhere, what is not noted is done again: a purchase that is known is no event again, a balance is
named by the link that it is for, and to release what is released is nothing.

A balance that is read before a sale and recorded after it would be the last word. So, as in `reconciliation`, who
records balances waits until everybody who was recording then has ended, and looks whether the balances are still the
same; if not, the transaction is rolled back and the next run tries again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import groupby
from typing import Any

import msgspec
from sqlalchemy import Connection, TextClause, exc, text, tuple_

from outbox_worker.database import acts, lanes, tables
from outbox_worker.database.acts import Deed, Instruction
from outbox_worker.database.deliveries import Delivery, described, find_by
from outbox_worker.database.lanes import Lane
from outbox_worker.database.mapping_keys import MappingKeys
from outbox_worker.errors import OutboxWorkerError, Unrecordable

SET_BALANCE = "set_bonus_balance"  # a balance that is late is still the balance, and never expires
_UNRECORDABLE = ("22", "23", "P0", "55P03")  # the last: somebody else has been recording the same for seconds
_RELEASED = Instruction("outbox-worker", "InBoost knows the client now")
_EXPIRED = Instruction("outbox-worker", "waited for its client until it was older than the window of history")

_WINDOW_START = text("""
select (date_trunc('day', clock_timestamp() at time zone :zone) - make_interval(months => :months)) at time zone :zone
""")
_UNSETTLED = text("""
select customer_id
from outbox.client
where (history_sent_at is null or balance_sent_at is null or released_at is null) and customer_id > :after
order by customer_id
limit :count_max
""")
# A request that left before the client was there may be answered after the link was made, so each run looks again.
_STILL_WAITING = text("""
update outbox.client client set released_at = null
where client.released_at is not null and client.customer_id in (
    select event.customer_id from outbox.delivery delivery join outbox.event event using (event_id)
    where delivery.state = 'waiting')
""")
_HISTORY = """
select outbox.record_event(purchase.kind, purchase.source_id, purchase.customer_id, purchase.payload,
                           purchase.occurred_at, true)
from (
    select purchase.kind, purchase.source_id::text as source_id, purchase.customer_id::text as customer_id,
           purchase.payload, purchase.occurred_at
    from outbox.client client
    cross join lateral (
        select * from integration.purchase_event it where it.customer_id = cast(client.customer_id as {purchase})
    ) purchase
    where client.customer_id = any (:customer_ids) and client.history_sent_at is null
      and purchase.occurred_at >= :since
      and not exists (
          select from outbox.event event
          where event.event_id = (purchase.kind || ':' || purchase.source_id::text) collate "C")
    order by purchase.occurred_at, length(purchase.source_id::text), purchase.source_id::text
) purchase
"""
_HISTORY_SENT = text("""
update outbox.client set history_sent_at = clock_timestamp()
where customer_id = any (:customer_ids) and history_sent_at is null
""")
# The doorbell's key and two: the one by which reconciliation records balances alone.
_ALONE = text("select pg_try_advisory_xact_lock(122550254464890)")
_BALANCES = """
select balance.customer_id, balance.balance,
       outbox.record_event('bonus_balance', balance.source_id, balance.customer_id, balance.payload,
                           balance.occurred_at, true)
from (
    select client.customer_id, balance.payload, balance.payload ->> 'balance' as balance,
           client.customer_id || '-linked-' || cast(extract(epoch from client.linked_at) * 1000000 as bigint)
               as source_id,
           coalesce(balance.occurred_at, clock_timestamp()) as occurred_at
    from outbox.client client
    cross join lateral (
        select * from integration.bonus_balance_event it where it.customer_id = cast(client.customer_id as {balance})
    ) balance
    where client.customer_id = any (:customer_ids) and client.balance_sent_at is null
    order by client.customer_id
) balance
"""
_CHANGED = """
select count(*)
from unnest(cast(:customer_ids as text[]), cast(:balances as text[])) recorded (customer_id, balance)
cross join lateral (
    select * from integration.bonus_balance_event it where it.customer_id = cast(recorded.customer_id as {balance})
) balance
where balance.payload ->> 'balance' is distinct from recorded.balance
"""
_BALANCE_SENT = text("""
update outbox.client set balance_sent_at = clock_timestamp()
where customer_id = any (:customer_ids) and balance_sent_at is null
""")
_WAITING_LANES = text("""
select distinct delivery.lane
from unnest(cast(:customer_ids as text[])) given (customer_id)
cross join outbox.destination destination
join outbox.delivery delivery on delivery.lane = outbox.lane_of(destination.destination, given.customer_id)
where delivery.state = 'waiting'
""")
_RELEASED_NOW = text("""
update outbox.client set released_at = clock_timestamp()
where customer_id = any (:customer_ids) and released_at is null
""")


class OthersRecord(OutboxWorkerError):
    """Balances cannot be recorded now, whosever they are; the next run tries again."""


@dataclass(frozen=True, slots=True)
class RecordedBalances:
    """Balances as they were recorded, and how many of them were new."""

    customer_ids: list[str]
    balances: list[str | None]
    new_count: int


def window_start(connection: Connection, zone: str, months: int) -> datetime:
    """Return when the window of history began: a midnight in the shop's time zone."""
    found: datetime = connection.execute(_WINDOW_START, {"zone": zone, "months": months}).scalar_one()
    return found


def look_for_waiting(connection: Connection) -> None:
    """Have the links settled again whose customers have deliveries that wait for their client."""
    connection.execute(_STILL_WAITING)


def unsettled(connection: Connection, after: str, count_max: int) -> list[str]:
    """Return customers whose links owe something, in order of their ids."""
    return list(connection.scalars(_UNSETTLED, {"after": after, "count_max": count_max}))


def record_history(connection: Connection, keys: MappingKeys, customer_ids: Sequence[str], since: datetime) -> int:
    """Record the purchases since then that have no event, and return how many they were.

    Raises Unrecordable, and then the transaction can only be rolled back.
    """
    given = {"customer_ids": list(customer_ids), "since": since}
    recorded = _recorded(connection, _for_keys(_HISTORY, keys), given)
    connection.execute(_HISTORY_SENT, given)
    return sum(row[0] for row in recorded)


def record_balances(connection: Connection, keys: MappingKeys, customer_ids: Sequence[str]) -> RecordedBalances:
    """Record balances as they are. Raises Unrecordable as `record_history` does, and OthersRecord beside another one.

    Before the transaction is committed, wait until none of the `recorders` is left, and see that `changed_count` is 0.
    """
    if not connection.scalar(_ALONE):
        raise OthersRecord("a reconciliation is recording balances")
    given = {"customer_ids": list(customer_ids)}
    rows = _recorded(connection, _for_keys(_BALANCES, keys), given)
    connection.execute(_BALANCE_SENT, given)
    return RecordedBalances([row[0] for row in rows], [row[1] for row in rows], sum(row[2] for row in rows))


def changed_count(connection: Connection, keys: MappingKeys, recorded: RecordedBalances) -> int:
    """Count the balances that are not any more what was recorded."""
    given = {"customer_ids": recorded.customer_ids, "balances": recorded.balances}
    return connection.scalar(_for_keys(_CHANGED, keys), given) or 0


def release(
    connection: Connection, customer_ids: Sequence[str], since: datetime, blocking: Collection[str]
) -> tuple[int, int]:
    """Let the deliveries go on that wait for these clients; return how many, and how many were closed as expired.

    Those of facts older than `since` are closed: nobody wants a campaign, or a purchase, of then. Both are acts.
    """
    numbers = set(connection.scalars(_WAITING_LANES, {"customer_ids": list(customer_ids)}))
    expired, released = 0, list[Lane]()
    if numbers:
        lanes.hold_waiting(connection, numbers)
        expired = _expire(connection, numbers, since)
        heads = [next(group) for _, group in groupby(_waiting(connection, numbers), key=lambda it: it.lane)]
        if heads:
            released = lanes.release(connection, [Lane(head, 0) for head in heads], _RELEASED, blocking)
    connection.execute(_RELEASED_NOW, {"customer_ids": list(customer_ids)})
    return sum(1 + lane.behind_count for lane in released), expired


def _waiting(connection: Connection, numbers: Collection[int]) -> list[Delivery]:
    delivery = tables.delivery.c
    is_waiting = described().where(delivery.lane.in_(numbers), delivery.state == "waiting")
    return find_by(connection, is_waiting.order_by(delivery.lane, delivery.delivery_id))


def _expire(connection: Connection, numbers: Collection[int], since: datetime) -> int:
    delivery = tables.delivery
    is_old = described().where(
        delivery.c.lane.in_(numbers),
        delivery.c.state == "waiting",
        delivery.c.operation != SET_BALANCE,
        tables.event.c.occurred_at < since,
    )
    expired = find_by(connection, is_old)
    if expired:
        is_expired = tuple_(delivery.c.lane, delivery.c.delivery_id).in_([it.key for it in expired])
        connection.execute(delivery.delete().where(is_expired))
        acts.record(connection, _EXPIRED, map(_deed, expired))
    return len(expired)


def _deed(delivery: Delivery) -> Deed:
    before = {"state": delivery.state, "reason": delivery.reason, "attempt_count": delivery.attempt_count}
    detail = msgspec.json.encode(before).decode()
    return Deed("expire", delivery.event_id, delivery.operation, delivery.destination, detail)


def _recorded(connection: Connection, statement: TextClause, given: dict[str, Any]) -> Sequence[Any]:
    try:
        return connection.execute(statement, given).all()
    except exc.DBAPIError as error:
        sqlstate = getattr(error.orig, "sqlstate", None) or ""
        if not sqlstate.startswith(_UNRECORDABLE):
            raise
        raise Unrecordable(f"{str(error.orig).partition(chr(10))[0]} ({sqlstate})") from None


@lru_cache
def _for_keys(statement: str, keys: MappingKeys) -> TextClause:
    return text(statement.format(purchase=keys.purchase, balance=keys.balance))
