"""The parts of the demo together: who may do what, and what a shop that knows nothing of the outbox does to it."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from time import monotonic

import psycopg
import pytest
import requests

from outbox_worker.demo import books, customers, purchases, sales, shop
from outbox_worker.demo.progress import Observer, Progress
from outbox_worker.demo.verdict import judge
from outbox_worker.demo.world import World, world

SECONDS_MAX = 60
CDNOW = Path(__file__).parents[3] / "shared" / "data" / "cdnow.csv"
needs_cdnow = pytest.mark.skipif(not CDNOW.is_file(), reason=f"the CDNOW data set is not at {CDNOW}")


@pytest.fixture(scope="module")
def stage() -> Iterator[World]:
    with world(faults=[], seed=1) as stage:
        yield stage


def invite(stage: World, planned: list[sales.Sale], seed: int) -> dict[str, int]:
    invited = customers.invent((sale.customer for sale in planned if sale.customer), seed)
    stage.control.register(customer.phone for customer in invited.values())
    return shop.register(stage.shop_url, invited.values())


def replay(stage: World, planned: list[sales.Sale], seed: int) -> Progress:
    """Sell everything, and wait until it is delivered."""
    with shop.Replay(stage.shop_url, planned, invite(stage, planned, seed), rate=0) as replay:
        observer = Observer(stage.worker_url, stage.control, replay, len(planned))
        give_up_at_s = monotonic() + SECONDS_MAX
        while not (replay.is_over() and (progress := observer.look()).is_settled):
            stage.processes.check()
            assert monotonic() < give_up_at_s
        return progress


def sale(
    customer: str | None = "a", total: str = "100.00", *, redeems: bool = False, broken_off: bool = False
) -> sales.Sale:
    line = sales.Line("A1", "Платівка", 1, Decimal(total), Decimal(total))
    return sales.Sale(customer, timedelta(0), Decimal(total), (line,), redeems, broken_off)


def count(url: str, question: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(question).fetchone()
        assert row
        return int(row[0])


@pytest.mark.parametrize(
    "attempt",
    [
        "select count(*) from outbox.event",
        "insert into outbox.event (event_id) values ('x')",
        "delete from outbox.delivery",
        "select outbox.record_event('purchase', '1', '1', '{}', now())",
        "select count(*) from integration.customer",
        "create table accounting.mine ()",
        "set role outbox_worker",
    ],
)
def test_the_shop_may_do_nothing_to_the_outbox(stage: World, attempt: str) -> None:
    with psycopg.connect(stage.shop_url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(attempt)


@pytest.mark.parametrize(
    "attempt",
    [
        "select count(*) from accounting.purchase",
        "insert into outbox.event (event_id) values ('x')",
        "update outbox.attempt set verdict = 'acknowledge'",
        "create schema mine",
        "create table outbox.mine ()",
        "set role outbox_owner",
    ],
)
def test_the_worker_may_do_no_more_than_deliver(stage: World, attempt: str) -> None:
    with psycopg.connect(stage.worker_url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(attempt)


def test_what_holds_a_password_can_be_read_by_nobody_else(stage: World) -> None:
    assert stat.S_IMODE(stage.configuration_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(stage.processes.directory.stat().st_mode) == 0o700


def test_the_worker_is_ready_when_the_world_is(stage: World) -> None:
    assert requests.get(f"{stage.monitoring_url}/health/ready", timeout=5).status_code == 200


def test_a_sale_that_is_broken_off_leaves_no_event_although_it_was_captured(stage: World) -> None:
    before = count(stage.owner_url, "select count(*) from outbox.event where kind = 'purchase'")
    replay(stage, [sale("broken", broken_off=True)], seed=2)
    assert count(stage.owner_url, "select count(*) from outbox.event where kind = 'purchase'") == before + 1
    drawn = count(stage.owner_url, "select last_value from accounting.purchase_purchase_id_seq")
    assert count(stage.owner_url, f"select count(*) from accounting.purchase where purchase_id = {drawn - 1}") == 0


def test_a_sale_to_nobody_and_a_free_one_earn_nothing(stage: World) -> None:
    before = books.read(stage.shop_url)
    replay(stage, [sale(None), sale("free", "0.00")], seed=3)
    after = books.read(stage.shop_url)
    assert len(after.purchases) == len(before.purchases) + 1
    assert after.entries == before.entries


def test_nobody_redeems_more_than_he_has(stage: World) -> None:
    replay(stage, [sale("poor", "100.00"), sale("poor", "10.00", redeems=True), sale("poor", redeems=True)], seed=4)
    entries = books.read(stage.shop_url).entries[-5:]
    changes = [entry.change for entry in entries]
    assert changes == [Decimal(text) for text in ("5.00", "-3.00", "0.50", "-2.50", "5.00")]


def test_one_customers_sales_are_committed_in_the_order_of_their_dates(stage: World) -> None:
    before = len(books.read(stage.shop_url).purchases)
    planned = [sale(name, f"{number}.00") for number in range(1, 31) for name in ("x", "y", "z")]
    replay(stage, planned, seed=5)
    totals: dict[str, list[Decimal]] = {}
    for purchase in books.read(stage.shop_url).purchases[before:]:
        totals.setdefault(purchase.phone, []).append(purchase.total)
    assert len(totals) == 3
    assert all(of_one == sorted(of_one) for of_one in totals.values())


@pytest.mark.parametrize("source", ["drawn", pytest.param("cdnow", marks=needs_cdnow)])
def test_what_is_bought_arrives_and_is_seen_arriving(stage: World, source: str) -> None:
    seed = {"drawn": 6, "cdnow": 7}[source]  # another seed for each, or two customers have one phone
    bought = purchases.read(CDNOW, 100) if source == "cdnow" else purchases.generate(seed, 100)
    progress = replay(stage, sales.plan(bought, seed), seed=seed)
    assert progress.committed_count == 100
    assert progress.delivered_count == count(stage.owner_url, "select count(*) from outbox.attempt")
    assert progress.latency_ms_p50 is not None and 0 <= progress.latency_ms_p50 < 60_000
    # Whatever the other tests have sold is judged with it.
    found = books.read(stage.shop_url)
    verdict = judge(found, stage.control.ledger(found.balances))
    assert verdict.is_clean, verdict.examples
    assert verdict.contact_count > 0
    assert verdict.expected.total() == verdict.arrived.total() == progress.delivered_count


def test_what_goes_wrong_at_a_till_is_not_swallowed(stage: World) -> None:
    with pytest.raises(KeyError, match="stranger"):
        run_out(shop.Replay(stage.shop_url, [sale("stranger")], {}, rate=0))


def run_out(replay: shop.Replay) -> None:
    with replay:
        while not replay.is_over():
            pass


def test_a_closed_shop_sells_nothing_more(stage: World) -> None:
    planned = [sale("late")] * 10
    with shop.Replay(stage.shop_url, planned, invite(stage, planned, 8), rate=0.001) as replay:
        assert not replay.is_over()
    assert replay.is_over()
    assert replay.committed_count <= 1
