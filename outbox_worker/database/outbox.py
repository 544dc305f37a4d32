"""The relay's half of the outbox: one connection, one round trip for a whole turn.

A turn concludes what is over, claims what will be sent at once, and looks for more. Its statements go out together in a
pipeline without BEGIN, which PostgreSQL runs as one transaction: all of it is durable, or none of it is.

What a crash leaves, line by line:
    before the turn commits     nothing has happened: what was over is concluded again or taken over as in doubt;
                                what was to be claimed is still pending
    after it commits            what was over is concluded; what was claimed has a claim row and was perhaps sent:
                                whoever finds the claim older than the request time-out treats it as in doubt
    during the commit           one of the two; a worker that lives on releases, when it is back, the claims that it
                                knows nothing of (it never sent them) and concludes again (the fence makes that harmless)

Locks, in this order: claim rows of concluded lanes, their delivery rows, destination rows, delivery rows to be claimed (those
locked by others are skipped), new claim rows. No statement waits for a lock that accounting holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from outbox_worker.database import schema
from outbox_worker.records import Action, Claim, Conclusion, Outcome, Purpose
from outbox_worker.rules.lanes import Due

DOORBELL = 122550254464888  # the word `outbox` in ASCII; sql/install/ring_doorbell.sql has the same
CHANNEL = "outbox"
REREAD_MAX = 64
TAKE_OVER_MAX = 100

# The statements are planned once, for tables whose statistics say nothing true for longer than a moment: by index, always.
# Durability is not the host's default to relax: a claim that is forgotten is a request sent twice.
SETTINGS = {
    "synchronous_commit": "on",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    "lock_timeout": "5s",
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "60s",
}
KEEPALIVE = {"keepalives": 1, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10000}

# The common end: accepted. The claim is the fence; without it nothing is deleted and nothing is journaled.
ACKNOWLEDGE = """
with said as (
    select * from unnest(%s::bigint[], %s::bigint[], %s::integer[], %s::integer[], %s::smallint[], %s::bytea[], %s::text[])
        as said (lane, delivery_id, number, took_us, status, digest, excerpt)
), ended as (
    delete from outbox.claim claim using said
    where claim.lane = said.lane and claim.delivery_id = said.delivery_id and claim.number = said.number
      and claim.worker = %s
    returning said.*, claim.purpose, claim.worker, claim.claimed_at
), delivered as (
    delete from outbox.delivery delivery using ended
    where delivery.lane = ended.lane and delivery.delivery_id = ended.delivery_id
    returning delivery.event_id, delivery.operation, ended.*
), journal as (
    insert into outbox.attempt
        (event_id, operation, number, purpose, worker, begun_at, took_us, outcome, evidence, status, verdict, digest, excerpt)
    select event_id, operation, number, purpose, worker, claimed_at, took_us, 'accepted', 'answered', status, 'acknowledge',
           digest, excerpt
    from delivered
)
select delivery_id from ended
"""

# Every other end. `state` is what becomes of the delivery; null: its duty is done and the row goes.
# What follows a delivery that waits for its client waits with it, so that no look passes over it again and again.
CONCLUDE = """
with said as (
    select * from json_to_recordset(%s::json) as said (
        lane bigint, delivery_id bigint, number integer, took_us integer, outcome text, evidence text, status smallint,
        verdict text, state text, due_in_s float8, counts integer, miss_count integer, reason text, digest text, excerpt text)
), ended as (
    delete from outbox.claim claim using said
    where claim.lane = said.lane and claim.delivery_id = said.delivery_id and claim.number = said.number
      and claim.worker = %s
    returning said.*, claim.purpose, claim.worker, claim.claimed_at
), moved as (
    update outbox.delivery delivery
    set state = ended.state, due_at = clock_timestamp() + make_interval(secs => ended.due_in_s),
        attempt_count = ended.number, try_count = delivery.try_count + ended.counts, miss_count = ended.miss_count,
        reason = ended.reason
    from ended
    where delivery.lane = ended.lane and delivery.delivery_id = ended.delivery_id and ended.state is not null
    returning delivery.event_id, delivery.operation, ended.lane, ended.number
), followers as (
    update outbox.delivery delivery
    set state = 'waiting', reason = 'behind a delivery that waits for the client'
    from ended
    where delivery.lane = ended.lane and delivery.delivery_id > ended.delivery_id and delivery.state = 'pending'
      and ended.state = 'waiting'
), gone as (
    delete from outbox.delivery delivery using ended
    where delivery.lane = ended.lane and delivery.delivery_id = ended.delivery_id and ended.state is null
    returning delivery.event_id, delivery.operation, ended.lane, ended.number
), journal as (
    insert into outbox.attempt
        (event_id, operation, number, purpose, worker, begun_at, took_us, outcome, evidence, status, verdict, reason, digest,
         excerpt)
    select it.event_id, it.operation, it.number, ended.purpose, ended.worker, ended.claimed_at, ended.took_us, ended.outcome,
           ended.evidence, ended.status, ended.verdict, ended.reason, decode(ended.digest, 'hex'), ended.excerpt
    from (select * from moved union all select * from gone) it join ended on ended.lane = it.lane
)
select delivery_id from ended
"""

NOTE_DESTINATIONS = """
update outbox.destination destination
set failure_count = case when said.well then 0 else destination.failure_count + said.failure_count end,
    rest_until = case when said.well then destination.rest_until
                      else greatest(destination.rest_until, clock_timestamp() + make_interval(secs => said.rest_s)) end,
    paused_at = case when said.pause_reason is null then destination.paused_at
                     else coalesce(destination.paused_at, clock_timestamp()) end,
    pause_reason = coalesce(destination.pause_reason, said.pause_reason)
