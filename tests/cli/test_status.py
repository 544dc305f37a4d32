"""`outbox-worker status`: what waits and why, for people and for scripts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.desk import Answer, Desk
from tests.sql.till import Connect, Session, add_customer, sell


@pytest.fixture
def dba(connect: Connect) -> Session:
    return connect()


def row(answer: Answer, destination: str) -> list[str]:
    """Return the words of the row of a destination."""
    (words,) = [line.split() for line in answer.lines if line.split()[:1] == [destination]]
    return words


def test_an_outbox_with_nothing_in_it_is_all_zeros(desk: Desk) -> None:
    answer = desk("status")
    assert answer.status == 0
    for destination in ("api", "accrual_hook", "redemption_hook", "purchase_hook", "expiry_hook"):
        assert row(answer, destination) == [destination, "open", "0", "0", "0", "0", "0"]
    assert "lag                0.0 s" in answer.out
    assert "in flight          0 requests of 0 workers" in answer.out
    assert "capture failures   0 facts" in answer.out


def test_what_waits_is_counted_by_destination_and_state(desk: Desk, dba: Session) -> None:
    sell(dba, add_customer(dba))
    dba.execute("update outbox.delivery set state = 'dead', reason = 'x' where operation = 'add_purchase'")
    dba.execute("update outbox.delivery set state = 'held', reason = 'x' where operation = 'accrual_webhook'")
    dba.execute("select outbox.record_capture_failure('purchase', '1', '22012', 'division by zero')")
    answer = desk("status")
    assert row(answer, "api") == ["api", "open", "1", "0", "0", "0", "1"]
    assert row(answer, "accrual_hook") == ["accrual_hook", "open", "0", "0", "1", "0", "0"]
    assert "capture failures   1 facts" in answer.out


def test_the_state_of_a_destination_says_why_nothing_goes_there(
    desk: Desk, dba: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    dba.execute(
        "update outbox.destination set paused_at = '2026-01-02 03:04:05+00', pause_reason = '401'"
        " where destination = 'api'"
    )
    dba.execute("update outbox.destination set rest_until = now() + '90 s' where destination = 'accrual_hook'")
    dba.execute("update outbox.destination set failure_count = 4 where destination = 'purchase_hook'")
    said = " ".join(desk("status").out.split())
    assert "api paused since 2026-01-02 03:04:05: 401" in said
    assert "accrual_hook resting for" in said
    assert "purchase_hook failing (4 in a row)" in said


def test_rounds_are_told_with_their_freshness_and_tables_with_their_size(desk: Desk, dba: Session) -> None:
    assert "rounds             none is switched on" in desk("status").out
    dba.execute("update outbox.round set enabled_at = now() where round in ('reconciliation', 'housekeeping')")
    dba.execute("update outbox.round set succeeded_at = now() - interval '1 day', try_count = 2 where round like 'h%'")
    dba.execute("update outbox.round set enabled_at = now() - interval '3 days' where round = 'housekeeping'")
    said = " ".join(desk("status").out.split())
    assert "housekeeping 24 h ago, tried 2 times since, reconciliation not yet" in said
    assert "on disk" in said
    told = desk("status", "--json").data
    ages = {it["round"]: it["age_s"] for it in told["rounds"]}
    assert 86_400 <= ages["housekeeping"] < 86_500
    assert ages["expiry_notice"] is None
    assert {it["table"] for it in told["tables"]} >= {"event", "delivery", "attempt"}


def test_orders_that_are_to_be_identified_and_those_without_a_phone_are_told_of(desk: Desk, dba: Session) -> None:
    assert "identified" not in desk("status").out
    for email in ("a@example.com", "b@example.com"):
        dba.execute("insert into accounting.purchase (total, contact_email) values (1, %s)", [email])
    dba.execute("update outbox.event set recorded_at = now() - interval '5 minutes' where event_id = 'purchase:1'")
    assert "to be identified   orders, the oldest for 5" in desk("status").out
    dba.execute("update outbox.addressee set identified_at = now(), contact_id = 1")
    told = desk("status")
    assert "to be identified" not in told.out
    assert "without a phone    4 deliveries" in told.out


def test_for_scripts_it_is_one_json_object(desk: Desk, dba: Session) -> None:
    sell(dba, add_customer(dba))
    dba.execute("update outbox.delivery set due_at = now() - interval '90 seconds' where operation = 'add_purchase'")
    claim = "insert into outbox.claim select lane, 1, delivery_id, 1, 'send', gen_random_uuid() from outbox.delivery"
    dba.execute(f"{claim} on conflict do nothing")  # one for each lane: api, accrual_hook, purchase_hook
    told = desk("status", "--json").data
    assert abs(datetime.fromisoformat(told["read_at"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert 90 <= told["lag_s"] < 150
    counts = {key: value for key, value in told.items() if key.endswith("_count")}
    del counts["estimated_count"]  # PostgreSQL's, which follows within a second or so
    assert counts == {
        "claimed_count": 3,
        "worker_count": 3,
        "capture_failure_count": 0,
        "without_phone_count": 0,
        "pending_count": 4,
        "in_doubt_count": 0,
        "held_count": 0,
        "waiting_count": 0,
        "dead_count": 0,
    }
    assert {it["operation"] for it in told["waiting"]} == {
        "add_purchase",
        "purchase_webhook",
        "accrual_webhook",
        "set_bonus_balance",
    }
    assert [it["destination"] for it in told["destinations"]] == sorted(
        it["destination"] for it in told["destinations"]
    )


def test_a_database_without_the_schema_is_a_sentence(
    desk: Desk, configure: Callable[..., Path], empty_database_url: str
) -> None:
    configure({"database.url": empty_database_url})
    answer = desk("status", "--json")
    assert (answer.status, answer.out) == (78, "")
    assert "schema install" in answer.err and "Traceback" not in answer.err


def test_a_schema_of_which_a_table_is_missing_is_a_sentence(desk: Desk, dba: Session) -> None:
    dba.execute("alter table outbox.capture_failure drop column repaired_at cascade")
    answer = desk("status")
    assert answer.status == 78
    assert "schema install" in answer.err and "Traceback" not in answer.err


def test_a_server_that_is_not_there_is_a_sentence_without_the_password(
    desk: Desk, configure: Callable[..., Path]
) -> None:
    configure({"database.url": "postgresql://me:hunter2@127.0.0.1:1/accounting"})
    answer = desk("status")
    assert answer.status == 69
    assert "127.0.0.1" in answer.err and "hunter2" not in answer.err and "Traceback" not in answer.err


def test_a_count_that_is_not_of_all_has_a_plus(desk: Desk, dba: Session) -> None:
    sell(dba, add_customer(dba))
    dba.execute(
        "insert into outbox.delivery (lane, event_id, operation, destination)"
        " select i, 'bonus_balance:' || i, 'set_bonus_balance', 'api' from generate_series(1, 10000) i"
    )
    dba.execute("select pg_stat_force_next_flush()")
    answer = desk("status")
    assert row(answer, "api") == ["api", "open", "10000+", "0", "0", "0", "0"]
    assert "about 10004" in answer.out
    told = desk("status", "--json").data
    assert told["estimated_count"] == 10004
    assert {it["is_at_least"] for it in told["waiting"] if it["destination"] == "api"} == {True}
