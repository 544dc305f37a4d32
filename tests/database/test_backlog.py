"""The backlog: one cheap reading of what waits."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest

from outbox_worker.database import backlog
from outbox_worker.database.connecting import look
from tests.sql.till import Connect, Session, add_customer, sell

NOTHING_IS_DUE = ("held", "dead", "waiting")


@pytest.fixture
def dba(connect: Connect) -> Session:
    return connect()


def read(url: str) -> backlog.Status:
    with look(url, "test") as connection:
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


FILL = """
insert into outbox.delivery (lane, event_id, operation, destination, state, reason)
select outbox.lane_of('api', i::text), 'bonus_balance:' || i, 'set_bonus_balance', 'api', %(state)s, 'x'
from generate_series(1, %(count)s) i
"""


@pytest.mark.parametrize("analyzed", ["before", "after", "never"])
def test_to_read_what_is_open_costs_no_more_the_more_waits(database_url: str, dba: Session, analyzed: str) -> None:
    """Rows read are counted, in the plan of the statement that the metrics and the status line run."""
    if analyzed == "before":
        dba.execute("analyze outbox.delivery")
    for state in ("waiting", "pending"):
        dba.execute(FILL, {"state": state, "count": 25_000})
    if analyzed == "after":
        dba.execute("analyze outbox.delivery")
    explained = f"explain (analyze, format json) {backlog._OPEN}"
    [[[plan]]] = dba.execute(explained, {"open_max": backlog.OPEN_MAX}).fetchall()
    assert sum(_rows_read(plan["Plan"])) == backlog.OPEN_MAX


def test_a_large_table_is_looked_through_once_a_minute_and_a_small_one_each_time(
    database_url: str, dba: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    dba.execute(FILL, {"state": "dead", "count": 2})
    reader = backlog.StatusReader(database_url, "test")
    assert reader().count("dead") == 2
    dba.execute(FILL, {"state": "dead", "count": 1})
    monkeypatch.setattr(backlog, "COUNTED_ANEW_BYTES_MAX", 0)
    assert reader().count("dead") == 3
    dba.execute(FILL, {"state": "dead", "count": 1})
    dba.execute(FILL, {"state": "in_doubt", "count": 1})
    found = reader()
    assert (found.count("dead"), found.count("in_doubt")) == (3, 1)
    monkeypatch.setattr(backlog, "monotonic", lambda: monotonic() + backlog.KEPT_S)
    assert reader().count("dead") == 4


def _rows_read(node: dict[str, Any]) -> Iterator[int]:
    """Return how many rows each scan of the deliveries read, those that it threw away as well."""
    if node.get("Relation Name") == "delivery":
        yield round((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
    for child in node.get("Plans", ()):
        yield from _rows_read(child)


def test_where_very_much_waits_a_reading_says_that_it_did_not_count_all(database_url: str, dba: Session) -> None:
    dba.execute(FILL, {"state": "pending", "count": 10_001})
    dba.execute(FILL, {"state": "dead", "count": 3})
    dba.execute("update outbox.delivery set due_at = now() - interval '1 hour'"
                " where delivery_id = (select min(delivery_id) from outbox.delivery)")  # fmt: skip
    dba.execute("select pg_stat_force_next_flush()")
    found = read(database_url)
    assert (found.count("pending"), found.is_at_least("pending")) == (10_000, True)
    assert (found.count("dead"), found.is_at_least("dead")) == (3, False)
    assert 3600 <= found.lag_s < 3660
    assert found.estimated_count == pytest.approx(10_004, abs=200)
