"""How much waits, and why: one cheap reading for `status`, the metrics and the demo."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, distinct, func, select

from outbox_worker.database import tables
from outbox_worker.database.engine import engine, explained, transaction


@dataclass(frozen=True, slots=True)
class Waiting:
    """Deliveries of one operation in one state. `oldest_due_at` is None where none of them is to be sent."""

    destination: str
    operation: str
    state: str
    delivery_count: int
    oldest_due_at: datetime | None


@dataclass(frozen=True, slots=True)
class DestinationStatus:
    """A destination; `paused_at` with its reason while a person must act, `rest_until` while it is left alone."""

    destination: str
    paused_at: datetime | None
    pause_reason: str | None
    failure_count: int
    rest_until: datetime | None


@dataclass(frozen=True, slots=True)
class Status:
    """The state of the outbox at `read_at`, by the database's clock."""

    read_at: datetime
    waiting: list[Waiting]
    destinations: list[DestinationStatus]
    claimed_count: int
    worker_count: int  # workers with something in flight
    capture_failure_count: int

    def count(self, state: str) -> int:
        """Return how many deliveries are in a state."""
        return sum(row.delivery_count for row in self.waiting if row.state == state)

    @property
    def lag_s(self) -> float:
        """How long the oldest delivery waits that is due and not delivered."""
        due = [row.oldest_due_at for row in self.waiting if row.oldest_due_at is not None]
        return max((self.read_at - min(due)).total_seconds(), 0.0) if due else 0.0


class StatusReader:
    """Reads the state of the outbox whenever asked, each time by a connection of its own."""

    def __init__(self, conninfo: str, application_name: str) -> None:
        self._engine = engine(conninfo, application_name=application_name)

    def __call__(self) -> Status:
        """Raise DatabaseUnavailable, or SchemaMismatch where there is no outbox that this role may read."""
        with explained(), transaction(self._engine) as connection:
            return read(connection)


def read(connection: Connection) -> Status:
    """Read the state of the outbox. Its cost grows with what waits, not with what has been delivered."""
    claim, failure, destination = tables.claim.c, tables.capture_failure.c, tables.destination.c
    claims = connection.execute(
        select(func.count(), func.count(distinct(claim.worker))).select_from(tables.claim)
    ).one()
    failures = select(func.count()).select_from(tables.capture_failure).where(failure.repaired_at.is_(None))
    destinations = select(
        destination.destination,
        destination.paused_at,
        destination.pause_reason,
        destination.failure_count,
        tables.rest_until,
    ).order_by(destination.destination)
    return Status(
        read_at=connection.scalar(select(func.clock_timestamp())) or datetime.min,  # noqa: DTZ901  # never None
        waiting=[Waiting(*row) for row in connection.execute(select(tables.backlog))],
        destinations=[DestinationStatus(*row) for row in connection.execute(destinations)],
        claimed_count=claims[0],
        worker_count=claims[1],
        capture_failure_count=connection.scalar(failures) or 0,
    )
