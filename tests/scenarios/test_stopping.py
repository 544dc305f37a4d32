"""A worker that is asked to stop finishes what it has begun, and begins nothing more."""

from __future__ import annotations

import signal
from time import monotonic

import pytest

from tests.scenarios.judgement import assert_settled
from tests.scenarios.world import PATIENT, World


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_waits_for_what_is_in_flight_and_leaves_nothing_in_doubt(world: World, number: signal.Signals) -> None:
    for customer in world.shop.customers(6):
        world.shop.accrue(customer)
    world.inboost.put_faults("*:barrier:point=acted,count=4")
    worker = world.start(PATIENT | {"relay.slots": 2})
    world.until_held("acted", 4)
    worker.send(number)
    # The signal was heard when the worker looks for nothing more: this is not found before the stop.
    world.shop.accrue(world.shop.customer())
    assert len(world.claims()) == 4 and worker.is_running
    world.release()
    assert worker.wait() == 0
    assert world.claims() == []
    assert world.effect_count() == 4
    assert world.rows("select distinct outcome, verdict from outbox.attempt") == [("accepted", "acknowledge")]
    assert worker.lines()[-1]["event"] == "stopped"
    world.start()
    assert_settled(world)
    assert world.request_count() == 14


def test_a_second_worker_finds_nothing_to_do_after_a_stop(world: World) -> None:
    world.shop.buy(world.shop.customer())
    world.inboost.put_faults("*:barrier:point=acted")
    worker = world.start(PATIENT)
    world.until_held("acted", 2)
    worker.terminate()
    world.release()
    assert worker.wait() == 0
    assert_settled(world)
    world.until_asleep(world.start())
    assert world.request_count() == 2


def test_a_stop_of_an_idle_worker_is_heard_at_once(world: World) -> None:
    worker = world.start({"relay.poll_interval": 60})
    world.until_asleep(worker)
    worker.terminate()
    assert worker.wait(5) == 0


def test_a_stop_with_an_answer_that_never_comes_ends_with_the_request_time_out(world: World) -> None:
    world.shop.accrue(world.shop.customer())
    world.inboost.put_faults("*:hang:act=true,count=2")
    worker = world.start({"inboost.request_timeout": 1})
    world.until(lambda: len(world.claims()) == 2, "the claims to be committed")
    worker.terminate()
    assert worker.wait() == 0
    assert world.claims() == []
    assert world.attempts("accrual_webhook") == [("in_doubt", "retry")]
    world.start()
    assert_settled(world)


def test_a_stop_that_waits_for_an_answer_does_not_burn_the_processor(world: World) -> None:
    world.shop.accrue(world.shop.customer())
    world.inboost.put_faults("*:barrier:point=acted,count=2")
    worker = world.start(PATIENT)
    world.until_held("acted", 2)
    worker.terminate()
    begun_s, spent_s = monotonic(), worker.processor_s()
    world.until(lambda: monotonic() > begun_s + 1, "a second to pass")
    assert worker.processor_s() - spent_s < 0.3
    world.release()
    assert worker.wait() == 0
