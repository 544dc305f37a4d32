"""Workers killed at random moments under load: what the windows leave out, chance finds.

The long form, with its totals: pytest -m long -rP tests/scenarios/test_random_kills.py
OUTBOX_WORKER_TEST_SEED repeats a run; what PostgreSQL and the kernel do in between cannot be repeated.
"""

from __future__ import annotations

import os
import time
from random import Random

import pytest

from tests.scenarios.judgement import assert_settled, judge
from tests.scenarios.trade import Trade
from tests.scenarios.worker import Worker
from tests.scenarios.world import DEDUPLICATING, World

SEED = int(os.environ.get("OUTBOX_WORKER_TEST_SEED", "20260131"))
MANY = pytest.param(200, marks=pytest.mark.long)
LIFE_S_MAX = 0.3  # of a worker, from its first request on

# A third of the answers come late, so that a kill meets requests that were acted upon and not answered.
SLOW = "*:slow:seconds=0.02,probability=0.3"


def kill_at_random(world: World, worker: Worker, chance: Random) -> set[tuple[str, str]]:
    """Kill a worker at a random moment of its work; return what it had claimed."""
    before = world.request_count()
    world.until(lambda: world.request_count() > before, "a first request")
    time.sleep(chance.uniform(0, LIFE_S_MAX))  # not to wait for anything: this is the random moment
    name = worker.name
    worker.kill()
    world.until_gone(worker)
    return set(
        world.rows(
            "select operation, event_id from outbox.claim join outbox.delivery using (lane, delivery_id)"
            " where worker = %s",
            name,
        )
    )


def totals(world: World, kills: int) -> dict[str, int]:
    counts = dict(world.rows("select outcome || ' ' || purpose, count(*) from outbox.attempt group by 1"))
    found = judge(world)
    return {
        "events": world.value("select count(*) from outbox.event"),
        "effects": world.effect_count(),
        "kills": kills,
        "in doubt": counts.get("in_doubt send", 0),
        "sent again": world.value(
            "select count(*) from outbox.attempt where outcome = 'in_doubt' and verdict = 'retry'"
        ),
        "looked up": world.value("select count(*) from outbox.attempt where purpose = 'inquire'"),
        "held": len(found.held),
        "lost": len(found.lost),
        "doubled": len(found.doubled),
    }


@pytest.mark.parametrize("rounds", [12, MANY])
def test_killed_at_random_moments_nothing_is_lost_or_doubled(world: World, rounds: int) -> None:
    chance = Random(SEED)  # noqa: S311
    world.inboost.put_faults(SLOW)
    with Trade(world.database_url, world.shop.customers(40), seed=SEED, pause_s_max=0.15):
        for _ in range(rounds):
            kill_at_random(world, world.start(DEDUPLICATING), chance)
    world.start(DEDUPLICATING)
    assert_settled(world, within_s=60)
    assert world.inboost.sandbox.summary()["overlap"]["count_max"] == 1
    print(totals(world, rounds))


@pytest.mark.parametrize("rounds", [6, MANY])
def test_killed_at_random_moments_what_is_held_is_what_nobody_can_know(world: World, rounds: int) -> None:
    """InBoost deduplicates nothing but balances, which do not mind: what is sent twice is seen twice."""
    chance = Random(SEED + 1)  # noqa: S311
    holding = {"inboost.hooks.accrual.receiver_deduplicates": False}
    deduplicated = world.inboost.state.deduplicated & {"set_bonus_balance"}
    world.inboost.do(setattr, world.inboost.state, "deduplicated", deduplicated)
    world.inboost.put_faults(SLOW)
    caught: set[tuple[str, str]] = set()
    with Trade(world.database_url, world.shop.customers(40), seed=SEED + 1, pause_s_max=0.15):
        for _ in range(rounds):
            caught |= kill_at_random(world, world.start(holding), chance)
    world.start(holding)
    world.until_done(60)
    unanswered = set(
        world.rows("select operation, event_id from outbox.attempt where outcome = 'in_doubt' and evidence is not null")
    )
    hooks = {deed for deed in caught | unanswered if deed[0].endswith("_webhook")}
    assert set(judge(world).held) == hooks
    assert_settled(world, held=len(hooks))
    assert world.inboost.sandbox.summary()["overlap"]["count_max"] == 1
    print(totals(world, rounds))
