"""How much waits, and why: one cheap reading for `status`, the metrics and the demo."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import psycopg
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    distinct,
    exc,
    func,
    literal_column,
    select,
)

from outbox_worker.database.engine import engine, transaction
from outbox_worker.errors import DatabaseUnavailable, SchemaMismatch

_metadata = MetaData(schema="outbox")

backlog_view = Table(
    "backlog",
    _metadata,
    Column("destination", Text),
    Column("operation", Text),
    Column("state", Text),
    Column("delivery_count", BigInteger),
    Column("oldest_due_at", DateTime(timezone=True)),
)
claim_table = Table(
    "claim",
    _metadata,
    Column("lane", BigInteger),
    Column("worker", Uuid),
    Column("claimed_at", DateTime(timezone=True)),
)
destination_table = Table(
    "destination",
    _metadata,
    Column("destination", Text),
    Column("paused_at", DateTime(timezone=True)),
    Column("pause_reason", Text),
    Column("failure_count", Integer),
    Column("rest_until", DateTime(timezone=True)),
)
capture_failure_table = Table(
    "capture_failure",
    _metadata,
    Column("capture_failure_id", BigInteger),
    Column("kind", Text),
    Column("repaired_at", DateTime(timezone=True)),
)
route_table = Table(
    "route", _metadata, Column("operation", Text), Column("destination", Text), Column("enabled", Boolean)
)


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
        try:
            with transaction(self._engine) as connection:
                return read(connection)
        except exc.DBAPIError as error:
            if isinstance(error.orig, psycopg.errors.UndefinedTable | psycopg.errors.InsufficientPrivilege):
                raise SchemaMismatch(
                    "the database has no schema outbox that this role may read. Install it with "
                    "`outbox-worker schema install`, and grant outbox_worker to this role."
                ) from None
            raise DatabaseUnavailable(f"the outbox could not be read: {str(error.orig).strip()}") from None


def read(connection: Connection) -> Status:
    """Read the state of the outbox. Its cost grows with what waits, not with what has been delivered."""
    claims = connection.execute(select(func.count(), func.count(distinct(claim_table.c.worker)))).one()
    failures = (
        select(func.count()).select_from(capture_failure_table).where(capture_failure_table.c.repaired_at.is_(None))
    )
    rest = func.nullif(destination_table.c.rest_until, literal_column("'-infinity'::timestamptz")).label("rest_until")
    columns = destination_table.c
    destinations = select(columns.destination, columns.paused_at, columns.pause_reason, columns.failure_count, rest)
    return Status(
        read_at=connection.scalar(select(func.clock_timestamp())) or datetime.min,  # noqa: DTZ901  # never None
        waiting=[Waiting(*row) for row in connection.execute(select(backlog_view))],
        destinations=[
            DestinationStatus(*row) for row in connection.execute(destinations.order_by(columns.destination))
        ],
        claimed_count=claims[0],
        worker_count=claims[1],
        capture_failure_count=connection.scalar(failures) or 0,
    )
