"""What a link owes is sent once, in order, whatever is interrupted: history, then the balance, then what waited."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import psycopg
import pytest

from outbox_worker.database import settlement
from outbox_worker.runtime import links, reconciliation
from tests.database.rows import Rows
from tests.runtime.syncing import put
from tests.scenarios.shop import Shop
from tests.scenarios.waiting import until

PHONE = "+380501112233"
NAMES = ("history_count", "balance_count", "released_count", "expired_count")


@pytest.fixture
def customer(shop: Shop) -> int:
    return shop.customer(PHONE)


@pytest.fixture
def known(portal: Any) -> None:
    put(portal, {"id": 1, "userPhoneNumber": PHONE})


def settled(done: Any) -> tuple[int, ...]:
    return tuple(asdict(done.counts)[name] for name in NAMES)


def before_the_outbox(rows: Rows, statement: str) -> None:
    """Let accounting have done something when nothing was captured yet."""
    with rows._session.transaction():
        rows.do("set local session_replication_role = replica")
        rows.do(statement)


def sent(rows: Rows) -> list[tuple[Any, ...]]:
    """Return what is to go to InBoost's API, in order."""
    return rows.all(
        "select split_part(event_id, ':', 1), historic, payload ->> 'total', payload ->> 'balance'"
        " from outbox.delivery join outbox.event using (event_id) where destination = 'api' order by delivery_id"
    )


@pytest.mark.usefixtures("known")
def test_the_purchases_of_the_window_are_sent_once_and_then_the_balance(rows: Rows, customer: int, run: Any) -> None:
    before_the_outbox(
        rows,
        "insert into accounting.purchase (customer_id, purchased_at, total) values"
        f" ({customer}, now() - interval '4 months', 1), ({customer}, now() - interval '2 months', 2),"
        f" ({customer}, now() - interval '80 days', 3), ({customer}, now() - interval '1 hour', 4)",
    )
    before_the_outbox(rows, "update accounting.bonus_account set balance = 12.30")
    assert settled(run()) == (3, 1, 0, 0)
    assert sent(rows) == [
        ("purchase", True, "3.00", None),
        ("purchase", True, "2.00", None),
        ("purchase", True, "4.00", None),
        ("bonus_balance", True, None, "12.30"),
    ]
    assert rows.all("select count(*) from outbox.delivery where destination <> 'api'") == [(0,)], "no campaign starts"
    assert settled(run()) == (0, 0, 0, 0)


@pytest.mark.usefixtures("known")
def test_what_went_out_live_is_not_sent_again(rows: Rows, shop: Shop, customer: int, run: Any) -> None:
    shop.buy(customer)
    assert settled(run()) == (0, 1, 0, 0)
    shop.buy(customer)
    assert rows.all("select count(*) from outbox.event where kind = 'purchase' and historic") == [(0,)]
    assert rows.all("select count(*) from outbox.duplicate") == [(0,)]


