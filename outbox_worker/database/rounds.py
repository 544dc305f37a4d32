"""Rounds in the database: which are due, who runs one, and what came of it.

Who runs a round holds its lock: a session advisory lock, of a session that does nothing else. It is idle, in no
transaction, so it holds back no vacuum however long the run takes; and PostgreSQL lets the lock go when the session
ends, whatever ended it. The run is begun and ended through that very session: who has lost it cannot say that it is
done.

What a crash leaves, line by line:
    before `begin` commits             nothing: the round is due as before
    after it, while the round runs     the lock is gone with the session; `try_count` says that a run began. It is due
                                       again after a wait that grows, and the next run notes this one as crashed
    after the work, before `end`       the same: the round is run again, so each round must be repeatable
    after `end` commits                it is done
    the session ends, the run goes on  another may begin the same round beside it: what a round does must bear that; the
                                       run that lost its lock is told to stop, and its `end` is refused

Locks: the row of the round, for a statement. Nothing of accounting's, and no sale reads these tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, TextClause, text

from outbox_worker.database import acts
from outbox_worker.database.acts import Deed, Instruction
from outbox_worker.database.engine import engine, explained
from outbox_worker.database.round_states import STATES, RoundState
from outbox_worker.errors import DatabaseUnavailable

Outcome = Literal["done", "failed", "stopped"]
"""What came of a run; one whose worker did not live to say it is `crashed`."""

# A host that vanished without a word keeps its rounds for half a minute, not for two hours.
_SETTINGS = {
    "idle_session_timeout": "0",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "4",
}


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a round, as the journal has it. `outcome` is None while it runs, or since its worker died."""

    round: str
    planned_for: datetime
    began_at: datetime
    ended_at: datetime | None
    outcome: str | None
    counts: dict[str, int]
    error: str | None
    recorder: str


# The lock of a round is a hash of its name in a space of its own: "roun" in ASCII is 1919907182.
_TAKE = text("select pg_try_advisory_lock(1919907182, hashtext(:round))")

_ALL = text(STATES + "order by it.round")
_ONE = text(STATES + "where it.round = :round")

_ENABLE = text("""
update outbox.round it
set enabled_at = coalesce(it.enabled_at, clock_timestamp()), done_for = coalesce(it.done_for, :done_for)
where it.round = :round
  and (it.enabled_at is null or (it.done_for is null and cast(:done_for as timestamptz) is not null))
""")

_DISABLE = text(
    "update outbox.round it set enabled_at = null where it.enabled_at is not null and it.round <> all (:rounds)"
)

_BEGIN = text("""
with left_over as (
    update outbox.round_run run set ended_at = clock_timestamp(), outcome = 'crashed'
    where run.round = :round and run.ended_at is null
    returning run.round_run_id
), begun as (
    update outbox.round it
    set began_at = clock_timestamp(), try_count = it.try_count + 1,
        crashed_count = it.crashed_count + (select count(*) from left_over)
    where it.round = :round
    returning it.round
)
insert into outbox.round_run (round, planned_for)
select begun.round, :planned_for from begun
returning round_run_id
""")

_END = text("""
with ended as (
    update outbox.round_run run
    set ended_at = clock_timestamp(), outcome = :outcome, counts = cast(:counts as jsonb), error = :error
    where run.round_run_id = :run_id and run.ended_at is null
    returning run.round, run.planned_for, run.ended_at
)
update outbox.round it
set done_for = case when :outcome = 'done' then greatest(it.done_for, ended.planned_for) else it.done_for end,
    succeeded_at = case when :outcome = 'done' then ended.ended_at else it.succeeded_at end,
    try_count = case :outcome when 'done' then 0 when 'stopped' then greatest(it.try_count - 1, 0)
                else it.try_count end,
    done_count = it.done_count + (:outcome = 'done')::integer,
    failed_count = it.failed_count + (:outcome = 'failed')::integer
from ended
where it.round = ended.round
returning it.round
""")

_PAUSE = text("""
update outbox.round it set paused_at = clock_timestamp(), pause_reason = :reason
where it.round = :round and it.paused_at is null
""")

_LOCK_PAUSED = text("""
select it.pause_reason from outbox.round it where it.round = :round and it.paused_at is not null for update
""")

