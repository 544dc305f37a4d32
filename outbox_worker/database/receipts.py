"""What the outbox says has reached InBoost, and what it does not know: to be held against what InBoost says.

A receipt is the attempt that was acknowledged, or a person's word for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from outbox_worker.database.reconciliation import Window

DELIVERED = "delivered"


@dataclass(frozen=True, slots=True)
class Entry:
    """One operation of an event. `state` is delivered, held or in_doubt; `since` is when it came to be so.

    `number` is what the next page goes on after.
    """

    number: int
    event_id: str
    operation: str
    destination: str
    state: str
    since: datetime
    payload: str
    occurred_at: datetime
    recorded_at: datetime


_COUNT = text("""
select (select count(*)
        from outbox.event event
        join outbox.route route on route.kind = event.kind and route.operation = any (:operations)
        where event.recorded_at >= :since and event.recorded_at < :until)
     + (select count(*)
        from outbox.delivery delivery
        where delivery.state in ('held', 'in_doubt') and delivery.operation = any (:operations))
""")

_RECEIPTS = text("""
select event.sequence, event.event_id, route.operation, route.destination, 'delivered', receipt.received_at,
       event.payload::text, event.occurred_at, event.recorded_at
from outbox.event event
join outbox.route route on route.kind = event.kind and route.operation = any (:operations)
cross join lateral (
    select attempt.begun_at as received_at
    from outbox.attempt attempt
    where attempt.event_id = event.event_id and attempt.operation = route.operation
      and attempt.verdict = 'acknowledge'
    union all
    select act.acted_at
    from outbox.act act
    where act.event_id = event.event_id and act.operation = route.operation and act.act = 'confirm'
    limit 1
) receipt
where event.recorded_at >= :since and event.recorded_at < :until and event.sequence > :after
order by event.sequence
limit :count_max
""")

_DOUBTS = text("""
select delivery.delivery_id, event.event_id, delivery.operation, delivery.destination, delivery.state, delivery.due_at,
       event.payload::text, event.occurred_at, event.recorded_at
from outbox.delivery delivery
join outbox.event event on event.event_id = delivery.event_id
where delivery.state in ('held', 'in_doubt') and delivery.operation = any (:operations)
  and delivery.delivery_id > :after
order by delivery.delivery_id
limit :count_max
""")


def count(connection: Connection, operations: Sequence[str], window: Window) -> int:
    """Count about how much `delivered` and `doubtful` return together: what has no receipt yet is counted too."""
    parameters = {"operations": list(operations), "since": window.since, "until": window.until}
    return connection.scalar(_COUNT, parameters) or 0


def delivered(
    connection: Connection, operations: Sequence[str], window: Window, after: int, count_max: int
) -> list[Entry]:
    """Return what was recorded in the window and has a receipt, in the order in which it was recorded."""
    bounds = {"since": window.since, "until": window.until}
    parameters = {"operations": list(operations), "after": after, "count_max": count_max} | bounds
    return [Entry(*row) for row in connection.execute(_RECEIPTS, parameters)]


def doubtful(connection: Connection, operations: Sequence[str], after: int, count_max: int) -> list[Entry]:
    """Return what is held or in doubt, however old."""
    parameters = {"operations": list(operations), "after": after, "count_max": count_max}
    return [Entry(*row) for row in connection.execute(_DOUBTS, parameters)]
