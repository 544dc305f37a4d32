"""A worker killed in each window of the promise.

    pending ──(a)──▶ claimed ──(b)──▶ arrived ──(c)──▶ acted ──(d)──▶ answered ──(e)──▶ concluded ──(f)──▶

In each window four deliveries are caught at once, one for each way of settling a doubt: a balance is sent again, a
purchase is looked up, the accrual hook deduplicates, and the purchase hook is not known to, so that it is held.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.scenarios.judgement import assert_settled, judge
from tests.scenarios.world import HOOKS, PATIENT, QUICK, World

ACCEPTED = ("accepted", "acknowledge")
OPERATIONS = ("accrual_webhook", "add_purchase", "purchase_webhook", "set_bonus_balance")


@pytest.fixture
def recorded(world: World) -> World:
    """A world in which one delivery of each kind waits, all of them in lanes of their own."""
    world.shop.accrue(world.shop.customer())
    world.shop.buy(world.shop.customer())
    return world


@contextmanager
def deaf_inboost() -> Iterator[str]:
    """Yield an address where connections are made by the kernel and nothing is ever read."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def addressed_to(url: str) -> dict[str, str]:
    hooks = {f"inboost.hooks.{hook}.url": f"{url}/api/webhok/{hook}/" for hook in HOOKS}
    return {"inboost.base_url": url, **hooks}


def requests_of(world: World, operation: str) -> int:
    return Counter(it.operation for it in world.inboost.state.ledger.requests.after(0))[operation]


def assert_all_claimed(world: World) -> None:
    assert [operation for operation, _ in world.claims()] == list(OPERATIONS)


def assert_doubt_is_settled(world: World, *, acted: bool) -> None:
    """Start a worker and see each policy followed; `acted` says whether InBoost has acted on the lost requests."""
    sent_before = requests_of(world, "purchase_webhook")
    world.until_asleep(world.start(QUICK))
    assert_settled(world, held=1)
    assert world.attempts("set_bonus_balance") == [("in_doubt", "retry"), ACCEPTED]
    assert world.attempts("accrual_webhook") == [
        ("in_doubt", "retry"),
        ("duplicate", "acknowledge") if acted else ACCEPTED,
    ]
    found = [("found", "acknowledge")]
    not_found = [("not_found", "inquire"), ("not_found", "retry"), ACCEPTED]
    assert world.attempts("add_purchase") == [("in_doubt", "inquire"), *(found if acted else not_found)]
    assert world.attempts("purchase_webhook") == [("in_doubt", "hold")]
    assert [operation for operation, _ in judge(world).held] == ["purchase_webhook"]
    assert requests_of(world, "purchase_webhook") == sent_before, "what is held was sent again"


def test_a_killed_before_its_claim_commits_it_has_done_nothing(recorded: World) -> None:
    with recorded.gate("outbox.claim"):
        worker = recorded.start(PATIENT)
        recorded.until_at_gate(worker)
        worker.kill()
        recorded.end_session(worker)
    assert recorded.claims() == [] and recorded.request_count() == 0
    recorded.start(QUICK)
    assert_settled(recorded)
    assert all(recorded.attempts(operation) == [ACCEPTED] for operation in OPERATIONS)


def test_a_killed_while_its_claim_commits_it_may_have_sent_and_is_in_doubt(recorded: World) -> None:
    with recorded.gate("outbox.claim"):
        worker = recorded.start(PATIENT)
        recorded.until_at_gate(worker)
        worker.kill()
    recorded.until_gone(worker)
    assert_all_claimed(recorded)
    assert_doubt_is_settled(recorded, acted=False)


def test_b_killed_before_its_requests_are_read(recorded: World) -> None:
    with deaf_inboost() as url:
        worker = recorded.start(PATIENT | addressed_to(url))
        recorded.until(recorded.claims, "the claims to be committed")
        worker.kill()
        recorded.until_gone(worker)
    assert_all_claimed(recorded)
    assert_doubt_is_settled(recorded, acted=False)


def test_c_killed_when_its_requests_have_arrived_and_are_acted_upon_late(recorded: World) -> None:
    recorded.inboost.put_faults("*:barrier:point=arrived,count=4")
    worker = recorded.start(PATIENT)
    recorded.until_held("arrived", 4)
    worker.kill()
    assert_all_claimed(recorded)
    assert_doubt_is_settled(recorded, acted=False)
    recorded.release()
    recorded.until(lambda: recorded.inboost.state.ledger.in_flight_count == 0, "InBoost to act on what it had read")
    assert_settled(recorded, held=1)
    assert requests_of(recorded, "purchase_webhook") == 1


def test_d_killed_when_its_requests_were_acted_upon_and_not_answered(recorded: World) -> None:
    recorded.inboost.put_faults("*:barrier:point=acted,count=4")
    worker = recorded.start(PATIENT)
    recorded.until_held("acted", 4)
    worker.kill()
    assert_all_claimed(recorded)
    assert_doubt_is_settled(recorded, acted=True)


def test_e_killed_when_it_was_answered_and_its_conclusions_are_not_committed(recorded: World) -> None:
    with recorded.gate("outbox.attempt"):
        worker = recorded.start(PATIENT)
        recorded.until(lambda: recorded.effect_count() == 4, "InBoost to act")
        recorded.until_at_gate(worker)
        worker.kill()
        recorded.end_session(worker)
    assert_all_claimed(recorded)
    assert_doubt_is_settled(recorded, acted=True)


def test_f_killed_when_its_conclusions_are_committed_it_leaves_nothing_to_do(recorded: World) -> None:
    worker = recorded.start(PATIENT)
    assert_settled(recorded)
    worker.kill()
    recorded.until_asleep(recorded.start(QUICK))
    assert_settled(recorded)
    assert recorded.request_count() == 4
    assert all(recorded.attempts(operation) == [ACCEPTED] for operation in OPERATIONS)


def test_g_killed_while_it_takes_over_it_leaves_the_doubt_to_the_next(recorded: World) -> None:
    recorded.inboost.put_faults("*:barrier:point=acted,count=4")
    first = recorded.start(PATIENT)
    recorded.until_held("acted", 4)
    first.kill()
    recorded.until_gone(first)
    with recorded.gate("outbox.attempt"):
        second = recorded.start(QUICK)
        recorded.until_at_gate(second)
        second.kill()
        recorded.end_session(second)
    assert_all_claimed(recorded)
    assert recorded.request_count() == 4, "nothing is sent before the doubt is written down"
    assert_doubt_is_settled(recorded, acted=True)