from json_to_recordset(%s::json)
    as said (destination text, well boolean, failure_count integer, rest_s float8, pause_reason text)
where destination.destination = said.destination
"""

# A head is claimed if it is due, its destination is open, nothing before it in its lane is unsettled, nobody else is at it
# (skip locked: a row being concluded or claimed elsewhere), and the lane has no claim (its primary key).
CLAIM = """
with head as materialized (
    select delivery.*
    from unnest(%s::bigint[], %s::bigint[]) as due (lane, delivery_id)
    join outbox.delivery delivery on delivery.lane = due.lane and delivery.delivery_id = due.delivery_id
    where delivery.state in ('pending', 'in_doubt') and delivery.due_at <= clock_timestamp()
      and delivery.destination = any (array(
          select open.destination from outbox.destination open
          where open.paused_at is null and open.rest_until <= clock_timestamp()))
      and not exists (
          select from outbox.delivery earlier
          where earlier.lane = delivery.lane and earlier.delivery_id < delivery.delivery_id
            and earlier.state = any (%s::text[]))
    for update of delivery skip locked
), claimed as (
    insert into outbox.claim (lane, delivery_id, number, purpose, worker)
    select lane, delivery_id, attempt_count + 1, case state when 'pending' then 'send' else 'inquire' end, %s
    from head
    on conflict (lane) do nothing
    returning lane, number, purpose
)
select head.lane, head.delivery_id, claimed.number, claimed.purpose, head.event_id, head.operation, head.destination,
       event.payload::text, event.occurred_at, event.recorded_at, head.try_count, head.miss_count
from claimed
join head on head.lane = claimed.lane
join outbox.event event on event.event_id = head.event_id
"""

# What could not be claimed because an earlier delivery of its lane waits is made to wait with it.
FOLLOW = """
update outbox.delivery delivery
set state = 'waiting', reason = 'behind a delivery that is ' || earlier.state
from unnest(%s::bigint[], %s::bigint[]) as due (lane, delivery_id)
cross join lateral (
    select blocker.state from outbox.delivery blocker
    where blocker.lane = due.lane and blocker.delivery_id < due.delivery_id and blocker.state = any (%s::text[])
    limit 1
) earlier
where delivery.lane = due.lane and delivery.delivery_id = due.delivery_id and delivery.state = 'pending'
"""

LOOK = """
select look.destination, delivery.delivery_id, delivery.lane, delivery.due_in_s
from unnest(%s::text[], %s::bigint[], %s::integer[]) as look (destination, after, count_max)
cross join lateral (
    select delivery.delivery_id, delivery.lane,
           greatest(0, extract(epoch from delivery.due_at - clock_timestamp()))::float8 as due_in_s
    from outbox.delivery delivery
    where delivery.destination = look.destination and delivery.delivery_id > look.after
      and delivery.state in ('pending', 'in_doubt') and delivery.operation = any (%s::text[])
    order by delivery.delivery_id
    limit look.count_max
) delivery
"""

REREAD = """
select delivery.delivery_id, delivery.lane, delivery.due_in_s
from unnest(%s::bigint[]) as short (lane)
cross join lateral (
    select delivery.delivery_id, delivery.lane,
           greatest(0, extract(epoch from delivery.due_at - clock_timestamp()))::float8 as due_in_s
    from outbox.delivery delivery
    where delivery.lane = short.lane and delivery.state in ('pending', 'in_doubt') and delivery.operation = any (%s::text[])
    order by delivery.delivery_id
    limit %s
) delivery
"""

DESTINATIONS = """
select destination.destination, destination.paused_at is not null, destination.failure_count,
       greatest(0, extract(epoch from destination.rest_until - clock_timestamp()))::float8,
       (select extract(epoch from clock_timestamp() - min(claim.claimed_at))::float8 from outbox.claim claim
        where claim.worker <> %s)
