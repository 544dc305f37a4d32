"""The backlog: one cheap reading of what waits."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from outbox_worker.database import backlog
from outbox_worker.database.engine import engine, transaction
from tests.sql.till import Connect, Session, add_customer, sell

NOTHING_IS_DUE = ("held", "dead", "waiting")


@pytest.fixture
def dba(connect: Connect) -> Session:
    return connect()


def read(url: str) -> backlog.Status:
    with transaction(engine(url, application_name="test")) as connection:
        return backlog.read(connection)


def test_an_empty_outbox_has_no_lag_and_all_its_destinations(database_url: str) -> None:
    found = read(database_url)
    assert (found.waiting, found.lag_s, found.claimed_count, found.worker_count) == ([], 0.0, 0, 0)
    assert [it.destination for it in found.destinations] == [
        "accrual_hook",
        "api",
        "expiry_hook",
        "purchase_hook",
        "redemption_hook",
    ]
    assert all(it.rest_until is None and it.paused_at is None for it in found.destinations)


def test_deliveries_are_counted_by_operation_and_state(database_url: str, dba: Session) -> None:
    customer = add_customer(dba)
    for _ in range(3):
        sell(dba, customer)
    dba.execute("update outbox.delivery set state = 'dead', reason = 'x' where delivery_id in (select min(delivery_id)"
                " from outbox.delivery where operation = 'add_purchase')")  # fmt: skip
    found = read(database_url)
    counted = {(it.operation, it.state): it.delivery_count for it in found.waiting}
    assert counted == {
        ("add_purchase", "pending"): 2,
        ("add_purchase", "dead"): 1,
        ("purchase_webhook", "pending"): 3,
        ("accrual_webhook", "pending"): 3,
        ("set_bonus_balance", "pending"): 3,
    }
    assert found.count("pending") == 11
    assert found.count("dead") == 1
    assert found.count("held") == 0


@pytest.mark.parametrize("state", ["pending", "in_doubt"])
def test_the_lag_is_how_long_the_oldest_waits_that_is_to_be_sent(database_url: str, dba: Session, state: str) -> None:
    sell(dba, add_customer(dba))
    dba.execute("update outbox.delivery set due_at = now() - interval '1 hour', state = %s"
                " where operation = 'add_purchase'", [state])  # fmt: skip
    assert 3600 <= read(database_url).lag_s < 3660


@pytest.mark.parametrize("state", NOTHING_IS_DUE)
def test_what_only_a_person_or_a_sync_sets_going_again_makes_no_lag(
    database_url: str, dba: Session, state: str
) -> None:
    sell(dba, add_customer(dba))
    dba.execute("update outbox.delivery set due_at = now() - interval '1 hour', state = %s, reason = 'x'", [state])
    found = read(database_url)
    assert found.lag_s == 0
    assert all(it.oldest_due_at is None for it in found.waiting)


def test_what_is_to_be_retried_later_is_not_late(database_url: str, dba: Session) -> None:
    sell(dba, add_customer(dba))
    dba.execute("update outbox.delivery set due_at = now() + interval '1 hour'")
    assert read(database_url).lag_s == 0


def test_workers_are_those_with_something_in_flight(database_url: str, dba: Session) -> None:
    dba.execute(
        "insert into outbox.claim (lane, delivery_id, number, purpose, worker)"
        " select i, i, 1, 'send', ('00000000-0000-0000-0000-00000000000' || i % 2)::uuid from generate_series(1, 5) i"
    )
    found = read(database_url)
    assert (found.claimed_count, found.worker_count) == (5, 2)


def test_a_destination_tells_why_nothing_goes_there_and_until_when(database_url: str, dba: Session) -> None:
    dba.execute("update outbox.destination set paused_at = now(), pause_reason = '401', failure_count = 3,"
                " rest_until = now() + interval '1 minute' where destination = 'api'")  # fmt: skip
    found = read(database_url)
    (api,) = [it for it in found.destinations if it.destination == "api"]
    assert (api.pause_reason, api.failure_count) == ("401", 3)
    assert api.rest_until is not None
    assert timedelta(0) < api.rest_until - found.read_at <= timedelta(minutes=1)


def test_a_capture_failure_counts_until_it_is_repaired(database_url: str, dba: Session) -> None:
    for number in range(3):
        dba.execute("select outbox.record_capture_failure('purchase', %s::text, '22012', 'x')", [number])
    assert read(database_url).capture_failure_count == 3
    dba.execute("update outbox.capture_failure set repaired_at = now() where source_id = '1'")
    assert read(database_url).capture_failure_count == 2


def test_what_has_been_delivered_is_not_read(database_url: str) -> None:
    """The tables that only grow are not in the plan."""
    with transaction(engine(database_url, application_name="test")) as connection:
        plan = "\n".join(connection.scalars(text("explain select * from outbox.backlog")))
    assert "attempt" not in plan and "event" not in plan.replace("event_id", "")
