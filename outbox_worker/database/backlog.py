"""How much waits, and why: a reading for `status`, the metrics and the demo whose cost is bounded, whatever waits.

    open (pending, in doubt)     the first 10,000 of each destination, by the index that the relay looks through
    stopped (held, waiting,      no index has them, so that none is kept up by every sale; all are counted, but where
      dead)                      the table is large a reader counts them once a minute and tells the same meanwhile

What is due longest is among those that came first, but where ten thousand that came before it are put off.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any, LiteralString

from psycopg import Connection
from psycopg.rows import dict_row

from outbox_worker.database.connecting import look
from outbox_worker.database.round_states import STATES, RoundState


@dataclass(frozen=True, slots=True)
class Waiting:
    """Deliveries of one operation in one state. `oldest_due_at` is None where none of them is to be sent.

    `is_at_least`: there may be more, for no more of a destination were counted.
    """

    destination: str
    operation: str
    state: str
    delivery_count: int
    oldest_due_at: datetime | None = None
    is_at_least: bool = False


@dataclass(frozen=True, slots=True)
class Stopped:
    """What a person or the client must set going again, and in how many lanes, mostly customers, it waits."""

    rows: list[Waiting]
    waiting_lane_count: int


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
    estimated_count: int  # of all deliveries not done, by PostgreSQL's statistics
    oldest_snapshot_s: float | None  # None: this role does not see what others have open
    rounds: list[RoundState]
    unidentified_s: float = 0.0  # how long the oldest order with contact data waits to be identified
    without_phone_count: int = 0  # deliveries that wait until a phone of their buyer is known

    def count(self, state: str, destination: str | None = None) -> int:
        """Return how many deliveries are in a state, there or anywhere; `is_at_least` tells whether there are more."""
        return sum(row.delivery_count for row in self._rows(state, destination))

    def is_at_least(self, state: str, destination: str | None = None) -> bool:
        """Tell whether there may be more than `count` says."""
        return any(row.is_at_least for row in self._rows(state, destination))

    @property
    def is_capped(self) -> bool:
        """Whether there is more than was counted; then `estimated_count` says about how much."""
        return any(row.is_at_least for row in self.waiting)

    def _rows(self, state: str, destination: str | None) -> list[Waiting]:
        return [row for row in self.waiting if row.state == state and destination in (None, row.destination)]

    @property
    def oldest_due_at(self) -> datetime | None:
        """Since when the oldest delivery is due that is not delivered; None when none is due."""
        due = [row.oldest_due_at for row in self.waiting if row.oldest_due_at is not None]
        return min(due) if due and min(due) <= self.read_at else None

    @property
    def lag_s(self) -> float:
        """How long the oldest delivery waits that is due and not delivered."""
        return (self.read_at - self.oldest_due_at).total_seconds() if self.oldest_due_at else 0.0


OPEN_MAX = 10_000  # of a destination
COUNTED_ANEW_BYTES_MAX = 16 * 1024 * 1024  # of the table: then a look through all of it takes some milliseconds
KEPT_S = 60.0

_OPEN = """
select destination.destination, known.operation, known.state, count(*), min(known.due_at),
       sum(count(*)) over (partition by destination.destination) >= %(open_max)s
from outbox.destination
cross join lateral (
    select delivery.operation, delivery.state, delivery.due_at from outbox.delivery
    where delivery.destination = destination.destination and delivery.state in ('pending', 'in_doubt')
    order by delivery.delivery_id
    limit %(open_max)s
) known
group by destination.destination, known.operation, known.state
"""

_STOPPED = """
select destination, operation, state, count(*) from outbox.delivery
where state in ('held', 'waiting', 'dead')
group by destination, operation, state
"""

_WAITING_LANES = "select count(distinct lane) from outbox.delivery where state = 'waiting'"

_SIZE = "select pg_relation_size('outbox.delivery')"

# PostgreSQL's infinity has no place in a datetime.
_DESTINATIONS = """
select destination, paused_at, pause_reason, failure_count, nullif(rest_until, '-infinity')
from outbox.destination
order by destination
"""

# Of other roles' sessions only a member of pg_read_all_stats sees whether they hold a snapshot.
_FIGURES = """
select clock_timestamp() as read_at,
       (select count(*) from outbox.claim) as claimed_count,
       (select count(distinct claim.worker) from outbox.claim) as worker_count,
       (select count(*) from outbox.capture_failure where repaired_at is null) as capture_failure_count,
       coalesce(pg_stat_get_live_tuples('outbox.delivery'::regclass), 0) as estimated_count,
       coalesce((select extract(epoch from clock_timestamp() - event.recorded_at)
                 from outbox.addressee addressee join outbox.event event on event.event_id = addressee.event_id
                 where addressee.identified_at is null
                 order by addressee.delivery_id
                 limit 1), 0)::float8 as unidentified_s,
       (select count(*) from outbox.addressee
        where identified_at is not null and phone is null and chosen_as is null) as without_phone_count,
       case when pg_has_role(session_user, 'pg_read_all_stats', 'usage') then
           coalesce((select extract(epoch from clock_timestamp() - min(session.xact_start))
                     from pg_stat_activity session
                     where session.backend_xmin is not null and session.backend_type = 'client backend'
                       and session.pid <> pg_backend_pid()), 0)::float8
       end as oldest_snapshot_s
"""


class StatusReader:
    """Reads the state of the outbox whenever asked, each time by a connection of its own."""

    def __init__(self, conninfo: str, application_name: str) -> None:
        self._conninfo, self._application_name = conninfo, application_name
        self._kept: Stopped | None = None
        self._kept_until_s = 0.0

    def __call__(self) -> Status:
        """Raise DatabaseUnavailable, or SchemaMismatch where there is no outbox that this role may read."""
        with look(self._conninfo, self._application_name) as connection:
            return read(connection, self._stopped(connection))

    def _stopped(self, connection: Connection[Any]) -> Stopped:
        if self._kept is not None and monotonic() < self._kept_until_s:
            return self._kept
        found = read_stopped(connection)
        if _number(connection, _SIZE) > COUNTED_ANEW_BYTES_MAX:
            self._kept, self._kept_until_s = found, monotonic() + KEPT_S
        return found


def read(connection: Connection[Any], stopped: Stopped | None = None) -> Status:
    """Read the state of the outbox; `stopped` is what is known of that and need not be counted again."""
    figures = connection.cursor(row_factory=dict_row).execute(_FIGURES).fetchone() or {}
    stopped = stopped or read_stopped(connection)
    waiting = connection.execute(_OPEN, {"open_max": OPEN_MAX})
    return Status(
        waiting=[*(Waiting(*row) for row in waiting), *stopped.rows],
        waiting_lane_count=stopped.waiting_lane_count,
        destinations=[DestinationStatus(*row) for row in connection.execute(_DESTINATIONS)],
        rounds=[RoundState(*row) for row in connection.execute(f"{STATES}order by it.round")],
        **figures,
    )


def read_stopped(connection: Connection[Any]) -> Stopped:
    """Count what is held, waiting or dead. Looks through the whole table."""
    rows = [Waiting(*row) for row in connection.execute(_STOPPED)]
    waits = any(row.state == "waiting" for row in rows)
    return Stopped(rows, _number(connection, _WAITING_LANES) if waits else 0)


def _number(connection: Connection[Any], statement: LiteralString) -> int:
    row = connection.execute(statement).fetchone()
    return int(row[0]) if row else 0
