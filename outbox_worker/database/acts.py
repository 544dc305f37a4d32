"""What people did: one row of the journal of acts, written in the transaction that makes the change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, Text, cast, func, insert, select

from outbox_worker.database import tables


@dataclass(frozen=True, slots=True)
class Instruction:
    """Who has something done, and why."""

    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Deed:
    """An act to be written down; what it is about, and `detail`, JSON of what was true before."""

    act: str
    event_id: str | None = None
    operation: str | None = None
    destination: str | None = None
    detail: str | None = None
    round: str | None = None


@dataclass(frozen=True, slots=True)
class Act:
    """An act as it was written down. `recorder` is the database role that wrote it."""

    acted_at: datetime
    act: str
    event_id: str | None
    operation: str | None
    destination: str | None
    actor: str
    recorder: str
    reason: str
    detail: str | None


def record(connection: Connection, instruction: Instruction, deeds: Iterable[Deed]) -> None:
    """Write down what is done in this transaction."""
    rows = [asdict(deed) | asdict(instruction) for deed in deeds]
    if rows:
        connection.execute(insert(tables.act), rows)


def of_events(connection: Connection, event_ids: Sequence[str]) -> list[Act]:
    """Return the acts about these events, oldest first."""
    act = tables.act.c
    columns = (act.acted_at, act.act, act.event_id, act.operation, act.destination, act.actor, act.recorder, act.reason)
    found = select(*columns, cast(act.detail, Text)).where(act.event_id.in_(event_ids)).order_by(act.act_id)
    return [Act(*row) for row in connection.execute(found)]


def wake_relay(connection: Connection) -> None:
    """Have a sleeping relay look for work once this transaction is committed."""
    connection.execute(select(func.pg_notify("outbox", "")))
