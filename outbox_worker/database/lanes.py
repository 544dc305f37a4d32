"""Lanes that wait: for what, and how they go on when a person has put it right.

A delivery in state `waiting` is either a *root*, whose client InBoost does not know, or a *follower*, which the relay
has made wait behind a root or, where the policy says so, behind a dead or held delivery. Releasing one too many does no
harm, for the relay looks before it claims, and makes it wait again. Releasing one too few would make it wait for ever.

Locks: the deliveries that wait, in order of lane and id, by `hold_waiting`, which looks again until it sees none that
it does not hold. What can come between:

    another person settles what else blocks a follower    both want the follower's lock. The second to have it decides
                                                          in a statement that begins afterwards, and so sees both
    the relay makes a follower (FOLLOW)                   it holds the blocker's lock, shared, until it commits, and
                                                          passes over a blocker that is locked. So it is either before
                                                          us, and we see the follower, or it makes none
    a conclusion makes followers (CONCLUDE)               of a delivery that is claimed, and so is not one of ours
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import msgspec
from sqlalchemy import CTE, ColumnElement, Connection, and_, func, null, or_, select, tuple_, update

from outbox_worker.database import acts, tables
from outbox_worker.database.acts import Deed, Instruction
from outbox_worker.database.deliveries import Delivery, described, find_by, lanes_of_customer

FOLLOWS = "behind a delivery that %"  # the reasons that the relay gives to followers begin so
SETTLED_BY_PEOPLE = frozenset({"held", "dead"})

Key = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane that waits: its first delivery that does, and how many wait behind that one."""

    head: Delivery
    behind_count: int


def stopped(
    connection: Connection,
    blocking: Collection[str],
    *,
    customer_id: str | None = None,
    destination: str | None = None,
    count_max: int | None = None,
) -> list[Lane]:
    """Return the lanes that do not go on, the one that has waited longest first.

    That is where the head has been tried and is not done, waits for a person or for its client, or for a destination
    that is paused. `blocking` are the states that hold up a lane by the configured policy. Reads what waits, and
    nothing that was delivered.
    """
    delivery = tables.delivery.c
    head = _heads(customer_id, delivery.state.in_(blocking))
    paused = select(tables.destination.c.destination).where(tables.destination.c.paused_at.is_not(None))
    is_stopped = or_(delivery.state != "pending", delivery.attempt_count > 0, delivery.destination.in_(paused))
    conditions = [is_stopped] if destination is None else [is_stopped, delivery.destination == destination]
    return _lanes(connection, head, conditions, count_max)


def awaiting_client(connection: Connection, blocking: Collection[str], customer_id: str | None = None) -> list[Lane]:
    """Return the lanes that `release` would let go on, of one customer or of all."""
    delivery, earlier = tables.delivery.c, tables.delivery.alias("earlier")
    is_blocked = select(earlier.c.lane).where(
        earlier.c.lane == delivery.lane,
        earlier.c.delivery_id < delivery.delivery_id,
        earlier.c.state.in_(SETTLED_BY_PEOPLE & set(blocking)),
    )
    head = _heads(customer_id, delivery.state == "waiting")
    return _lanes(connection, head, [~is_blocked.exists()], None)


def blocker_of(connection: Connection, delivery: Delivery, blocking: Collection[str]) -> Delivery | None:
    """Return the delivery that this one waits behind, if there is one."""
    table = tables.delivery.c
    earlier = described().where(table.lane == delivery.lane, table.delivery_id < delivery.delivery_id)
    first = earlier.where(table.state.in_(blocking)).order_by(table.delivery_id).limit(1)
    return next(iter(find_by(connection, first)), None)


def release(
    connection: Connection, lanes: Sequence[Lane], instruction: Instruction, blocking: Collection[str]
) -> list[Lane]:
    """Let lanes go on that wait for their client. The act is recorded once for each lane, with its first delivery.

    Returns those that were let go, with as many as were behind. What waits behind a dead or held delivery goes on
    waiting where the policy says so.
    """
    numbers = {lane.head.lane for lane in lanes}
    hold_waiting(connection, numbers)
    keys = [
        *_let_go(connection, numbers, tables.delivery.c.reason.not_like(FOLLOWS)),
        *_let_go(connection, numbers, tables.delivery.c.reason.like(FOLLOWS), ~_is_blocked(numbers, blocking)),
    ]
    released = _described_lanes(connection, keys)
    acts.record(connection, instruction, map(_deed, released))
    if released:
        acts.wake_relay(connection)
    return released


