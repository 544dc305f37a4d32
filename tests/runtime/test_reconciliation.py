"""What is missing is found and recorded, whatever kept it from being captured; what is there is left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from outbox_worker.errors import SchemaMismatch
from outbox_worker.runtime import reconciliation
from outbox_worker.runtime.reconciliation import KindCounts, Reconciled, Terms, reconcile
from tests.scenarios.shop import Shop
from tests.scenarios.waiting import until

Check = Callable[..., Reconciled]
Connect = Callable[..., psycopg.Connection[Any]]
NOW = Terms(grace=timedelta(0))
DRY = Terms(grace=timedelta(0), dry_run=True)


@pytest.fixture
def worker_url(database_url: str, worker_login: dict[str, str]) -> str:
    """What the worker connects with: the rights of sql/install/rights.sql, and no others."""
    return make_conninfo(database_url, **worker_login)


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with closing(Shop(database_url)) as shop:
        yield shop


@pytest.fixture
def owner(connect: Connect) -> psycopg.Connection[Any]:
    return connect()


@pytest.fixture
def check(worker_url: str) -> Check:
    """Reconcile the last three days, down to this moment."""

    def reconcile_now(terms: Terms = NOW, **window: datetime) -> Reconciled:
        since = window.pop("since", datetime.now(UTC) - timedelta(days=3))
        return reconcile(worker_url, since=since, terms=terms, **window)

    return reconcile_now


def deliveries(owner: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    """Return what is to be sent, in order."""
    return owner.execute("select operation, event_id from outbox.delivery order by delivery_id").fetchall()


def events(owner: psycopg.Connection[Any], kind: str) -> list[tuple[str, bool]]:
    """Return the events of a kind with whether they are history, in the order in which they were recorded."""
    query = "select event_id, historic from outbox.event where kind = %s order by sequence"
    return owner.execute(query, [kind]).fetchall()


def forget(owner: psycopg.Connection[Any]) -> None:
    """Empty the outbox, as a restore from before the first sale does."""
    owner.execute("truncate outbox.event, outbox.delivery")


def bypass(owner: psycopg.Connection[Any], statement: str, *parameters: Any) -> None:
    """Change accounting as bulk loads do that want no triggers."""
    with owner.transaction():
        owner.execute("set local session_replication_role = replica")
        owner.execute(statement, parameters)


def sell_bypassing(shop: Shop, customer: int) -> None:
    with shop._session.transaction():
        shop._session.execute("set local session_replication_role = replica")
        shop.record_purchase(customer, "120.50", accrued="1.20")


def test_where_nothing_is_missing_nothing_is_recorded(shop: Shop, owner: Any, check: Check) -> None:
    shop.buy(shop.customer(), accrued="1.20")
    before = deliveries(owner)
    found = check()
    assert found.is_whole
    assert found.counts == {
        "purchase": KindCounts(1, 1),
        "bonus_accrual": KindCounts(1, 1),
        "bonus_balance": KindCounts(1, 1),
    }
    assert deliveries(owner) == before


TABLES = {"purchase": "capture_purchase", "bonus_entry": "capture_bonus_entry"}
BREAKAGES = ["disable trigger {}", "enable replica trigger {}", "drop trigger"]


@pytest.mark.parametrize("breakage", [*BREAKAGES, "bulk load", "restore"])
def test_whatever_kept_a_sale_from_being_captured_it_is_recorded_as_it_would_have_been(
    shop: Shop, owner: Any, check: Check, breakage: str
) -> None:
    customer = shop.customer()
    shop.buy(customer, accrued="1.20")
    for table, trigger in TABLES.items():
        if breakage == "drop trigger":
            owner.execute(f"drop trigger {trigger} on accounting.{table}")
        elif breakage in BREAKAGES:
            owner.execute(f"alter table accounting.{table} {breakage.format(trigger)}")
    if breakage == "bulk load":
        sell_bypassing(shop, customer)
    else:
        shop.buy(customer, accrued="1.20")
    if breakage == "restore":
        owner.execute("delete from outbox.event where source_id = '2'; delete from outbox.delivery")
    found = check()
    assert not found.is_whole
    assert found.counts["purchase"] == KindCounts(2, 1, recorded_count=1)
    assert found.counts["bonus_accrual"] == KindCounts(2, 1, recorded_count=1)
    missed = [it for it in deliveries(owner) if it[1] in ("purchase:2", "bonus_accrual:2")]
    assert sorted(missed) == [
        ("accrual_webhook", "bonus_accrual:2"),
        ("add_purchase", "purchase:2"),
        ("purchase_webhook", "purchase:2"),
    ]
    captured, recorded = owner.execute(
        "select payload from outbox.event where kind = 'purchase' order by source_id"
    ).fetchall()
    for payload in (captured[0], recorded[0]):
        del payload["purchase_id"], payload["purchased_at"]
    assert recorded == captured
    assert check().is_whole, "a second look finds nothing"
    assert owner.execute("select count(*) from outbox.duplicate").fetchone() == (0,)


def test_what_is_older_than_a_day_starts_no_campaign(shop: Shop, owner: Any, check: Check) -> None:
    shop.buy(shop.customer())
    bypass(owner, "update accounting.purchase set purchased_at = now() - interval '25 hours'")
    forget(owner)
    assert check().counts["purchase"] == KindCounts(1, 0, recorded_count=1)
    assert events(owner, "purchase") == [("purchase:1", True)]
    assert deliveries(owner) == [("add_purchase", "purchase:1")]


def test_what_occurred_before_the_window_or_after_it_or_a_moment_ago_is_left_alone(
    shop: Shop, owner: Any, check: Check
) -> None:
    for _ in range(3):
        shop.buy(shop.customer())
    bypass(owner, "update accounting.purchase set purchased_at = now() - interval '4 days' where purchase_id = 1")
    bypass(owner, "update accounting.purchase set purchased_at = now() - interval '2 days' where purchase_id = 2")
    forget(owner)
    assert check(until=datetime.now(UTC) - timedelta(days=1)).counts["purchase"].fact_count == 1
    assert check(Terms(grace=timedelta(hours=1))).counts["purchase"].fact_count == 1
    assert events(owner, "purchase") == [("purchase:2", True)]


def test_a_dry_run_tells_what_is_missing_and_records_nothing(shop: Shop, owner: Any, check: Check) -> None:
    shop.buy(shop.customer(), accrued="1.20")
    forget(owner)
    found = check(DRY)
    assert not found.is_whole
    assert {kind: it.fact_count - it.known_count for kind, it in found.counts.items()} == {
        "purchase": 1,
        "bonus_accrual": 1,
        "bonus_balance": 1,
    }
    assert deliveries(owner) == []


@pytest.mark.parametrize("batch_max", [1, 4, 1000])
def test_what_was_missing_is_recorded_in_the_order_in_which_it_occurred(
    shop: Shop, owner: Any, check: Check, batch_max: int
) -> None:
    customers = shop.customers(2)
    for number in range(12):
        shop.buy(customers[number % 2])
    # The later the number, the earlier it occurred, and three each at the same instant.
    bypass(
        owner,
        "update accounting.purchase set purchased_at = date_trunc('day', now()) - (purchase_id / 3) * interval '1 min'",
    )
    forget(owner)
    check(Terms(grace=timedelta(0), batch_max=batch_max))
    expected = sorted(range(1, 13), key=lambda number: (-(number // 3), number))
    assert [event_id for event_id, _ in events(owner, "purchase")] == [f"purchase:{number}" for number in expected]


def test_a_fact_that_the_door_refuses_is_told_and_keeps_no_other_from_being_recorded(
    shop: Shop, owner: Any, check: Check
) -> None:
    for _ in range(5):
        shop.buy(shop.customer())
    forget(owner)
    owner.execute("alter table outbox.event add constraint refused check (source_id <> '3') not valid")
    found = check()
    assert [(it.kind, it.source_id) for it in found.refused] == [("purchase", "3")]
    assert "refused" in found.refused[0].reason
    assert found.counts["purchase"] == KindCounts(5, 0, recorded_count=4, refused_count=1)
    assert not check().is_whole


def test_a_capture_that_failed_is_repaired_once_its_fact_can_be_recorded(shop: Shop, owner: Any, check: Check) -> None:
    customer = shop.customer()
    owner.execute("alter table accounting.purchase alter purchased_at set default 'infinity'")
    shop.buy(customer)
    failures = "select kind, source_id, repaired_at is not null from outbox.capture_failure"
    assert owner.execute(failures).fetchall() == [("purchase", "1", False)]
    found = check()
    assert [(it.kind, it.source_id) for it in found.refused] == [("purchase", "1")]
    assert not found.is_whole
    # A person corrects it, to an instant that is in no window.
    bypass(owner, "update accounting.purchase set purchased_at = '2001-01-01'")
    assert not check(DRY).is_whole
    assert check().counts["purchase"] == KindCounts(0, 0, recorded_count=1, repaired_count=1)
    assert events(owner, "purchase") == [("purchase:1", True)]
    assert owner.execute(failures).fetchall() == [("purchase", "1", True)]
    assert check().is_whole


def test_a_capture_that_failed_of_a_fact_that_is_gone_stays_open_for_a_person(
    shop: Shop, owner: Any, check: Check
) -> None:
    owner.execute(
        "insert into outbox.capture_failure (kind, source_id, sqlstate, message) values ('purchase', '7', '22000', '')"
    )
    assert "no such fact" in check().refused[0].reason
    assert owner.execute("select repaired_at from outbox.capture_failure").fetchall() == [(None,)]


# Balances


def balances(owner: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    """Return the balances that were recorded, in the order in which they are sent."""
    return owner.execute(
        "select event_id, payload ->> 'balance' from outbox.event join outbox.delivery using (event_id)"
        " where kind = 'bonus_balance' order by delivery_id"
    ).fetchall()


def test_a_balance_that_changed_unseen_is_recorded_as_it_is_now(shop: Shop, owner: Any, check: Check) -> None:
    customer = shop.customer()
    shop.accrue(customer, "1.20")
    bypass(owner, "update accounting.bonus_account set balance = 7.70, changed_at = now()")
    bypass(owner, "update accounting.bonus_account set balance = 9.90, changed_at = now()")
    assert check(DRY).counts["bonus_balance"] == KindCounts(1, 0)
    assert check().counts["bonus_balance"] == KindCounts(1, 0, recorded_count=1)
    sequence = owner.execute("select sequence from outbox.event where kind = 'bonus_balance' limit 1").fetchone()[0]
    assert balances(owner) == [
        (f"bonus_balance:{customer}-1", "1.20"),
        (f"bonus_balance:{customer}-after-{sequence}", "9.90"),
    ]
    assert check().is_whole
    bypass(owner, "update accounting.bonus_account set balance = 1.20, changed_at = now()")
    check()
    assert [balance for _, balance in balances(owner)] == ["1.20", "9.90", "1.20"], (
        "back to what it was is a change too"
    )


def test_a_balance_that_nobody_was_told_and_that_is_nothing_is_not_missing(
    shop: Shop, owner: Any, check: Check
) -> None:
    _nothing, something = shop.customers(2)
    bypass(owner, "update accounting.bonus_account set balance = 0.05 where customer_id = %s", something)
    assert check().counts["bonus_balance"] == KindCounts(2, 1, recorded_count=1)
    assert balances(owner) == [(f"bonus_balance:{something}-after-0", "0.05")]


def test_an_account_that_was_only_touched_is_not_sent_again(shop: Shop, owner: Any, check: Check) -> None:
    shop.accrue(shop.customer(), "1.20")
    owner.execute("update outbox.event set recorded_at = now() - interval '40 days'")
    owner.execute("update accounting.bonus_account set balance = balance, changed_at = now()")
    assert check().counts["bonus_balance"] == KindCounts(1, 1)
    assert len(balances(owner)) == 1


def test_an_account_that_does_not_say_when_it_changed_is_compared_when_all_are(
    shop: Shop, owner: Any, check: Check
) -> None:
    shop.customer()
    bypass(owner, "update accounting.bonus_account set balance = 7, changed_at = now() - interval '40 days'")
    assert check().counts["bonus_balance"] == KindCounts(0, 0)
    assert check(Terms(grace=timedelta(0), all_balances=True)).counts["bonus_balance"] == KindCounts(
        1, 0, recorded_count=1
    )


def test_a_balance_whose_capture_failed_is_repaired_though_the_window_is_too_short(
    shop: Shop, owner: Any, check: Check
) -> None:
    shop.customer()
    owner.execute("update accounting.bonus_account set balance = 7, changed_at = 'infinity'")
    assert owner.execute("select kind from outbox.capture_failure").fetchall() == [("bonus_balance",)]
    bypass(owner, "update accounting.bonus_account set changed_at = now() - interval '1 hour'")
    found = check(since=datetime.now(UTC))
    assert found.counts["bonus_balance"] == KindCounts(1, 0, recorded_count=1, repaired_count=1)
    assert check().is_whole


# Beside others


class Running(Thread):
    """A reconciliation that goes on beside the test."""

    def __init__(self, check: Check, terms: Terms = NOW) -> None:
        super().__init__()
        self._check, self._terms = check, terms
        self.found: Reconciled
        self.start()

    def run(self) -> None:
        self.found = self._check(self._terms)


HAS_RECORDED = (
    "pid in (select pid from pg_locks where relation = 'outbox.event'::regclass and mode = 'RowExclusiveLock')"
    " and state = 'idle in transaction'"
)


def until_it(owner: psycopg.Connection[Any], condition: str, what: str) -> None:
    query = f"select from pg_stat_activity where application_name = 'outbox-worker reconcile' and {condition}"
    until(lambda: owner.execute(query).fetchall(), what)


def test_who_records_the_same_fact_at_the_same_moment_makes_a_duplicate_and_nothing_else(
    shop: Shop, owner: Any, check: Check, connect: Connect
) -> None:
    shop.buy(shop.customer())
    forget(owner)
    other = connect(autocommit=False)
    other.execute("select outbox.record_event('purchase', '1', '1', '{}', now())")
    running = Running(check)
    until_it(owner, "wait_event_type = 'Lock'", "the reconciliation to wait for the other recorder")
    other.commit()
    running.join()
    assert running.found.counts["purchase"] == KindCounts(1, 0)
    assert [event_id for event_id, _ in events(owner, "purchase")] == ["purchase:1"]
    assert owner.execute("select event_id from outbox.duplicate").fetchall() == [("purchase:1",)]
    assert len(deliveries(owner)) == 2


def test_two_reconciliations_at_once_record_every_fact_and_every_balance_once(
    shop: Shop, owner: Any, check: Check
) -> None:
    for customer in shop.customers(20):
        shop.buy(customer, accrued="1.20")
    forget(owner)
    both = [Running(check, Terms(grace=timedelta(0), batch_max=3)) for _ in range(2)]
    for running in both:
        running.join()
    recorded = {
        kind: sum(running.found.counts[kind].recorded_count for running in both)
        for kind in ("purchase", "bonus_accrual", "bonus_balance")
    }
    assert recorded == {"purchase": 20, "bonus_accrual": 20, "bonus_balance": 20}
    assert len(deliveries(owner)) == 20 * 4
    assert not any(running.found.refused for running in both)


def test_a_balance_that_is_being_changed_is_not_overtaken_by_what_it_was(
    shop: Shop, owner: Any, check: Check, connect: Connect
) -> None:
    shop.customer()
    bypass(owner, "update accounting.bonus_account set balance = 7, changed_at = now()")
    till = connect(autocommit=False)
    till.execute("update accounting.bonus_account set balance = 8, changed_at = now()")
    running = Running(check)
    until_it(owner, HAS_RECORDED, "the reconciliation to have recorded and to wait")
    till.commit()
    running.join()
    assert [balance for _, balance in balances(owner)] == ["8.00"]
    assert check().is_whole


def test_a_balance_in_a_transaction_that_does_not_end_is_left_for_the_next_time(
    shop: Shop, owner: Any, check: Check, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciliation, "PATIENCE_S", 0.05)
    customer = shop.customer()
    bypass(owner, "update accounting.bonus_account set balance = 7, changed_at = now()")
    till = connect(autocommit=False)
    till.execute("update accounting.bonus_account set balance = 8, changed_at = now()")
    found = check()
    assert [(it.kind, it.source_id) for it in found.refused] == [("bonus_balance", f"{customer}-after-0")]
    till.rollback()
    assert check().counts["bonus_balance"] == KindCounts(1, 0, recorded_count=1)
    assert [balance for _, balance in balances(owner)] == ["7.00"]


def test_a_mapping_that_does_not_say_what_a_fact_is_is_named(owner: Any, check: Check) -> None:
    owner.execute("drop view integration.fact")
    with pytest.raises(SchemaMismatch, match="lacks view fact"):
        check()
