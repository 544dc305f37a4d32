"""Rounds: each is run by one at a time, repeated after a crash, made up for once, and stopped when told so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Event, Thread
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from outbox_worker.database import rounds as database
from outbox_worker.errors import DatabaseUnavailable, RunningElsewhere, SchemaMismatch
from outbox_worker.rules.timetable import Every
from outbox_worker.runtime.rounds import BrokenOff, Ran, Round, Rounds, Ticking, run_now
from tests.scenarios.waiting import until

NAME = "reconciliation"
HOURLY = Every(timedelta(hours=1))
Session = psycopg.connection.Connection[Any]
Work = Callable[[Ticking], Mapping[str, int]]


class Bench:
    """A round whose work is the test's, on a database of its own."""

    def __init__(self, conninfo: str, session: Session) -> None:
        self.conninfo = conninfo
        self.session = session
        self.stop = Event()
        self.times: list[datetime] = []

    def round(self, work: Work | None = None) -> Round:
        return Round(NAME, HOURLY, work or self.work)

    def work(self, ticking: Ticking) -> Mapping[str, int]:
        self.times.append(ticking.planned_for)
        return {"seen_count": len(self.times)}

    def look(self, work: Work | None = None) -> float:
        """Look once, as a worker does, and run the round if it is due."""
        rounds = Rounds([self.round(work)], self.conninfo, self.stop)
        rounds.enable()
        return rounds.run_once(self.round(work))

    def of(self, columns: str) -> Any:
        row = self.session.execute(f"select {columns} from outbox.round where round = %s", [NAME]).fetchone()
        assert row is not None
        return row if len(row) > 1 else row[0]

    def runs(self, columns: str = "outcome") -> list[Any]:
        found = self.session.execute(f"select {columns} from outbox.round_run order by round_run_id").fetchall()
        return [row if len(row) > 1 else row[0] for row in found]

    def pass_time(self, interval: str) -> None:
        """Let everything have happened so much earlier."""
        self.session.execute(
            f"update outbox.round set done_for = done_for - '{interval}'::interval,"
            f" began_at = began_at - '{interval}'::interval"
        )

    def holders(self) -> list[int]:
        found = self.session.execute(
            "select pid from pg_locks where locktype = 'advisory' and classid = 1919907182 and granted"
        )
        return [row[0] for row in found]


@pytest.fixture
def bench(database_url: str, worker_login: dict[str, str], connect: Callable[..., Session]) -> Iterator[Bench]:
    """The round has the rights of a worker and no others."""
    bench = Bench(make_conninfo(database_url, **worker_login), connect())
    yield bench
    bench.stop.set()


class Held:
    """Work that waits until it is let go, in a thread."""

    def __init__(self, bench: Bench, run: Callable[[Work], object]) -> None:
        self.began, self.go, self.was_told = Event(), Event(), Event()
        self.result: object = None
        self._bench = bench
        self._thread = Thread(target=self._run, args=[run])

    def __enter__(self) -> Held:
        self._thread.start()
        assert self.began.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self.go.set()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def work(self, ticking: Ticking) -> Mapping[str, int]:
        self.began.set()
        while not self.go.wait(0.01):
            if ticking.stopping():
                self.was_told.set()
                raise BrokenOff
        return {"held_count": 1}

    def _run(self, run: Callable[[Work], object]) -> None:
        try:
            self.result = run(self.work)
        except Exception as error:
            self.result = error


def test_what_was_never_run_is_run_at_once_and_then_not_before_its_time(bench: Bench) -> None:
    assert bench.look() == 0.0
    assert bench.look() > 0
    assert bench.runs("outcome, counts, error") == [("done", {"seen_count": 1}, None)]
    assert bench.of("try_count, done_count, succeeded_at is not null, done_for is not null") == (0, 1, True, True)


def test_times_that_were_missed_are_made_up_for_once(bench: Bench) -> None:
    bench.look()
    bench.pass_time("9 hours")
    bench.look()
    bench.look()
    assert bench.of("done_count") == 2


def test_a_round_is_run_by_one_at_a_time_and_one_who_comes_late_finds_it_done(bench: Bench) -> None:
    with Held(bench, bench.look) as held:
        assert bench.look() > 0
        with pytest.raises(RunningElsewhere, match="run at this moment"):
            run_now(bench.round(), bench.conninfo, bench.stop)
        assert bench.times == []
        held.go.set()
    assert bench.look() > 0
    assert bench.runs("outcome, counts") == [("done", {"held_count": 1})]


def test_of_many_workers_one_runs_it(bench: Bench) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: bench.look(), range(8)))
    assert bench.of("done_count") == 1


def test_who_reads_before_another_has_run_it_and_takes_the_lock_after_does_not_run_it_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = database.hold

    def late(conninfo: str, name: str) -> Any:
        monkeypatch.setattr(database, "hold", take)
        bench.look()  # somebody else comes first
        return take(conninfo, name)

    monkeypatch.setattr(database, "hold", late)
    bench.look()
    assert bench.of("done_count") == 1


def test_a_run_whose_worker_dies_is_noted_as_crashed_and_repeated_after_a_while(bench: Bench) -> None:
    with database.hold(bench.conninfo, NAME) as held:
        assert held is not None
        held.begin(held.read().read_at)
    assert bench.look() > 0  # not at once: what it does may be what kills workers
    assert bench.runs() == [None]
    bench.pass_time("2 minutes")
    assert bench.look() == 0.0
    assert bench.runs() == ["crashed", "done"]
    assert bench.of("try_count, crashed_count, done_count") == (0, 1, 1)


