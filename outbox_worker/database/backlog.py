"""How much waits, and why: one cheap reading for `status`, the metrics and the demo."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, text

from outbox_worker.database import rounds, tables
from outbox_worker.database.engine import engine, explained, transaction
from outbox_worker.database.rounds import RoundState


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
    waiting_lane_count: int  # lanes, mostly customers, with deliveries that wait for their client
    oldest_snapshot_s: float | None  # None: this role does not see what others have open
    rounds: list[RoundState]

    def count(self, state: str) -> int:
        """Return how many deliveries are in a state."""
        return sum(row.delivery_count for row in self.waiting if row.state == state)

    @property
    def oldest_due_at(self) -> datetime | None:
        """Since when the oldest delivery is due that is not delivered; None when none is due."""
        due = [row.oldest_due_at for row in self.waiting if row.oldest_due_at is not None]
        return min(due) if due and min(due) <= self.read_at else None

    @property
    def lag_s(self) -> float:
        """How long the oldest delivery waits that is due and not delivered."""
        return (self.read_at - self.oldest_due_at).total_seconds() if self.oldest_due_at else 0.0


# Of other roles' sessions only a member of pg_read_all_stats sees whether they hold a snapshot.
_FIGURES = text("""
select clock_timestamp() as read_at,
       (select count(*) from outbox.claim) as claimed_count,
       (select count(distinct claim.worker) from outbox.claim) as worker_count,
       (select count(*) from outbox.capture_failure where repaired_at is null) as capture_failure_count,
       (select count(distinct delivery.lane) from outbox.delivery where state = 'waiting') as waiting_lane_count,
       case when pg_has_role(session_user, 'pg_read_all_stats', 'usage') then
           coalesce((select extract(epoch from clock_timestamp() - min(session.xact_start))
                     from pg_stat_activity session
                     where session.backend_xmin is not null and session.backend_type = 'client backend'
                       and session.pid <> pg_backend_pid()), 0)::float8
       end as oldest_snapshot_s
""")


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
    destination = tables.destination.c
    figures = connection.execute(_FIGURES).one()
    destinations = select(
        destination.destination,
        destination.paused_at,
        destination.pause_reason,
        destination.failure_count,
        tables.rest_until,
    ).order_by(destination.destination)
    return Status(
        waiting=[Waiting(*row) for row in connection.execute(select(tables.backlog))],
        destinations=[DestinationStatus(*row) for row in connection.execute(destinations)],
        rounds=rounds.read(connection),
        **figures._mapping,
    )
