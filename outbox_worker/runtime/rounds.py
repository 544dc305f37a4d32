"""Rounds: work that comes every so often, in a process of its own beside the relay's loop.

    look ──due?──▶ take the round's lock ──still due?──▶ begin ──▶ the round itself ──▶ end

Each round has a thread of its own, so that one that takes an hour holds up no other. What is where in the database, and
what a crash leaves, stands in `database.rounds`. All instants are those of the database's clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic

import structlog

from outbox_worker import logs
from outbox_worker.database import rounds as database
from outbox_worker.database.engine import engine, explained, single_statements, transaction
from outbox_worker.database.round_states import RoundState
from outbox_worker.database.rounds import Hold, Outcome
from outbox_worker.errors import OutboxWorkerError, RunningElsewhere, SchemaMismatch
from outbox_worker.rules.timetable import Timetable, due_at

LOOK_S_MAX = 60.0  # how soon a resume or a changed row is noticed; a pause always is, before a run begins
HELD_ELSEWHERE_S = 30.0  # how soon another worker that died while it ran a round is stood in for
AFTER_TROUBLE_S = (2.0, 5.0, 10.0, 30.0)
STILL_HELD_S = 5.0  # how often a run looks whether it still has its lock

_log = structlog.get_logger("outbox_worker.rounds")


class BrokenOff(Exception):
    """What was done is kept, and the round is due again at once."""


class Ticking:
    """What a round is told while it runs: what time it is for, when it began, and whether to stop."""

    def __init__(
        self, planned_for: datetime, began_at: datetime, stop: threading.Event, is_lost: Callable[[], bool]
    ) -> None:
        self.planned_for = planned_for
        self.began_at = began_at
        self._stop = stop
        self._is_lost = is_lost
        self._look_at_s = monotonic() + STILL_HELD_S

    def stopping(self) -> bool:
        """Whether to stop: the worker does, or this run has lost its lock. Ask at least every few seconds."""
        if not self._stop.is_set() and monotonic() > self._look_at_s:
            self._look_at_s = monotonic() + STILL_HELD_S
            if self._is_lost():
                self._stop = threading.Event()
                self._stop.set()
        return self._stop.is_set()

    def go_on(self) -> None:
        """Raise BrokenOff if it is time to stop."""
        if self.stopping():
            raise BrokenOff

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond a stop; raise BrokenOff if that comes."""
        self._stop.wait(seconds)
        self.go_on()


