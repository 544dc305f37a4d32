"""A rate that InBoost asks us to keep holds for all workers together, and costs no delivery anything."""

from __future__ import annotations

from itertools import pairwise

from tests.scenarios.judgement import assert_settled
from tests.scenarios.world import World

RATE = 20.0  # a second
SPACE_S = 1 / RATE
LATE_S = 0.25  # by how much the machine may delay one request and not the next


def test_two_workers_together_keep_to_the_rate_of_a_destination(world: World) -> None:
    workers = [world.start({"inboost.hooks.accrual.rate_max": RATE}) for _ in range(2)]
    assert all(worker.name for worker in workers)
    for customer in world.shop.customers(60):
        world.shop.accrue(customer)
    world.until(lambda: world.attempts("set_bonus_balance").count(("accepted", "acknowledge")) == 60, "the API's")
    assert world.inboost.state.ledger.counts["accrual_webhook"]["requests"] < 60, "the API waited for the hook"
    assert_settled(world)
    # As claimed, by the database's clock: exactly so.
    claimed = world.rows(
        "select extract(epoch from begun_at)::float8, worker::text from outbox.attempt"
        " where operation = 'accrual_webhook' order by 1"
    )
    assert len({worker for _, worker in claimed}) == 2, "one of them did it all"
    assert min(later - earlier for (earlier, _), (later, _) in pairwise(claimed)) > SPACE_S * 0.9
    # As it arrived.
    seen = [it for it in world.inboost.state.ledger.requests.after(0) if it.operation == "accrual_webhook"]
    arrived = sorted(it.arrived_monotonic_s for it in seen)
    busiest = max(sum(start <= it < start + 1 for it in arrived) for start in arrived)
    assert len(arrived) == 60 and busiest <= RATE * (1 + LATE_S) + 1
    assert not world.rows("select from outbox.attempt where outcome <> 'accepted'")