from outbox.destination destination
"""

TAKE_OVER = """
with overdue as materialized (
    select claim.lane from outbox.claim claim
    where claim.claimed_at < clock_timestamp() - make_interval(secs => %s) and claim.worker <> %s
    limit %s
    for update skip locked
), taken as (
    update outbox.claim claim set worker = %s from overdue where claim.lane = overdue.lane
    returning claim.*
)
select taken.lane, taken.delivery_id, taken.number, taken.purpose, delivery.event_id, delivery.operation,
       delivery.destination, event.payload::text, event.occurred_at, event.recorded_at, delivery.try_count,
       delivery.miss_count, taken.claimed_at
from taken
join outbox.delivery delivery on delivery.lane = taken.lane and delivery.delivery_id = taken.delivery_id
join outbox.event event on event.event_id = delivery.event_id
"""

RELEASE = "delete from outbox.claim where worker = %s and lane <> all (%s::bigint[])"
END_SESSION = """
select pg_terminate_backend(pid) from pg_stat_activity where pid = %s and application_name = %s and pid <> pg_backend_pid()
"""
ENABLE_ROUTES = """
update outbox.route route set enabled = (route.operation = any (%s::text[]))
where route.enabled <> (route.operation = any (%s::text[]))
"""

STATES = {
    Action.ACKNOWLEDGE: None,
    Action.RETRY: "pending",
    Action.INQUIRE: "in_doubt",
    Action.HOLD: "held",
    Action.DEAD_LETTER: "dead",
    Action.WAIT_FOR_CLIENT: "waiting",
}


@dataclass(frozen=True, slots=True)
class Look:
    """Look for deliveries of a destination after an id, at most so many."""

    destination: str
    after: int
    count_max: int


@dataclass(frozen=True, slots=True)
class DestinationNote:
    """What is to be written down of a destination: it answers, or it failed once more, or it must be paused."""

    destination: str
    well: bool
    failure_count: int
    rest_s: float
    pause_reason: str | None


@dataclass(frozen=True, slots=True)
class DestinationState:
    """What all workers know of a destination."""

    destination: str
    paused: bool
    failure_count: int
    rest_s: float


@dataclass(slots=True)
class Turn:
    """What the relay wants of the database now."""

    conclusions: list[Conclusion] = field(default_factory=list)
    notes: list[DestinationNote] = field(default_factory=list)
    candidates: list[Due] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    rereads: list[int] = field(default_factory=list)  # lanes to be read from their heads
    unclaimed: list[Due] = field(default_factory=list)  # candidates of the turn before that could not be claimed
    arm: bool = False
    disarm: bool = False

    def __bool__(self) -> bool:
        return bool(
            self.conclusions
            or self.notes
            or self.candidates
            or self.looks
            or self.rereads
            or self.unclaimed
            or self.arm
            or self.disarm
        )


@dataclass(slots=True)
class Answer:
    """What the database answered."""

    overtaken: list[Conclusion] = field(default_factory=list)  # their claims were taken over: they changed nothing
    claims: list[Claim] = field(default_factory=list)
    found: dict[str, list[Due]] = field(default_factory=dict)  # by destination, in order
    reread: list[Due] = field(default_factory=list)
    destinations: list[DestinationState] = field(default_factory=list)
    oldest_foreign_claim_s: float | None = None  # the age of the oldest claim that is not ours
    armed: bool = False


class Outbox:
    """The relay's connection. Not reconnecting by itself: `connect` is called again after a `psycopg.OperationalError`."""

    def __init__(self, conninfo: str, worker: UUID, *, operations: Sequence[str], blocking_states: Sequence[str]) -> None:
        self.worker = worker
        self._conninfo = conninfo
        self._operations = list(operations)
        self._blocking = list(blocking_states)  # what holds up a lane
        self._waiting = [state for state in blocking_states if state not in ("pending", "in_doubt")]
        self._connection: psycopg.Connection[Any] | None = None
        self._lost_pid = 0

    @property
    def connection(self) -> psycopg.Connection[Any]:
        """The open connection. Raises psycopg.OperationalError if there is none."""
        if self._connection is None or self._connection.closed:
            raise psycopg.OperationalError("the connection to the database is closed")
        return self._connection

    def connect(self, in_flight: Iterable[int]) -> None:
        """Connect, and release the claims of this worker that it knows nothing of; `in_flight` are the lanes it does.

        Raises psycopg.OperationalError when the server cannot be reached, SchemaMismatch when the schema is not ours.
        """
        self.close()
        name = f"outbox-worker {self.worker}"
        options = " ".join(f"-c {key}={value}" for key, value in SETTINGS.items())
        connection = psycopg.connect(
            self._conninfo,
            autocommit=True,
            prepare_threshold=0,
            application_name=name,
            options=options,
            connect_timeout=5,
            **KEEPALIVE,  # type: ignore[arg-type]  # libpq's own parameters
        )
        try:
            schema.require_version(connection)
            # What is left of our last session must neither commit after this nor make this wait.
            connection.execute(END_SESSION, (self._lost_pid, name))
            connection.execute(RELEASE, (self.worker, list(in_flight)))
            connection.execute(f"listen {CHANNEL}")
        except BaseException:
            connection.close()
            raise
        self._connection, self._lost_pid = connection, connection.info.backend_pid

    def close(self) -> None:
        """Close the connection; what it held, it lets go."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def fileno(self) -> int:
        """Return the socket's file descriptor: readable when the doorbell rings, or when the connection is lost."""
        return self.connection.fileno()

    def rang(self) -> bool:
        """Read what the socket holds; tell whether the doorbell rang. Raises psycopg.OperationalError."""
        return sum(1 for _ in self.connection.notifies(timeout=0)) > 0

    def can_ring(self) -> bool:
        """Tell whether the doorbell works here: it is silent where transactions can be prepared."""
        row = self.connection.execute("select current_setting('max_prepared_transactions') = '0'").fetchone()
        return bool(row and row[0])

    def somebody_sleeps(self) -> bool:
        """Tell whether another relay sleeps at the doorbell, so that every writer rings for all."""
        row = self.connection.execute(
            "select exists (select from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock' and granted"
            " and database = (select oid from pg_database where datname = current_database())"
            " and classid = %s::bigint::oid and objid = %s::bigint::oid and objsubid = 1)",
            (DOORBELL >> 32, DOORBELL & 0xFFFFFFFF),
        ).fetchone()
        return bool(row and row[0])

    def enable_routes(self) -> None:
        """Make the door give events the operations that the configuration has, and no others."""
        self.connection.execute(ENABLE_ROUTES, (self._operations, self._operations))

    def take_over(self, older_than_s: float) -> list[tuple[Claim, datetime]]:
        """Take claims over whose workers must be gone; return each with the instant it was claimed at."""
        rows = self.connection.execute(
            TAKE_OVER, (older_than_s, self.worker, TAKE_OVER_MAX, self.worker), binary=True
        ).fetchall()
        return [(_claim(row[:-1]), row[-1]) for row in rows]

    def turn(self, turn: Turn) -> Answer:
        """Do a turn in one transaction and one round trip.

        Raises psycopg.Error; then it is not known whether the turn took effect, and it is to be made again after `connect`.
        """
        answer = Answer()
        accepted, others = _sorted_out(turn.conclusions)
        cursors: dict[str, psycopg.Cursor[Any]] = {}
        with self.connection.pipeline():
            if turn.disarm:
                self._execute("select pg_advisory_unlock(%s)", (DOORBELL,))
            if turn.arm:
                cursors["arm"] = self._execute("select pg_try_advisory_lock(%s)", (DOORBELL,))
            if accepted:
                cursors["accepted"] = self._execute(ACKNOWLEDGE, _acknowledgements(accepted, self.worker))
            if others:
                cursors["others"] = self._execute(CONCLUDE, (_conclusions(others), self.worker))
            if turn.notes:
                self._execute(NOTE_DESTINATIONS, (_json(turn.notes),))
            if turn.unclaimed:
                self._execute(FOLLOW, (*_keys(turn.unclaimed), self._waiting))
            if turn.candidates:
                cursors["claims"] = self._execute(CLAIM, (*_keys(turn.candidates), self._blocking, self.worker))
            if turn.looks:
                cursors["found"] = self._execute(LOOK, (*_looks(turn.looks), self._operations))
            if turn.rereads:
                cursors["reread"] = self._execute(
                    REREAD, (_array(turn.rereads), self._operations, REREAD_MAX)
                )
            cursors["destinations"] = self._execute(DESTINATIONS, (self.worker,))
        self._read(answer, cursors, turn)
        return answer

    def _execute(self, statement: str, parameters: Sequence[Any]) -> psycopg.Cursor[Any]:
        return self.connection.execute(statement, parameters, binary=True)  # type: ignore[call-overload, no-any-return]

    def _read(self, answer: Answer, cursors: dict[str, psycopg.Cursor[Any]], turn: Turn) -> None:
        concluded = {row[0] for key in ("accepted", "others") if key in cursors for row in cursors[key]}
        answer.overtaken = [it for it in turn.conclusions if it.claim.delivery_id not in concluded]
        if "claims" in cursors:
            answer.claims = [_claim(row) for row in cursors["claims"]]
        for destination, *due in cursors.get("found", ()):
            answer.found.setdefault(destination, []).append(Due(*due))
        answer.reread = [Due(*due) for due in cursors.get("reread", ())]
        for destination, paused, failure_count, rest_s, foreign_s in cursors["destinations"]:
            answer.destinations.append(DestinationState(destination, paused, failure_count, rest_s))
            answer.oldest_foreign_claim_s = foreign_s
        if "arm" in cursors:
            answer.armed = cursors["arm"].fetchall()[0][0]


