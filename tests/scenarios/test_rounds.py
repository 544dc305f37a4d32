"""Rounds of a real worker: in a process beside it, that is there again when it dies, and goes when the worker goes."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.scenarios.waiting import until
from tests.scenarios.worker import Worker
from tests.scenarios.world import World

WITH_ROUNDS = {"rounds.enabled": True, "rounds.customer_sync.enabled": False}


def companion(worker: Worker) -> int | None:
    """Return the process id of a worker's companion, once it has begun."""
    for thread in Path(f"/proc/{worker.process.pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            for child in (thread / "children").read_text().split():
                return int(child)
    return None


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def done_count(world: World, name: str = "reconciliation") -> int:
    return int(world.value("select done_count from outbox.round where round = %s", name))


def test_a_worker_runs_its_rounds_and_what_no_trigger_caught_is_delivered(world: World) -> None:
    world.do("alter table accounting.purchase disable trigger user")
    purchase = world.shop.buy(world.shop.customer())
    world.do("update accounting.purchase set purchased_at = purchased_at - interval '1 minute'")
    worker = world.start(WITH_ROUNDS)
    world.until(lambda: world.attempts("purchase_webhook"), "the purchase to be found and delivered")
    assert world.value("select event_id from outbox.event where kind = 'purchase'") == f"purchase:{purchase}"
    until(lambda: worker.lines_of("round done"), "the round to be told of")
    assert worker.stop() == 0
    assert worker.lines()[-1]["event"] == "stopped"


def test_rounds_begin_when_what_had_piled_up_is_delivered(world: World) -> None:
    world.inboost.put_faults("accrual_webhook:barrier:point=acted,count=1")
    world.shop.accrue(world.shop.customer())
    worker = world.start(WITH_ROUNDS | {"inboost.request_timeout": 60})
    world.until_held("acted", 1)
    assert companion(worker) is None
    world.release()
    world.until(lambda: companion(worker), "the rounds to begin")


def test_a_worker_that_is_killed_leaves_no_process_behind_and_its_run_is_repeated_by_another(world: World) -> None:
    with world.gate("outbox.capture_failure", "update"):  # the last thing that the round does
        worker = world.start(WITH_ROUNDS)
        world.until(lambda: world.rows("select from outbox.round_run"), "the round to begin")
        pid = companion(worker)
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)  # so that it cannot end in order
        worker.kill()
        os.kill(pid, signal.SIGKILL)
        until(lambda: not is_alive(pid), "the companion to be gone")
        world.rows("select pg_terminate_backend(pid, 5000) from pg_stat_activity where wait_event = 'advisory'")
    world.do("update outbox.round set began_at = began_at - interval '2 minutes'")
    world.start(WITH_ROUNDS)
    world.until(lambda: done_count(world), "another worker to run it again")
    assert world.rows("select outcome from outbox.round_run order by round_run_id") == [("crashed",), ("done",)]


def test_the_companion_of_a_killed_worker_ends_by_itself(world: World) -> None:
    worker = world.start(WITH_ROUNDS)
    world.until(lambda: done_count(world), "the round to be run")
    pid = companion(worker)
    assert pid is not None
    worker.kill()
    until(lambda: not is_alive(pid), "the companion to end")


@pytest.mark.long
def test_a_companion_that_dies_is_started_again_and_the_relay_does_not_notice(world: World) -> None:
    worker = world.start(WITH_ROUNDS)
    world.until(lambda: done_count(world), "the round to be run")
    pid = companion(worker)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    world.until(lambda: companion(worker) not in (None, pid), "another companion to be started")
    assert [it["exit_status"] for it in worker.lines_of("rounds ended by itself")] == [-signal.SIGKILL]
    world.shop.buy(world.shop.customer())
    world.until_done()
    pid = companion(worker)
    world.configure("worker-1", {**WITH_ROUNDS, "rounds.reconciliation.enabled": False})
    worker.process.send_signal(signal.SIGHUP)  # settings are read again, by the companion too
    world.until(lambda: companion(worker) not in (None, pid), "the companion to be renewed")
    off = "select enabled_at is null from outbox.round where round = 'reconciliation'"
    world.until(lambda: world.value(off), "the new settings to be heeded")
    assert worker.lines_of("settings read again")[0]["taken"] == ["rounds.reconciliation.enabled"]
    assert len(worker.lines_of("rounds ended by itself")) == 1
    assert worker.stop() == 0


@pytest.mark.long
def test_two_workers_run_a_round_once(world: World) -> None:
    workers = [world.start(WITH_ROUNDS) for _ in range(2)]
    world.until(lambda: all(companion(worker) for worker in workers), "both to have a companion")
    world.until(lambda: done_count(world), "the round to be run")
    for worker in workers:
        assert worker.stop() == 0
    assert world.rows("select outcome from outbox.round_run") == [("done",)]