_RESUME = text("update outbox.round it set paused_at = null, pause_reason = null where it.round = :round")

_RUNS = text("""
select run.round, run.planned_for, run.began_at, run.ended_at, run.outcome, run.counts, run.error, run.recorder
from outbox.round_run run
where run.round = :round
order by run.round_run_id desc
limit :count_max
""")


def read(connection: Connection) -> list[RoundState]:
    """Return all rounds."""
    return [RoundState(*row) for row in connection.execute(_ALL)]


def runs(connection: Connection, name: str, count_max: int) -> list[Run]:
    """Return the latest runs of a round, the last one first."""
    return [Run(*row) for row in connection.execute(_RUNS, {"round": name, "count_max": count_max})]


def enable(connection: Connection, rounds: Mapping[str, datetime | None]) -> None:
    """Note which rounds the settings have run, the others being switched off; with what counts as done of a new one."""
    for name, done_for in rounds.items():
        connection.execute(_ENABLE, {"round": name, "done_for": done_for})
    connection.execute(_DISABLE, {"rounds": list(rounds)})


def pause(connection: Connection, name: str, instruction: Instruction) -> bool:
    """Have a round run by nobody but a person until somebody resumes it; return whether that is new."""
    is_new = connection.execute(_PAUSE, {"round": name, "reason": instruction.reason}).rowcount > 0
    if is_new:
        acts.record(connection, instruction, [Deed("pause", round=name)])
    return is_new


def resume(connection: Connection, name: str, instruction: Instruction) -> bool:
    """Have the workers run a round again; return whether it was paused."""
    lock = text(
        "select it.pause_reason from outbox.round it where it.round = :round and it.paused_at is not null for update"
    )
    before = connection.execute(lock, {"round": name}).one_or_none()
    if before is None:
        return False
    connection.execute(_RESUME, {"round": name})
    detail = msgspec.json.encode({"pause_reason": before[0]}).decode()
    acts.record(connection, instruction, [Deed("resume", round=name, detail=detail)])
    return True


class Hold:
    """The right to run a round, for as long as its session lasts."""

    def __init__(self, session: Connection, name: str) -> None:
        self._session = session
        self._name = name
        self._run_id: int | None = None

    def read(self) -> RoundState:
        """Return the round's row as it is now that nobody else can begin a run."""
        [row] = self._ask(_ONE, round=self._name)
        return RoundState(*row)

    def begin(self, planned_for: datetime) -> None:
        """Write down that a run begins, and that those before it that never ended have crashed."""
        [(self._run_id,)] = self._ask(_BEGIN, round=self._name, planned_for=planned_for)

    def end(self, outcome: Outcome, counts: Mapping[str, int], error: str | None) -> None:
        """Write down what came of the run. Raises DatabaseUnavailable when the lock was lost meanwhile."""
        encoded = msgspec.json.encode(dict(counts)).decode()
        if not self._ask(_END, run_id=self._run_id, outcome=outcome, counts=encoded, error=error):
            raise DatabaseUnavailable(f"round {self._name} was begun by somebody else before this run of it ended")

    def is_lost(self) -> bool:
        """Tell whether the session has ended, and the lock with it. Costs a round trip."""
        try:
            self._ask(text("select 1"))
        except DatabaseUnavailable:
            return True
        return False

    def _ask(self, statement: TextClause, **parameters: Any) -> Sequence[Any]:
        if self._session.invalidated:  # SQLAlchemy would connect anew, without the lock
            raise DatabaseUnavailable(f"round {self._name} lost its lock: its session with the database has ended")
        with explained():
            return self._session.execute(statement, parameters).all()


@contextmanager
def hold(conninfo: str, name: str) -> Iterator[Hold | None]:
    """Take the lock of a round for the block; None is given when somebody else has it.

    Raises DatabaseUnavailable when the server cannot be reached.
    """
    made = engine(conninfo, application_name=f"outbox-worker round {name}", settings=_SETTINGS)
    with explained():
        session = made.connect().execution_options(isolation_level="AUTOCOMMIT")
    with closing(session):
        with explained():
            is_ours = session.scalar(_TAKE, {"round": name})
        yield Hold(session, name) if is_ours else None