@pytest.mark.usefixtures("known")
def test_the_window_begins_at_a_midnight_of_the_shop(rows: Rows, customer: int, run: Any) -> None:
    start = "date_trunc('day', now() at time zone 'Europe/Kyiv') - interval '3 months'"
    before_the_outbox(
        rows,
        "insert into accounting.purchase (customer_id, purchased_at, total) values"
        f" ({customer}, ({start}) at time zone 'Europe/Kyiv', 1),"
        f" ({customer}, ({start} - interval '1 second') at time zone 'Europe/Kyiv', 2)",
    )
    assert run().counts.history_count == 1
    assert sent(rows)[0] == ("purchase", True, "1.00", None)


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("step", ["record_history", "record_balances", "release"])
def test_an_interruption_at_any_step_doubles_nothing_and_leaves_nothing_out(
    rows: Rows,
    customer: int,
    run: Any,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    before_the_outbox(rows, f"insert into accounting.purchase (customer_id, total) values ({customer}, 2)")
    before_the_outbox(rows, "update accounting.bonus_account set balance = 12.30")
    whole = getattr(settlement, step)

    def dies(*arguments: Any) -> None:
        whole(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(settlement, step, dies)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.undo()
    assert settled(run())[:2] == (1, 1)
    assert sent(rows) == [("purchase", True, "2.00", None), ("bonus_balance", True, None, "12.30")]


@pytest.mark.usefixtures("known")
def test_a_balance_that_changes_while_it_is_recorded_is_not_overwritten_by_the_older_one(
    rows: Rows,
    shop: Shop,
    customer: int,
    run: Any,
    connect: Callable[..., psycopg.Connection[Any]],
) -> None:
    before_the_outbox(rows, "update accounting.bonus_account set balance = 12.30")
    till = connect(autocommit=False)
    till.execute("update accounting.bonus_account set balance = 20.00")
    with ThreadPoolExecutor(1) as pool:
        syncing = pool.submit(run)
        until(lambda: _is_waiting(rows), "the sync to wait for the till")
        till.commit()
        syncing.result(30)
    run()
    assert [it[3] for it in sent(rows)][-1] == "20.00"
    assert [it[3] for it in sent(rows)].count("12.30") <= 1


def _is_waiting(rows: Rows) -> bool:
    """See the sync in the middle of the transaction that records balances."""
    return bool(
        rows.all(
            "select from pg_locks lock join pg_stat_activity using (pid) where lock.relation = 'outbox.event'::regclass"
            " and lock.mode = 'RowExclusiveLock' and application_name = 'outbox-worker customers sync'"
        )
    )


@pytest.mark.usefixtures("known")
def test_a_till_that_stays_open_for_long_leaves_the_balance_for_the_next_run(
    rows: Rows,
    customer: int,
    run: Any,
    connect: Callable[..., psycopg.Connection[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconciliation, "PATIENCE_S", 0.05)
    before_the_outbox(rows, "update accounting.bonus_account set balance = 12.30")
    till = connect(autocommit=False)
    till.execute("select outbox.record_event('purchase', 'x', '9', '{}', now())")
    assert settled(run()) == (0, 0, 0, 0)
    till.commit()
    assert settled(run()) == (0, 1, 0, 0)


@pytest.mark.usefixtures("known", "customer")
def test_beside_a_reconciliation_that_records_balances_the_sync_waits_for_nothing(
    rows: Rows, run: Any, connect: Callable[..., psycopg.Connection[Any]]
) -> None:
    other = connect()
    other.execute("select pg_advisory_lock(122550254464890)")
    assert settled(run()) == (0, 0, 0, 0)
    other.execute("select pg_advisory_unlock_all()")
    assert settled(run()) == (0, 1, 0, 0)


def test_a_till_that_stays_open_is_waited_for_once_however_many_customers_there_are(
    shop: Shop, run: Any, portal: Any, connect: Callable[..., psycopg.Connection[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[Any] = []
    monkeypatch.setattr(links, "BATCH", 2)
    monkeypatch.setattr(links, "outlasts_recorders", waits.append)
    for number in range(6):
        shop.customer(f"+38050222000{number}")
        put(portal, f"+38050222000{number}")
    assert run().counts.linked_count == 6
    assert len(waits) == 1


def test_what_waited_for_the_client_is_released_in_order_and_what_is_too_old_is_closed(
    rows: Rows,
    shop: Shop,
    customer: int,
    run: Any,
    portal: Any,
) -> None:
    for total in ("1.00", "2.00", "3.00"):
        shop.buy(customer, total)
    shop.accrue(customer)
    before_the_outbox(rows, "update outbox.event set occurred_at = now() - interval '4 months' where source_id = '1'")
    rows.waiting("purchase:1")
    for event_id in ("purchase:2", "purchase:3"):
        rows.following(event_id, behind="waits for the client")
    assert settled(run()) == (0, 0, 0, 0), "InBoost does not know the client"
    put(portal, {"id": 1, "userPhoneNumber": PHONE})
    assert settled(run()) == (0, 1, 2, 1)
    assert [it[2] for it in sent(rows) if it[0] == "purchase"] == ["2.00", "3.00"]
    assert rows.state("purchase:1") is None
    assert [rows.state(f"purchase:{number}") for number in (2, 3)] == ["pending", "pending"]
    assert [(act, event_id) for act, event_id, *_ in rows.acts()] == [
        ("expire", "purchase:1"),
        ("release", "purchase:2"),
    ]


def test_a_request_that_was_answered_after_the_link_was_made_does_not_wait_for_ever(
    rows: Rows,
    shop: Shop,
    customer: int,
    run: Any,
    portal: Any,
) -> None:
    put(portal, {"id": 1, "userPhoneNumber": PHONE})
    run()
    shop.buy(customer)
    rows.waiting("purchase:1")
    assert run().counts.released_count == 1
    assert rows.state("purchase:1") == "pending"


@pytest.mark.usefixtures("known")
def test_one_purchase_that_cannot_be_recorded_holds_up_no_other_customer(
    rows: Rows,
    shop: Shop,
    customer: int,
    run: Any,
    portal: Any,
) -> None:
    other = shop.customer("+380672223344")
    put(portal, "+380672223344")
    before_the_outbox(
        rows, f"insert into accounting.purchase (customer_id, total, purchased_at) values ({customer}, 2, 'infinity')"
    )
    before_the_outbox(rows, f"insert into accounting.purchase (customer_id, total) values ({other}, 3)")
    done = run()
    assert (done.counts.history_count, done.counts.balance_count) == (1, 2)
    assert rows.all("select customer_id::bigint from outbox.client where history_sent_at is null") == [(customer,)]
