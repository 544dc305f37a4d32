"""The relay's half of the outbox: one connection, one round trip for a whole turn.

A turn concludes what is over, claims what will be sent at once, and looks for more. Its statements go out together in a
pipeline without BEGIN, which PostgreSQL runs as one transaction: all of it is durable, or none of it is.

What a crash leaves, line by line:
    before the turn commits     nothing has happened: what was over is concluded again or taken over as in doubt;
                                what was to be claimed is still pending
    after it commits            what was over is concluded; what was claimed has a claim row and was perhaps sent:
                                whoever finds the claim older than the request time-out treats it as in doubt
    during the commit           one of the two; a worker that lives on releases, when it is back, the claims that it
                                knows nothing of (it never sent them) and concludes again (the fence makes that
                                harmless)

Locks, in this order: claim rows of concluded lanes, their delivery rows, destination rows, delivery rows to be claimed
(those locked by others are skipped), new claim rows. No statement waits for a lock that accounting holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from outbox_worker.database import schema, statements
from outbox_worker.database.turns import Answer, DestinationState, Look, Turn
from outbox_worker.records import Action, Claim, Conclusion, Outcome, Purpose
from outbox_worker.rules.lanes import Due

DOORBELL = 122550254464888  # the word `outbox` in ASCII; sql/install/ring_doorbell.sql has the same
CHANNEL = "outbox"
REREAD_MAX = 64
TAKE_OVER_MAX = 100

# The statements are planned once, for tables whose statistics say nothing true for longer than a moment: by index,
# always. Durability is not the host's default to relax: a claim that is forgotten is a request sent twice.
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
KEEPALIVE = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10000,
}

STATES = {
    Action.ACKNOWLEDGE: None,
    Action.RETRY: "pending",
    Action.INQUIRE: "in_doubt",
    Action.HOLD: "held",
    Action.DEAD_LETTER: "dead",
    Action.WAIT_FOR_CLIENT: "waiting",
}


class Outbox:
    """The relay's connection. It does not reconnect by itself: `connect` again after a psycopg.OperationalError."""

    def __init__(
        self, conninfo: str, worker: UUID, *, operations: Sequence[str], blocking_states: Sequence[str]
    ) -> None:
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
            connection.execute(statements.END_SESSION, (self._lost_pid, name))
            connection.execute(statements.RELEASE, (self.worker, list(in_flight)))
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
        self.connection.execute(statements.ENABLE_ROUTES, (self._operations, self._operations))

    def take_over(self, older_than_s: float) -> list[tuple[Claim, datetime]]:
        """Take claims over whose workers must be gone; return each with the instant it was claimed at."""
        rows = self.connection.execute(
            statements.TAKE_OVER, (older_than_s, self.worker, TAKE_OVER_MAX, self.worker), binary=True
        ).fetchall()
        return [(_claim(row[:-1]), row[-1]) for row in rows]

    def turn(self, turn: Turn) -> Answer:
        """Do a turn in one transaction and one round trip.

        Raises psycopg.Error; then it is not known whether the turn took effect, and it is to be made again after
        `connect`.
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
                cursors["accepted"] = self._execute(statements.ACKNOWLEDGE, _acknowledgements(accepted))
            if others:
                cursors["others"] = self._execute(statements.CONCLUDE, _conclusions(others))
            if turn.notes:
                self._execute(statements.NOTE_DESTINATIONS, (_json(turn.notes),))
            if turn.unclaimed:
                self._execute(statements.FOLLOW, (*_keys(turn.unclaimed), self._waiting))
            if turn.candidates:
                cursors["claims"] = self._execute(
                    statements.CLAIM, (*_keys(turn.candidates), self._blocking, self.worker)
                )
            if turn.looks:
                cursors["found"] = self._execute(statements.LOOK, (*_looks(turn.looks), self._operations))
            if turn.rereads:
                cursors["reread"] = self._execute(
                    statements.REREAD, (_array(turn.rereads), self._operations, REREAD_MAX)
                )
            if turn.survey:
                cursors["foreign"] = self._execute(statements.FOREIGN_CLAIMS, (self.worker,))
            cursors["destinations"] = self._execute(statements.DESTINATIONS, ())
        self._read(answer, cursors, turn)
        return answer

    def _execute(self, statement: str, parameters: Sequence[Any] | dict[str, Any]) -> psycopg.Cursor[Any]:
        return self.connection.execute(statement, parameters, binary=True)

    def _read(self, answer: Answer, cursors: dict[str, psycopg.Cursor[Any]], turn: Turn) -> None:
        rows = {key: cursor.fetchall() for key, cursor in cursors.items()}
        written = {lane for key in ("accepted", "others") for (lane,) in rows.get(key, ())}
        answer.overtaken = [it for it in turn.conclusions if it.claim.lane not in written]
        answer.claims = [_claim(row) for row in rows.get("claims", ())]
        for destination, *due in rows.get("found", ()):
            answer.found.setdefault(destination, []).append(Due(*due))
        answer.reread = [Due(*row) for row in rows.get("reread", ())]
        answer.destinations = [DestinationState(*row) for row in rows["destinations"]]
        if turn.survey:
            answer.oldest_foreign_claim_s = rows["foreign"][0][0]
        if turn.arm:
            answer.armed = rows["arm"][0][0]


def _sorted_out(conclusions: Sequence[Conclusion]) -> tuple[list[Conclusion], list[Conclusion]]:
    """Part the plainly accepted ones, nearly all, from the others."""
    accepted: list[Conclusion] = []
    others: list[Conclusion] = []
    for conclusion in conclusions:
        (accepted if conclusion.outcome is Outcome.ACCEPTED else others).append(conclusion)
    return accepted, others


def _acknowledgements(conclusions: Sequence[Conclusion]) -> dict[str, Any]:
    exchanges = [conclusion.exchange for conclusion in conclusions]
    return _fences(conclusions) | {
        "took_us": _array(exchange.took_us if exchange else 0 for exchange in exchanges),
        "statuses": _array(exchange.status or 0 if exchange else 0 for exchange in exchanges),
        "digests": b"".join(conclusion.digest or bytes(32) for conclusion in conclusions),
        "excerpts": [conclusion.excerpt for conclusion in conclusions],
    }


def _conclusions(conclusions: Sequence[Conclusion]) -> dict[str, Any]:
    return _fences(conclusions) | {"said": _json([_conclusion(conclusion) for conclusion in conclusions])}


def _fences(conclusions: Sequence[Conclusion]) -> dict[str, Any]:
    return {
        "lanes": _array(conclusion.claim.lane for conclusion in conclusions),
        "claim_ids": _array(conclusion.claim.claim_id for conclusion in conclusions),
    }


def _conclusion(conclusion: Conclusion) -> dict[str, Any]:
    claim, verdict, exchange = conclusion.claim, conclusion.verdict, conclusion.exchange
    missed = conclusion.outcome is Outcome.NOT_FOUND
    return {
        "lane": claim.lane,
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
    claim_id, lane, delivery_id, number, purpose, *rest = row
    return Claim(claim_id, lane, delivery_id, number, Purpose(purpose), *rest)