@dataclass(frozen=True, slots=True)
class Round:
    """A round: its name, a row of outbox.round; when it is due; and what it does.

    `run` opens connections of its own and returns counts for the journal. It is called again after a crash at any
    point, and in rare cases beside a run that lost its lock: what it does twice must have its effect once. It asks
    `Ticking.stopping` now and then, and raises BrokenOff if it has not finished.
    """

    name: str
    timetable: Timetable
    run: Callable[[Ticking], Mapping[str, int]]

    def due_at(self, state: RoundState) -> datetime | None:
        """Return when it is due; None is at once."""
        return due_at(self.timetable, done_for=state.done_for, began_at=state.began_at, try_count=state.try_count)

    def wait_s(self, state: RoundState) -> float:
        """Return how long it is until then, 0 when it is due now."""
        due = self.due_at(state)
        return 0.0 if due is None else max((due - state.read_at).total_seconds(), 0.0)


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a run; `bug` is what nobody foresaw."""

    outcome: Outcome
    counts: Mapping[str, int]
    error: str | None = None
    bug: Exception | None = None


def run_now(round_: Round, conninfo: str, stop: threading.Event) -> Ran:
    """Run a round because a person says so, due or not, paused or not. Raises RunningElsewhere."""
    with database.hold(conninfo, round_.name) as held:
        if held is None:
            raise RunningElsewhere(
                f"round {round_.name} is being run at this moment, by a worker or another person; "
                "see `outbox-worker rounds list`"
            )
        return _run(round_, held, held.read(), stop)


def _run(round_: Round, held: Hold, state: RoundState, stop: threading.Event) -> Ran:
    """Run a round that is held, and write down what comes of it."""
    planned_for = round_.timetable.latest(state.read_at)
    held.begin(planned_for)
    ran = _outcome(round_, Ticking(planned_for, state.read_at, stop, held.is_lost))
    held.end(ran.outcome, ran.counts, ran.error)
    return ran


def _outcome(round_: Round, ticking: Ticking) -> Ran:
    try:
        return Ran("done", round_.run(ticking))
    except BrokenOff:
        return Ran("stopped", {})
    except OutboxWorkerError as error:
        return Ran("failed", {}, logs.clean(str(error)))
    except Exception as bug:  # it must not end the other rounds, nor this one for ever
        return Ran("failed", {}, logs.clean(f"{type(bug).__name__}: {bug}".partition("\n")[0]), bug)


def _tell(round_: Round, ran: Ran, took_s: float) -> None:
    words: dict[str, object] = {"round": round_.name, "took_s": round(took_s, 3), **ran.counts}
    if ran.outcome == "failed":
        _log.error("round failed", error=ran.error, exc_info=ran.bug, **words)
    else:
        _log.info(f"round {ran.outcome}", **words)


class Rounds:
    """Runs rounds when they are due, until told to stop."""

    def __init__(self, rounds: Sequence[Round], conninfo: str, stop: threading.Event) -> None:
        self._rounds = rounds
        self._conninfo = conninfo
        self._stop = stop
        self._engine = engine(conninfo, application_name="outbox-worker rounds")
        self._troubles = 0

    def run(self) -> None:
        """Run until the stop, and return when what ran has ended."""
        while not self._stop.is_set() and not self._is_enabled():
            self._stop.wait(self._after_trouble())
        if not self._rounds:
            self._stop.wait()  # that they are switched off is noted, and there is nothing else to do
        threads = [threading.Thread(target=self._keep, args=[it], name=it.name) for it in self._rounds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def run_once(self, round_: Round) -> float:
        """Run a round if it is due; return for how many seconds there is nothing to do about it."""
        state = self._read(round_.name)
        if state.paused_at is not None or (wait_s := round_.wait_s(state)) > LOOK_S_MAX:
            return LOOK_S_MAX
        if wait_s > 0:
            return wait_s
        with database.hold(self._conninfo, round_.name) as held:
            if held is None:
                return HELD_ELSEWHERE_S
            state = held.read()  # somebody may have run or paused it before the lock was ours
            if state.paused_at is None and not round_.wait_s(state):
                began_s = monotonic()
                _tell(round_, _run(round_, held, state, self._stop), monotonic() - began_s)
        return 0.0

    def enable(self) -> None:
        """Note in the database which rounds there are."""
        with explained(), transaction(self._engine) as connection:
            now = database.read(connection)[0].read_at
            database.enable(connection, {it.name: it.timetable.done_at_first(now) for it in self._rounds})

    def _is_enabled(self) -> bool:
        try:
            self.enable()
        except OutboxWorkerError as error:
            _log.warning("rounds wait for the database", error=str(error))
            return False
        return True

    def _keep(self, round_: Round) -> None:
        while not self._stop.is_set():
            try:
                wait_s = self.run_once(round_)
                self._troubles = 0
            except OutboxWorkerError as error:
                _log.warning("round cannot be run", round=round_.name, error=str(error))
                wait_s = self._after_trouble()
            except Exception:  # or this round would silently never be run again
                _log.exception("round cannot be run", round=round_.name)
                wait_s = AFTER_TROUBLE_S[-1]
            self._stop.wait(wait_s)

    def _after_trouble(self) -> float:
        self._troubles += 1
        return AFTER_TROUBLE_S[min(self._troubles, len(AFTER_TROUBLE_S)) - 1]

    def _read(self, name: str) -> RoundState:
        with explained(), single_statements(self._engine) as connection:
            found = [state for state in database.read(connection) if state.round == name]
        if not found:
            raise SchemaMismatch(
                f"outbox.round has no row {name}; bring the schema up with `outbox-worker schema install`"
            )
        return found[0]
