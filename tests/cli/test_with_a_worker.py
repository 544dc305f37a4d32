"""An operator and a worker on one database, with InBoost's stand-in: what a person decides is what becomes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from outbox_worker.demo.sandbox import SandboxServer, Settings
from tests.cli.desk import Desk
from tests.scenarios.waiting import until
from tests.scenarios.world import World

WHY = ("--reason", "Olena asked InBoost")
SLEEPS = {"relay.poll_interval": 3600, "inboost.hooks.purchase.on_doubt": "hold"}


@pytest.fixture
def world(database_url: str, worker_login: dict[str, str], tmp_path: Path) -> Iterator[World]:
    with (
        SandboxServer(Settings(any_client=True, seed=1)) as inboost,
        closing(World(database_url, worker_login, tmp_path, inboost)) as world,
    ):
        yield world


def webhooks(world: World) -> Counter[str]:
    """Count what InBoost did about each purchase."""
    effects = world.inboost.state.ledger.effects.after(0)
    return Counter(it.event_id or "" for it in effects if it.operation == "purchase_webhook")


def test_of_two_held_deliveries_one_is_confirmed_and_one_resent_and_each_has_its_effect_once(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    acted, lost = (f"purchase:{world.shop.buy(customer)}" for customer in world.shop.customers(2))
    world.inboost.put_faults(
        "purchase_webhook:reset_after:count=1",  # it acts, and the answer is lost
        "purchase_webhook:reset_before:count=1",  # it does not
    )
    worker = world.start({**SLEEPS, "relay.slots": 1})  # one after the other, in the order of the faults
    until(lambda: world.states() == {"held": 2}, "both to be held")
    world.until_asleep(worker)
    desk = Desk(tmp_path / "worker-1.toml", monkeypatch, capsys)
    held = [it["event_id"] for it in desk("in-doubt", "list", "--json").data["deliveries"]]
    assert held == [acted, lost]
    assert webhooks(world) == {acted: 1}
    assert "InBoost may have it" in desk("events", "show", acted).out

    assert desk("in-doubt", "confirm", acted, *WHY).status == 0
    assert desk("in-doubt", "resend", lost, *WHY).status == 0
    until(lambda: not world.states(), "the worker to be woken and to deliver")
    assert webhooks(world) == {acted: 1, lost: 1}
    for event_id in (acted, lost):
        operations = desk("events", "show", event_id, "--json").data["operations"]
        assert [it["state"] for it in operations] == ["delivered", "delivered"]
    assert [it["number"] for it in operations[1]["attempts"]] == [1, 2]


def test_a_dead_letter_is_requeued_once_its_cause_is_mended_and_what_waited_behind_it_follows(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    waits = {**SLEEPS, "relay.on_dead_letter": "wait"}
    customer = world.shop.customer()
    first, second = (f"purchase:{world.shop.buy(customer)}" for _ in range(2))
    worker = world.start({**waits, "inboost.operations.add_purchase.fields.total": False})
    until(lambda: world.states().get("dead"), "a dead letter")
    desk = Desk(tmp_path / "worker-1.toml", monkeypatch, capsys)
    [lane] = desk("lanes", "--json").data["lanes"]
    assert (lane["event_id"], lane["state"], lane["behind_count"]) == (first, "dead", 1)
    worker.stop()

    world.until_asleep(world.start(waits))
    answer = desk("dead-letters", "requeue", first, *WHY)
    assert answer.lines[0] == f"{first} add_purchase: requeued"
    until(lambda: not world.states(), "the worker to be woken and to deliver")
    assert desk("lanes").status == 1
    effects = world.inboost.state.ledger.effects.after(0)
    assert [it.event_id for it in effects if it.operation == "add_purchase"] == [first, second]
