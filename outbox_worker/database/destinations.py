"""Destinations paused and resumed by a person. What the relays write there stands in `statements`.

One destination in each transaction: a relay notes several at once in an order of its own, and two who want two rows in
two orders would wait for each other. A relay that is claiming when a pause is committed has read the row before it, and
sends what it claims; nothing is claimed afterwards. A relay that hears 401 after a `resume` pauses it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import msgspec
from sqlalchemy import Connection, case, func, literal_column, null, select, update

from outbox_worker.database import acts, tables
from outbox_worker.database.acts import Deed, Instruction


@dataclass(frozen=True, slots=True)
class Destination:
    """A destination: paused with its reason, failing so many times in a row, resting until an instant.

    It gets `rate_max` requests a second at most, where that is set. `waiting_count` deliveries wait for it.
    """

    destination: str
    paused_at: datetime | None
    pause_reason: str | None
    failure_count: int
    rest_until: datetime | None
    rate_max: float | None
    waiting_count: int

    @property
    def is_open(self) -> bool:
        """Whether nothing is written down against it."""
        return self.paused_at is None and self.failure_count == 0 and self.rest_until is None


def read(connection: Connection) -> list[Destination]:
    """Return all destinations. A rest that is over is not mentioned."""
    it, delivery = tables.destination.c, tables.delivery.c
    waiting = select(delivery.destination, func.count().label("number")).group_by(delivery.destination).cte("waiting")
    rest = case((it.rest_until > func.clock_timestamp(), it.rest_until))
    columns = it.destination, it.paused_at, it.pause_reason, it.failure_count, rest, it.rate_max
    query = select(*columns, func.coalesce(waiting.c.number, 0)).select_from(
        tables.destination.outerjoin(waiting, waiting.c.destination == it.destination)
    )
    return [Destination(*row) for row in connection.execute(query.order_by(it.destination))]


def pause(connection: Connection, name: str, instruction: Instruction) -> bool:
    """Have nothing more sent there until somebody resumes it; return whether that is new."""
    it = tables.destination.c
    change = update(tables.destination).where(it.destination == name, it.paused_at.is_(None))
    values = {"paused_at": func.clock_timestamp(), "pause_reason": instruction.reason}
    is_new = connection.execute(change.values(values)).rowcount > 0
    if is_new:
        acts.record(connection, instruction, [Deed("pause", destination=name)])
    return is_new


def resume(connection: Connection, name: str, instruction: Instruction) -> bool:
    """Have everything go there again at once, its failures forgotten; return whether anything stood against it."""
    row = tables.destination
    before = next((it for it in _locked(connection, name) if not it.is_open), None)
    if before is None:
        return False
    open_again = {
        "paused_at": null(),
        "pause_reason": null(),
        "failure_count": 0,
        "rest_until": literal_column("'-infinity'::timestamptz"),
    }
    connection.execute(update(row).where(row.c.destination == name).values(open_again))
    detail = {"pause_reason": before.pause_reason, "failure_count": before.failure_count}
    acts.record(
        connection, instruction, [Deed("resume", destination=name, detail=msgspec.json.encode(detail).decode())]
    )
    acts.wake_relay(connection)
    return True


def _locked(connection: Connection, name: str) -> list[Destination]:
    """Lock a destination's row, and read it in a statement that begins when it is ours."""
    it = tables.destination.c
    connection.execute(select(it.destination).where(it.destination == name).with_for_update())
    return [found for found in read(connection) if found.destination == name]