def release_followers(connection: Connection, numbers: Collection[int], blocking: Collection[str]) -> int:
    """Let those go on that waited behind a delivery that this transaction has settled; return how many."""
    hold_waiting(connection, numbers)
    return len(_let_go(connection, numbers, tables.delivery.c.reason.like(FOLLOWS), ~_is_blocked(numbers, blocking)))


def hold_waiting(connection: Connection, numbers: Collection[int]) -> None:
    """Lock all that waits in these lanes; look again until there is nothing that is not held."""
    delivery = tables.delivery.c
    rows = select(delivery.lane).where(_waits(numbers)).order_by(delivery.lane, delivery.delivery_id).with_for_update()
    hold = select(func.count()).select_from(rows.subquery())
    held_count = 0
    while (found_count := connection.scalar(hold) or 0) > held_count:
        held_count = found_count


def _let_go(connection: Connection, numbers: Collection[int], *conditions: ColumnElement[bool]) -> list[Key]:
    delivery = tables.delivery
    change = update(delivery).where(_waits(numbers), *conditions).values(state="pending", reason=null())
    return [(row[0], row[1]) for row in connection.execute(change.returning(delivery.c.lane, delivery.c.delivery_id))]


def _waits(numbers: Collection[int]) -> ColumnElement[bool]:
    return and_(tables.delivery.c.lane.in_(numbers), tables.delivery.c.state == "waiting")


def _is_blocked(numbers: Collection[int], blocking: Collection[str]) -> ColumnElement[bool]:
    """Say of a follower that something before it, other than a follower, still holds it up."""
    it = tables.delivery.alias("root")
    is_root = or_(
        it.c.state.in_(SETTLED_BY_PEOPLE & set(blocking)),
        and_(it.c.state == "waiting", it.c.reason.not_like(FOLLOWS)),
    )
    # The first root of each lane, found once: asked of each of many followers, it would be looked for as many times.
    first = select(it.c.lane, func.min(it.c.delivery_id).label("delivery_id")).where(it.c.lane.in_(numbers), is_root)
    roots = first.group_by(it.c.lane).cte("first_root")
    delivery = tables.delivery.c
    return (
        select(roots.c.lane).where(roots.c.lane == delivery.lane, roots.c.delivery_id < delivery.delivery_id).exists()
    )


def _heads(customer_id: str | None, condition: ColumnElement[bool]) -> CTE:
    """Select the first delivery of each lane that the condition is true of."""
    delivery = tables.delivery.c
    query = select(delivery.lane, func.min(delivery.delivery_id).label("delivery_id")).where(condition)
    if customer_id is not None:
        query = query.where(delivery.lane.in_(lanes_of_customer(customer_id)))
    return query.group_by(delivery.lane).cte("head")


def _lanes(
    connection: Connection, head: CTE, conditions: Sequence[ColumnElement[bool]], count_max: int | None
) -> list[Lane]:
    delivery, behind = tables.delivery.c, tables.delivery.alias("behind")
    behind_count = select(func.count()).where(
        behind.c.lane == delivery.lane,
        behind.c.delivery_id > delivery.delivery_id,
        behind.c.state.not_in(SETTLED_BY_PEOPLE),
    )
    query = (
        described()
        .add_columns(behind_count.scalar_subquery())
        .join(head, and_(head.c.lane == delivery.lane, head.c.delivery_id == delivery.delivery_id))
        .where(*conditions)
        .order_by(delivery.delivery_id)
        .limit(count_max)
    )
    return [Lane(Delivery(*row[:-1]), row[-1]) for row in connection.execute(query)]


def _described_lanes(connection: Connection, keys: Sequence[Key]) -> list[Lane]:
    by_lane = {lane: list(group) for lane, group in groupby(sorted(keys), key=itemgetter(0))}
    is_head = tuple_(tables.delivery.c.lane, tables.delivery.c.delivery_id).in_([it[0] for it in by_lane.values()])
    heads = find_by(connection, described().where(is_head).order_by(tables.delivery.c.delivery_id))
    return [Lane(head, len(by_lane[head.lane]) - 1) for head in heads]


def _deed(lane: Lane) -> Deed:
    detail: dict[str, Any] = {"released_count": lane.behind_count + 1}
    head = lane.head
    return Deed("release", head.event_id, head.operation, head.destination, msgspec.json.encode(detail).decode())
