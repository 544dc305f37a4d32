"""Deliveries that are not done: found for a person to look at, and taken to be changed.

A person's act and a relay meet at the delivery's row, and the one that comes second must see what the first has done.
`take` locks the row first, skipping what others hold, and looks for a claim in a second statement, which sees all that
was committed before it. What can come between:

    the relay is claiming it       its row lock is held until the claim commits: skipped, "being sent at this moment"
    the relay has claimed it       after we looked, before our lock: the lock is free again, and the row is unchanged,
                                   for a claim only locks it; the second statement sees the claim. In one statement
                                   with the lock, the look for a claim would be as old as that statement
    the relay is concluding it     it holds the row: skipped. Afterwards the state is another one: "changed"
    the relay comes after our lock CLAIM skips the row. After our commit it sees the row as we left it, or finds it gone
    another person has it          skipped, then "changed"

Nothing here waits for a lock on such a row, so nobody who waits for us can be waited for by us. A relay that wants to
conclude a delivery that we have locked and found claimed waits for the few milliseconds that our transaction lasts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, CompoundSelect, Connection, Select, and_, func, select, true, tuple_

from outbox_worker.database import tables

STATES = ("pending", "in_doubt", "held", "waiting", "dead")


@dataclass(frozen=True, slots=True)
class Delivery:
    """A duty that lasts. `claimed_at` is set while it is being sent or looked up."""

    lane: int
    delivery_id: int
    event_id: str
    operation: str
    destination: str
    state: str
    due_at: datetime
    attempt_count: int
    reason: str | None
    customer_id: str | None
    recorded_at: datetime
    claimed_at: datetime | None

    @property
    def key(self) -> tuple[int, int]:
        """The primary key."""
        return self.lane, self.delivery_id


@dataclass(frozen=True, slots=True)
class Selection:
    """Which deliveries are meant: those that all of this is true of. Nothing but the states: all in these states.

    `older_than` is about when the event was recorded.
    """

    states: tuple[str, ...] = STATES
    event_ids: tuple[str, ...] = ()
    operation: str | None = None
    destination: str | None = None
    customer_id: str | None = None
    older_than: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of taking deliveries: ours until the transaction ends, or being sent now, or not as they were."""

    ours: list[Delivery]
    busy: list[Delivery]
    changed: list[Delivery]


def find(connection: Connection, selection: Selection, count_max: int | None = None) -> list[Delivery]:
    """Return deliveries in order of their ids. Its cost grows with what waits, not with what has been delivered."""
    query = described().where(*_conditions(selection)).order_by(tables.delivery.c.delivery_id).limit(count_max)
    return find_by(connection, query)


def count(connection: Connection, selection: Selection) -> int:
    """Return how many there are."""
    query = described().where(*_conditions(selection)).subquery()
    return connection.scalar(select(func.count()).select_from(query)) or 0


def take(connection: Connection, chosen: Sequence[Delivery], states: Collection[str]) -> Taken:
    """Lock those of the chosen deliveries that are in one of the states and not being sent.

    The order of the statements is the point: see above.
    """
    delivery = tables.delivery.c
    is_chosen = tuple_(delivery.lane, delivery.delivery_id).in_([it.key for it in chosen])
    lock = select(delivery.lane, delivery.delivery_id).where(is_chosen, delivery.state.in_(states))
    locked = {(lane, number) for lane, number in connection.execute(lock.with_for_update(skip_locked=True))}
    now = {it.key: it for it in find_by(connection, described().where(is_chosen))}
    taken = Taken([], [], [])
    for before in chosen:
        after = now.get(before.key)
        if after is None or after.state not in states:
            taken.changed.append(before)
        elif after.key in locked and after.claimed_at is None:
            taken.ours.append(after)
        else:
            taken.busy.append(after)
    return taken


def find_by(connection: Connection, query: Select[Any]) -> list[Delivery]:
    """Return what a query that began as `described` brings."""
    return [Delivery(*row) for row in connection.execute(query)]


def described() -> Select[Any]:
    """Begin a query for deliveries with all that a person wants to know of them."""
    delivery, event, claim = tables.delivery, tables.event, tables.claim
    is_claimed = and_(claim.c.lane == delivery.c.lane, claim.c.delivery_id == delivery.c.delivery_id)
    return select(
        delivery.c.lane,
        delivery.c.delivery_id,
        delivery.c.event_id,
        delivery.c.operation,
        delivery.c.destination,
        delivery.c.state,
        delivery.c.due_at,
        delivery.c.attempt_count,
        delivery.c.reason,
        event.c.customer_id,
        event.c.recorded_at,
        claim.c.claimed_at,
    ).select_from(delivery.join(event, event.c.event_id == delivery.c.event_id).outerjoin(claim, is_claimed))


def lanes_of_events(event_ids: Sequence[str]) -> CompoundSelect[Any]:
    """Select the lanes in which deliveries of these events can be: deliveries have no index of their events."""
    event, addressee = tables.event.alias("named_event"), tables.addressee.alias("named_addressee")
    customers = select(event.c.customer_id).where(event.c.event_id.in_(event_ids)).subquery()
    of_customers = select(tables.lane_of(tables.destination.c.destination, customers.c.customer_id)).join_from(
        customers, tables.destination, true()
    )
    return of_customers.union(select(addressee.c.lane).where(addressee.c.event_id.in_(event_ids)))


def lanes_of_customer(customer_id: str) -> Select[Any]:
    """Select the lanes of a customer, at all destinations."""
    return select(tables.lane_of(tables.destination.c.destination, customer_id))


def _conditions(selection: Selection) -> Iterator[ColumnElement[bool]]:
    delivery, event = tables.delivery.c, tables.event.c
    yield delivery.state.in_(selection.states)
    if selection.event_ids:
        yield delivery.lane.in_(lanes_of_events(selection.event_ids))
        yield delivery.event_id.in_(selection.event_ids)
    if selection.operation is not None:
        yield delivery.operation == selection.operation
    if selection.destination is not None:
        yield delivery.destination == selection.destination
    if selection.customer_id is not None:
        yield delivery.lane.in_(lanes_of_customer(selection.customer_id))
        yield event.customer_id == selection.customer_id
    if selection.older_than is not None:
        yield event.recorded_at < func.clock_timestamp() - selection.older_than
