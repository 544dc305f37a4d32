"""The clock of the worker's host is wrong, or is set while it works. The database's clock decides what is due.

What this proves is about the worker's own reading of the wall clock: see `clock/sitecustomize.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests.scenarios.judgement import assert_settled
from tests.scenarios.trade import Trade
from tests.scenarios.world import DEDUPLICATING, PATIENT, QUICK, World

HOUR_S = 3600.0
FOUND = [("in_doubt", "inquire"), ("found", "acknowledge")]
SetClock = Callable[[float], dict[str, str]]


@pytest.fixture
def set_clock(tmp_path: Path) -> SetClock:
    """Step the clock of the workers that are started with what this returns in their environment."""
    file, new = tmp_path / "clock", tmp_path / "clock.new"

    def set_it(off_s: float) -> dict[str, str]:
        new.write_text(str(off_s))
        new.replace(file)
        return {"PYTHONPATH": str(Path(__file__).parent / "clock"), "OUTBOX_WORKER_TEST_CLOCK": str(file)}

    return set_it


def test_steps_of_an_hour_under_load_cost_nothing(world: World, set_clock: SetClock) -> None:
    world.inboost.put_faults("*:slow:seconds=0.02,probability=0.3")
    worker = world.start(DEDUPLICATING, environment=set_clock(0))
    with Trade(world.database_url, world.shop.customers(20), seed=8):
        for off_s in islice(cycle([HOUR_S, 0, -HOUR_S, 2 * HOUR_S, -2 * HOUR_S]), 10):
            goal = world.effect_count() + 15
            world.until(lambda goal=goal: world.effect_count() >= goal, "more effects")
            set_clock(off_s)
    assert_settled(world)
    assert worker.is_running
    assert world.rows("select distinct outcome from outbox.attempt") == [("accepted",)]


@pytest.mark.parametrize("off_s", [-HOUR_S, pytest.param(HOUR_S, marks=pytest.mark.long)])
def test_a_doubt_is_looked_up_in_time_though_the_clock_was_set_while_the_request_was_under_way(
    world: World, set_clock: SetClock, off_s: float
) -> None:
    world.shop.buy(world.shop.customer())
    world.inboost.put_faults("add_purchase:hang:act=true,count=1")
    environment = set_clock(0)
    world.start({"inboost.request_timeout": 1}, environment=environment)
    world.until(lambda: world.effect_count() == 2, "InBoost to act")
    set_clock(off_s)
    assert_settled(world)
    assert world.attempts("add_purchase") == FOUND


@pytest.mark.parametrize("off_s", [-HOUR_S, pytest.param(HOUR_S, marks=pytest.mark.long)])
def test_a_worker_whose_clock_is_wrong_takes_over_neither_too_early_nor_too_late(
    world: World, set_clock: SetClock, off_s: float
) -> None:
    world.shop.buy(world.shop.customer())
    world.inboost.put_faults("add_purchase:barrier:point=acted,count=1")
    dead = world.start(PATIENT)
    world.until_held("acted", 1)
    world.until(lambda: len(world.claims()) == 1, "the purchase's webhook to be concluded: nobody could look it up")
    world.start(QUICK, environment=set_clock(off_s))
    dead.kill()
    assert_settled(world)
    assert world.attempts("add_purchase") == FOUND
    [(waited_s,)] = world.rows(
        "select extract(epoch from second.begun_at - first.begun_at)::float8 from outbox.attempt first"
        " join outbox.attempt second using (event_id, operation)"
        " where operation = 'add_purchase' and first.number = 1 and second.number = 2"
    )
    assert waited_s > 1, "taken over before the request time-out"
