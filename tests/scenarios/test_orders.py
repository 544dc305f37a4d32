"""Orders with other contact details, by real workers and real HTTP: each reaches the client that its buyer is, once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest

from outbox_worker.demo.sandbox import SandboxServer, Settings
from tests.cli.desk import Desk
from tests.scenarios.world import DEDUPLICATING, World

ROUNDS = ("customer_sync", "reconciliation", "expiry_notice", "housekeeping")
IDENTIFYING = {"rounds.enabled": True} | {f"rounds.{name}.enabled": False for name in ROUNDS}
KNOWN, OTHER = "+380501234567", "+380507654321"
EMAIL = "anna@example.com"


@pytest.fixture
def inboost() -> Iterator[SandboxServer]:
    """InBoost's stand-in; it knows one client, by one phone."""
    with SandboxServer(Settings(seed=1)) as inboost:
        inboost.do(inboost.state.register, [KNOWN], time.time())
        yield inboost


def order(world: World, customer: int | None = None, email: str | None = None, phone: str | None = None) -> str:
    """Record an order, and return the event that it is."""
    statement = (
        "insert into accounting.purchase (customer_id, total, contact_email, contact_phone) values (%s, 9, %s, %s)"
        " returning purchase_id"
    )
    return f"purchase:{world.rows(statement, customer, email, phone)[0][0]}"


def effects(world: World, operation: str = "add_purchase") -> Counter[tuple[str | None, str | None]]:
    """Count the effects of each event on each phone."""
    seen = world.inboost.state.ledger.effects.after(0)
    return Counter((it.event_id, it.phone) for it in seen if it.operation == operation)


def test_orders_with_another_phone_and_with_an_e_mail_address_alone_reach_the_same_client(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    customer = world.shop.customer("050 123 45 67")
    world.start(IDENTIFYING)
    early = order(world, email=EMAIL)
    world.until(
        lambda: world.rows("select from outbox.delivery where reason = 'no phone of the buyer is known yet'"),
        "an order with an e-mail address alone to wait for a phone",
    )
    orders = [
        order(world, customer),
        order(world, customer, EMAIL, "050 765-43-21"),
        order(world, email="Anna@Example.com"),
        order(world, phone="+38 050 765 43 21"),
    ]
    world.until(lambda: not world.states(), "all to be delivered")
    for operation in ("add_purchase", "purchase_webhook"):
        assert effects(world, operation) == {(it, KNOWN): 1 for it in (early, *orders)}
    attempts = world.rows("select count(*), count(distinct (event_id, operation)) from outbox.attempt")
    assert attempts == [(10, 10)], "each left once, and nothing was asked for in vain"

    desk = Desk(world.configure("desk", IDENTIFYING), monkeypatch, capsys)
    told = desk("events", "show", orders[1])
    assert "of contact 2, to +380*******67: the customer's phone in accounting" in told.out
    assert "1234567" not in told.out
    assert desk("events", "show", orders[0], "--json").data["operations"][0]["addressee"] is None
    shown = desk("contacts", "show", "--email", EMAIL, "--json").data["contacts"]
    assert {event for it in shown for event in it["orders"]} == {early, *orders[1:]}


def test_a_purchase_is_with_inboost_within_a_second_or_so(world: World) -> None:
    """Not after a poll: identification sleeps, and nothing but the bell can wake it in time."""
    customer = world.shop.customer(KNOWN)
    world.start(IDENTIFYING)
    asleep = "select from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock' and objid = %s"
    world.until(lambda: world.rows(asleep, 122550254464892 & 0xFFFFFFFF), "identification to fall asleep")
    event = order(world, customer, EMAIL, OTHER)
    world.until(lambda: effects(world)[event, KNOWN], "the purchase", within_s=5)


@pytest.mark.long
def test_workers_that_are_killed_again_and_again_send_every_order_once_to_its_buyer(world: World) -> None:
    chance = Random(7)  # noqa: S311
    customer = world.shop.customer(KNOWN)
    events = [order(world, customer, EMAIL, OTHER)]
    settings = IDENTIFYING | DEDUPLICATING | {"inboost.request_timeout": 1}
    for _ in range(8):
        worker = world.start(settings)
        for _ in range(10):
            given = chance.choice([(customer, EMAIL, OTHER), (None, EMAIL, None), (None, None, OTHER), (customer,)])
            events.append(order(world, *given))
            time.sleep(chance.random() / 10)
        worker.kill()
    world.start(settings)
    world.until(lambda: not world.states(), "all to be delivered", within_s=90)
    for operation in ("add_purchase", "purchase_webhook"):
        assert effects(world, operation) == dict.fromkeys(((it, KNOWN) for it in events), 1)
