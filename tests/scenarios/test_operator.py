"""A person settles what is held and dead, with the commands, while workers run and sales go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.desk import Desk
from tests.scenarios.judgement import assert_settled
from tests.scenarios.trade import Trade
from tests.scenarios.world import World

WHY = ("--all", "--yes", "--reason", "InBoost's side says so")
HOLDING = {
    "inboost.hooks.redemption.receiver_deduplicates": True,
    "relay.on_hold": "wait",
    "relay.on_dead_letter": "wait",
}
ROUNDS = 12


@pytest.fixture
def desk(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Desk:
    world.configure("desk", HOLDING)
    return Desk(tmp_path / "desk.toml", monkeypatch, capsys)


def break_some(world: World, customers: list[int], number: int) -> None:
    """Record purchases that InBoost refuses: a number that is none."""
    for customer in customers[:number]:
        world.shop.buy(customer, "1.00")
    world.do("update outbox.event set payload = replace(payload::text, '\"total\" : 1.00', '\"total\" : {}')::json")


def mend(world: World) -> None:
    world.do("update outbox.event set payload = replace(payload::text, '\"total\" : {}', '\"total\" : 1.00')::json")


def test_what_is_resent_and_requeued_while_workers_run_has_its_effect_once(world: World, desk: Desk) -> None:
    customers = world.shop.customers(20)
    break_some(world, customers, 6)
    world.inboost.put_faults(
        "purchase_webhook:reset_after:probability=0.2", "purchase_webhook:reset_before:probability=0.2"
    )
    for _ in range(2):
        world.start(HOLDING)
    world.until(lambda: world.states().get("dead", 0) >= 6, "the refusals")
    mend(world)
    with Trade(world.database_url, customers, seed=9):
        for _ in range(ROUNDS):
            world.until(lambda: world.states().keys() & {"held", "dead"}, "something to settle")
            assert desk("in-doubt", "resend", *WHY).status in (0, 1, 3)
            assert desk("dead-letters", "requeue", *WHY).status in (0, 1, 3)
    world.inboost.put_faults()

    def is_settled() -> bool:
        desk("in-doubt", "resend", *WHY)
        return not world.states()

    world.until(is_settled, "the last ones to be settled")
    assert_settled(world)
    for act, verdict in (("resend", "hold"), ("requeue", "dead_letter")):
        acts = world.value("select count(*) from outbox.act where act = %s", act)
        assert acts == world.value("select count(*) from outbox.attempt where verdict = %s", verdict) > 0
    assert world.inboost.sandbox.summary()["overlap"]["count_max"] == 1
