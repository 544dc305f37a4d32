"""Clients that InBoost does not know, and customers that cannot be reached: what is theirs waits, others go on."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from outbox_worker.demo.sandbox import SandboxServer, Settings
from tests.scenarios.judgement import assert_settled
from tests.scenarios.world import World

KNOWN, UNKNOWN = "+380501111111", "+380502222222"


@pytest.fixture
def inboost() -> Iterator[SandboxServer]:
    """InBoost's stand-in that knows one client."""
    with SandboxServer(Settings(seed=1)) as inboost:
        inboost.do(inboost.state.register, [KNOWN], time.time())
        yield inboost


def release(world: World) -> None:
    """Do what the customer sync does when InBoost has come to know a client."""
    world.do("update outbox.delivery set state = 'pending', reason = null where state = 'waiting'")
    world.do("notify outbox")


def requests_of(world: World, operation: str) -> list[str]:
    return [it.phone or "" for it in world.inboost.state.ledger.requests.after(0) if it.operation == operation]


def test_what_is_an_unknown_clients_waits_in_order_while_others_go_on(world: World) -> None:
    known, unknown = world.shop.customer(KNOWN), world.shop.customer(UNKNOWN)
    for number in range(5):
        world.shop.buy(unknown, f"{number + 1}.00")
        world.shop.buy(known, f"{number + 1}.00")
    worker = world.start()
    world.until(lambda: world.states() == {"waiting": 5}, "the unknown client's purchases to wait")
    world.until(lambda: world.effect_count() == 15, "the hooks and the known client to be served")
    assert requests_of(world, "add_purchase").count(UNKNOWN) == 1, "who follows is not tried"
    assert world.attempts("add_purchase").count(("unknown_client", "wait_for_client")) == 1
    world.shop.buy(unknown, "6.00")
    world.until(lambda: world.states() == {"waiting": 6}, "a later purchase to wait too")
    world.until_asleep(worker)
    world.inboost.do(world.inboost.state.register, [UNKNOWN], time.time())
    release(world)
    assert_settled(world)
    assert requests_of(world, "add_purchase").count(UNKNOWN) == 7


def test_a_release_that_comes_too_early_waits_again(world: World) -> None:
    world.shop.accrue(world.shop.customer(UNKNOWN))
    worker = world.start()
    world.until(lambda: world.states() == {"waiting": 1}, "the balance to wait")
    world.until_asleep(worker)
    release(world)
    world.until(lambda: len(requests_of(world, "set_bonus_balance")) == 2, "another try")
    world.until(lambda: world.states() == {"waiting": 1}, "the balance to wait again")
    world.inboost.do(world.inboost.state.register, [UNKNOWN], time.time())
    release(world)
    assert_settled(world)


def test_what_is_a_customers_without_a_usable_phone_waits_and_the_reason_tells_no_number(world: World) -> None:
    typed = [None, "", "none", "12345", "0501234", "+999999999999"]
    for phone in typed:
        world.shop.buy(world.shop.customer(phone), accrued="1.00")
    known = world.shop.customer(KNOWN)
    world.shop.buy(known)
    worker = world.start()
    world.until(lambda: world.states() == {"waiting": 4 * len(typed)}, "all of it to wait, and the other's to go")
    assert world.request_count() == world.effect_count() == 2
    told = {reason for (reason,) in world.rows("select reason from outbox.delivery")}
    told |= {reason or "" for (reason,) in world.rows("select reason from outbox.attempt")}
    told |= {str(line.get("reason")) for line in worker.lines_of("attempt")}
    assert not [phone for phone in typed for text in told if phone and phone != "none" and phone in text]