def _sorted_out(conclusions: Sequence[Conclusion]) -> tuple[list[Conclusion], list[Conclusion]]:
    """Part the plainly accepted ones, nearly all, from the others."""
    accepted, others = [], []
    for conclusion in conclusions:
        (accepted if conclusion.outcome is Outcome.ACCEPTED else others).append(conclusion)
    return accepted, others


def _acknowledgements(conclusions: Sequence[Conclusion], worker: UUID) -> tuple[Any, ...]:
    claims = [conclusion.claim for conclusion in conclusions]
    exchanges = [conclusion.exchange for conclusion in conclusions]
    return (
        _array([claim.lane for claim in claims]),
        _array([claim.delivery_id for claim in claims]),
        _array([claim.number for claim in claims]),
        _array([exchange.took_us if exchange else 0 for exchange in exchanges]),
        _array([exchange.status or 0 if exchange else 0 for exchange in exchanges]),
        "{" + ",".join(f'"\\\\x{(it.digest or b"").hex()}"' for it in conclusions) + "}",
        [conclusion.excerpt for conclusion in conclusions],
        worker,
    )


def _conclusions(conclusions: Sequence[Conclusion]) -> str:
    return _json([_conclusion(conclusion) for conclusion in conclusions])


def _conclusion(conclusion: Conclusion) -> dict[str, Any]:
    claim, verdict, exchange = conclusion.claim, conclusion.verdict, conclusion.exchange
    missed = conclusion.outcome is Outcome.NOT_FOUND
    return {
        "lane": claim.lane,
        "delivery_id": claim.delivery_id,
        "number": claim.number,
        "took_us": exchange.took_us if exchange else None,
        "outcome": conclusion.outcome,
        "evidence": exchange.evidence if exchange else None,
        "status": exchange.status if exchange else None,
        "verdict": verdict.action,
        "state": STATES[verdict.action],
        "due_in_s": conclusion.due_in_s,
        "counts": int(verdict.counts),
        "miss_count": claim.misses + missed if verdict.action is Action.INQUIRE else 0,
        "reason": verdict.reason or None,
        "digest": conclusion.digest.hex() if conclusion.digest else None,
        "excerpt": conclusion.excerpt,
    }


def _looks(looks: Sequence[Look]) -> tuple[list[str], str, str]:
    return (
        [look.destination for look in looks],
        _array([look.after for look in looks]),
        _array([look.count_max for look in looks]),
    )


def _keys(dues: Sequence[Due]) -> tuple[str, str]:
    return _array([due.lane for due in dues]), _array([due.delivery_id for due in dues])


def _array(numbers: Iterable[int]) -> str:
    """Write an array as PostgreSQL reads it: its type is then the same for all sizes of numbers, and so is the plan."""
    return "{" + ",".join(map(str, numbers)) + "}"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _claim(row: Sequence[Any]) -> Claim:
    lane, delivery_id, number, purpose, *rest = row
    return Claim(lane, delivery_id, number, Purpose(purpose), *rest)
