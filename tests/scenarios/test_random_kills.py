"""Workers killed at random moments under load: what the windows leave out, chance finds.

The long form, three hundred kills in two worlds, with its totals:
    pytest -m long -rP tests/scenarios/test_random_kills.py
OUTBOX_WORKER_TEST_KILLS is the number of kills in the short form. OUTBOX_WORKER_TEST_SEED repeats a run; what
PostgreSQL and the kernel do in between cannot be repeated.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from random import Random

import pytest

from tests.scenarios.judgement import assert_settled, judge
from tests.scenarios.trade import Trade
from tests.scenarios.worker import Worker
from tests.scenarios.world import DEDUPLICATING, World

SEED = int(os.environ.get("OUTBOX_WORKER_TEST_SEED", "20260131"))
FEW = int(os.environ.get("OUTBOX_WORKER_TEST_KILLS", "18"))
MANY = 300
LIFE_S_MAX = 0.3  # of a worker, from its first request on

# A third of the answers come late, so that a kill meets requests that were acted upon and not answered.
SLOW = "*:slow:seconds=0.02,probability=0.3"


def kill_at_random(world: World, worker: Worker, chance: Random) -> Counter[tuple[str, str]]:
    """Kill a worker at a random moment of its work; return what it had claimed: each is a fault after sending."""
    before = world.request_count()
    world.until(lambda: world.request_count() > before, "a first request")
    time.sleep(chance.uniform(0, LIFE_S_MAX))  # not to wait for anything: this is the random moment
    name = worker.name
    worker.kill()
    world.until_gone(worker)
    return Counter(
        world.rows(
            "select operation, event_id from outbox.claim join outbox.delivery using (lane, delivery_id)"
            " where worker = %s",
            name,
        )
    )


def totals(world: World, kills: int, caught: Counter[tuple[str, str]]) -> dict[str, int]:
    counts = dict(world.rows("select outcome || ' ' || purpose, count(*) from outbox.attempt group by 1"))
    found = judge(world)
    return {
        "events": world.value("select count(*) from outbox.event"),
        "effects": world.effect_count(),
        "kills": kills,
        "caught": caught.total(),
        "in doubt": counts.get("in_doubt send", 0),
        "sent again": world.value(
            "select count(*) from outbox.attempt where outcome = 'in_doubt' and verdict = 'retry'"
        ),
        "looked up": world.value("select count(*) from outbox.attempt where purpose = 'inquire'"),
        "held": len(found.held),
        "lost": len(found.lost),
        "doubled": len(found.doubled),
    }


def assert_each_that_was_caught_is_one_doubt(world: World, caught: Counter[tuple[str, str]]) -> None:
    """No more and no fewer: the attempts of workers that are gone are those that were claimed when they were killed."""
    gone = world.rows(
        "select operation, event_id from outbox.attempt"
        " where outcome in ('in_doubt', 'no_finding') and evidence is null"
    )
    assert Counter(gone) == caught


@pytest.mark.parametrize("rounds", [FEW // 2, pytest.param(MANY // 2, marks=pytest.mark.long)])
def test_killed_at_random_moments_nothing_is_lost_or_doubled(world: World, rounds: int) -> None:
    chance = Random(SEED)  # noqa: S311
    world.inboost.put_faults(SLOW)
    with Trade(world.database_url, world.shop.customers(40), seed=SEED, pause_s_max=0.4):
        caught = sum((kill_at_random(world, world.start(DEDUPLICATING), chance) for _ in range(rounds)), Counter())
    world.start(DEDUPLICATING)
    assert_settled(world, within_s=60)
    assert_each_that_was_caught_is_one_doubt(world, caught)
    assert world.inboost.sandbox.summary()["overlap"]["count_max"] == 1
    print(totals(world, rounds, caught))


@pytest.mark.parametrize("rounds", [FEW // 2, pytest.param(MANY // 2, marks=pytest.mark.long)])
def test_killed_at_random_moments_what_is_held_is_what_nobody_can_know(world: World, rounds: int) -> None:
    """InBoost deduplicates nothing but balances, which do not mind: what is sent twice is seen twice."""
    chance = Random(SEED + 1)  # noqa: S311
    holding = {"inboost.hooks.accrual.receiver_deduplicates": False}
    deduplicated = world.inboost.state.deduplicated & {"set_bonus_balance"}
    world.inboost.do(setattr, world.inboost.state, "deduplicated", deduplicated)
    world.inboost.put_faults(SLOW)
    with Trade(world.database_url, world.shop.customers(40), seed=SEED + 1, pause_s_max=0.4):
        caught = sum((kill_at_random(world, world.start(holding), chance) for _ in range(rounds)), Counter())
    world.start(holding)
    world.until_done(60)
    unanswered = set(
        world.rows("select operation, event_id from outbox.attempt where outcome = 'in_doubt' and evidence is not null")
    )
    assert_each_that_was_caught_is_one_doubt(world, caught)
    hooks = {deed for deed in caught.keys() | unanswered if deed[0].endswith("_webhook")}
    assert set(judge(world).held) == hooks
    assert_settled(world, held=len(hooks))
    assert world.inboost.sandbox.summary()["overlap"]["count_max"] == 1
    print(totals(world, rounds, caught))