def test_a_run_that_lost_its_lock_is_told_to_stop_and_cannot_say_that_it_is_done(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outbox_worker.runtime.rounds.STILL_HELD_S", 0.0)
    with Held(bench, bench.look) as held:
        [pid] = bench.holders()
        bench.session.execute("select pg_terminate_backend(%s, 5000)", [pid])
        assert held.was_told.wait(20)
    assert isinstance(held.result, DatabaseUnavailable)
    assert bench.of("done_count, done_for is null") == (0, True)
    bench.pass_time("2 minutes")
    bench.look()
    assert bench.runs() == ["crashed", "done"]


def test_a_run_that_another_began_meanwhile_cannot_end_the_others_run(bench: Bench) -> None:
    with database.hold(bench.conninfo, NAME) as stale:
        assert stale is not None
        stale.begin(stale.read().read_at)
        bench.session.execute("update outbox.round_run set ended_at = now(), outcome = 'crashed'")
        with pytest.raises(DatabaseUnavailable, match="begun by somebody else"):
            stale.end("done", {}, None)
    assert bench.of("done_count") == 0


def test_a_round_that_stops_when_told_is_due_again_at_once(bench: Bench) -> None:
    with Held(bench, bench.look) as held:
        bench.stop.set()
        assert held.was_told.wait(20)
    assert bench.runs() == ["stopped"]
    assert bench.of("try_count, done_for is null") == (0, True)
    bench.stop.clear()
    bench.look()
    assert bench.runs() == ["stopped", "done"]


def fail(ticking: Ticking) -> Mapping[str, int]:
    raise DatabaseUnavailable("no way to +380501234567, password=hunter2")


def break_down(ticking: Ticking) -> Mapping[str, int]:
    raise ZeroDivisionError("of +380501234567")


@pytest.mark.parametrize(("work", "words"), [(fail, "no way to"), (break_down, "ZeroDivisionError: of")])
def test_a_failure_is_kept_without_phones_and_secrets_and_tried_again_at_growing_waits(
    bench: Bench, work: Work, words: str
) -> None:
    bench.look(work)
    [(outcome, error)] = bench.runs("outcome, error")
    assert (outcome, words in error) == ("failed", True)
    assert "501234" not in error and "hunter2" not in error
    assert bench.look(work) > 0
    bench.pass_time("61 seconds")
    bench.look(work)
    bench.pass_time("61 seconds")
    bench.look(work)
    assert bench.of("try_count, failed_count") == (2, 2)
    bench.pass_time("60 seconds")
    bench.look()
    assert bench.of("try_count, failed_count, done_count") == (0, 2, 1)


def test_a_paused_round_is_run_by_nobody_but_a_person(bench: Bench) -> None:
    bench.session.execute("update outbox.round set paused_at = now(), pause_reason = 'x'")
    assert bench.look() > 0
    assert bench.times == []
    assert run_now(bench.round(), bench.conninfo, bench.stop) == Ran("done", {"seen_count": 1})


def test_what_is_run_by_hand_counts_as_done(bench: Bench) -> None:
    run_now(bench.round(), bench.conninfo, bench.stop)
    assert bench.look() > 0
    assert bench.of("done_count") == 1


def test_while_a_round_runs_no_transaction_is_open(bench: Bench) -> None:
    """An hour in a transaction would hold back the vacuum of the whole database."""
    with Held(bench, bench.look):
        [pid] = bench.holders()
        row = bench.session.execute(
            "select state, backend_xmin is null, xact_start is null from pg_stat_activity where pid = %s", [pid]
        ).fetchone()
    assert row == ("idle", True, True)


def test_what_the_settings_switch_off_is_not_fresh_or_stale(bench: Bench) -> None:
    bench.look()
    enabled = bench.session.execute("select round from outbox.round where enabled_at is not null").fetchall()
    assert enabled == [(NAME,)]
    Rounds([Round("housekeeping", HOURLY, bench.work)], bench.conninfo, bench.stop).enable()
    assert bench.of("enabled_at is null") is True


def test_what_nobody_foresaw_between_two_runs_does_not_end_the_loop(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outbox_worker.runtime.rounds.AFTER_TROUBLE_S", (0.0,))
    rounds = Rounds([bench.round()], bench.conninfo, bench.stop)
    bugs = iter([KeyError("bug"), DatabaseUnavailable("away")])
    look = rounds.run_once

    def run_once(round_: Round) -> float:
        if (bug := next(bugs, None)) is not None:
            raise bug
        return look(round_)

    monkeypatch.setattr(rounds, "run_once", run_once)
    thread = Thread(target=rounds.run)
    thread.start()
    until(lambda: bench.of("done_count"), "the round to be done")
    bench.stop.set()
    thread.join(20)


def test_a_schema_without_the_rounds_row_is_refused_with_a_sentence(bench: Bench) -> None:
    bench.session.execute("delete from outbox.round where round = %s", [NAME])
    with pytest.raises(SchemaMismatch, match="schema install"):
        bench.look()


def test_where_all_rounds_are_switched_off_that_is_noted_and_nothing_runs(bench: Bench) -> None:
    bench.look()
    thread = Thread(target=Rounds([], bench.conninfo, bench.stop).run)
    thread.start()
    until(lambda: bench.of("enabled_at is null"), "it to be noted")
    assert thread.is_alive()
    bench.stop.set()
    thread.join(20)
    assert not thread.is_alive()


def test_the_loop_runs_what_is_due_and_ends_when_told(bench: Bench) -> None:
    thread = Thread(target=Rounds([bench.round()], bench.conninfo, bench.stop).run)
    thread.start()
    until(lambda: bench.of("done_count"), "the round to be done")
    bench.stop.set()
    thread.join(20)
    assert not thread.is_alive()
