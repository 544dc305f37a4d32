"""People's acts on deliveries that cannot go on by themselves: each is one change and one act, in one transaction.

    held, in_doubt ──confirm──▶ row deleted: the act is the receipt        ──resend──▶ pending, due now
    dead ──────────discard────▶ row deleted: nothing more will be sent     ──requeue─▶ pending, due now

What waited behind a settled delivery goes on, unless something else before it still blocks; see `lanes`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, delete, func, null, tuple_, update

from outbox_worker.database import acts, lanes, tables
from outbox_worker.database.acts import Deed, Instruction
from outbox_worker.database.deliveries import Delivery, take


class Settlement(NamedTuple):
    """A way of settling: what it is called, what it is for, and whether the delivery is sent (again)."""

    act: str
    states: tuple[str, ...]
    sends: bool


CONFIRM = Settlement("confirm", ("held", "in_doubt"), sends=False)
RESEND = Settlement("resend", ("held", "in_doubt"), sends=True)
REQUEUE = Settlement("requeue", ("dead",), sends=True)
DISCARD = Settlement("discard", ("dead",), sends=False)


@dataclass(slots=True)
class Settled:
    """What came of it. `released_count` deliveries that waited behind go on."""

    done: list[Delivery] = field(default_factory=list)
    busy: list[Delivery] = field(default_factory=list)
    changed: list[Delivery] = field(default_factory=list)
    released_count: int = 0


def settle(
    connection: Connection,
    settlement: Settlement,
    chosen: Sequence[Delivery],
    instruction: Instruction,
    blocking: Collection[str],
) -> Settled:
    """Settle the chosen deliveries, but for those that are being sent or have changed since they were chosen.

    `blocking` are those of the states dead and held that hold up a lane by the configured policy.
    """
    taken = take(connection, chosen, settlement.states)
    if not taken.ours:
        return Settled([], taken.busy, taken.changed)
    _change(connection, taken.ours, sends=settlement.sends)
    acts.record(connection, instruction, (_deed(settlement.act, it) for it in taken.ours))
    released_count = lanes.release_followers(connection, {it.lane for it in taken.ours}, blocking)
    if settlement.sends or released_count:
        acts.wake_relay(connection)
    return Settled(taken.ours, taken.busy, taken.changed, released_count)


def _change(connection: Connection, ours: Sequence[Delivery], *, sends: bool) -> None:
    if sends:
        # Its attempts keep their numbers, and the timetable begins anew.
        again = {
            "state": "pending",
            "due_at": func.clock_timestamp(),
            "try_count": 0,
            "miss_count": 0,
            "reason": null(),
        }
        connection.execute(update(tables.delivery).where(_is_one_of(ours)).values(again))
    else:
        connection.execute(delete(tables.delivery).where(_is_one_of(ours)))


def _is_one_of(deliveries: Sequence[Delivery]) -> ColumnElement[bool]:
    return tuple_(tables.delivery.c.lane, tables.delivery.c.delivery_id).in_([it.key for it in deliveries])


def _deed(act: str, delivery: Delivery) -> Deed:
    before = {"state": delivery.state, "reason": delivery.reason, "attempt_count": delivery.attempt_count}
    detail = msgspec.json.encode(before).decode()
    return Deed(act, delivery.event_id, delivery.operation, delivery.destination, detail)
