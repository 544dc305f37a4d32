"""The one door: a fact is recorded once, whoever records it, however often, and whatever interleaves."""

from __future__ import annotations

from datetime import UTC

import psycopg
import pytest

from tests.sql.till import (
    Connect,
    Session,
    add_purchase,
    beside,
    column,
    duplicates,
    event_ids,
    failures,
    in_outbox,
    record,
    until_waiting,
    value,
)

ISOLATIONS = ["read committed", "repeatable read", "serializable"]
ONE_PURCHASE = {"event": 1, "delivery": 2, "duplicate": 0, "capture_failure": 0}


def operations(session: Session) -> list[str]:
    return column(session, "select operation from outbox.delivery order by operation")


def test_a_fact_that_is_recorded_again_is_refused_and_noted(dba: Session) -> None:
    assert record(dba) is True
    assert record(dba, customer_id="8", payload='{"another": "payload"}', historic=True) is False
    assert in_outbox(dba) == ONE_PURCHASE | {"duplicate": 1}
    assert value(dba, "select payload::text from outbox.event") == "{}"
    assert value(dba, "select event_id || ' ' || historic || ' ' || recorder from outbox.duplicate") == (
        f"purchase:1 true {dba.info.user}"
    )


def test_the_payload_is_kept_to_the_letter(dba: Session) -> None:
    text = '{"b" : 1.00, "a":\t[1e400, -0, 0.10 ],"b": "\\u00e4\\/", "": null}\n'
    record(dba, payload=text)
    assert value(dba, "select payload::text from outbox.event") == text


def test_two_who_record_a_fact_at_once_make_one_event_and_one_duplicate(connect: Connect, dba: Session) -> None:
    first, second = connect(), connect()
    first.execute("begin")
    assert record(first) is True
    with beside(lambda: record(second)) as told:
        until_waiting(dba, second)
        first.execute("commit")
    assert told.result() is False
    assert in_outbox(dba) == ONE_PURCHASE | {"duplicate": 1}


def test_the_second_records_the_fact_when_the_first_is_rolled_back(connect: Connect, dba: Session) -> None:
    first, second = connect(), connect()
    first.execute("begin")
    record(first)
    with beside(lambda: record(second)) as told:
        until_waiting(dba, second)
        first.execute("rollback")
    assert told.result() is True
    assert in_outbox(dba) == ONE_PURCHASE


def test_the_second_records_the_fact_when_the_first_takes_it_back_to_a_savepoint(
    connect: Connect, dba: Session
) -> None:
    first, second = connect(), connect()
    first.execute("begin; savepoint before")
    record(first)
    with beside(lambda: record(second)) as told:
        until_waiting(dba, second)
        first.execute("rollback to before")
    assert told.result() is True
    first.execute("commit")
    assert in_outbox(dba) == ONE_PURCHASE


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_sale_whose_fact_became_known_after_its_snapshot_commits_and_notes_a_duplicate(
    connect: Connect, dba: Session, customer: int, isolation: str
) -> None:
    till = connect()
    till.execute(f"begin isolation level {isolation}")
    purchase = add_purchase(till, customer)
    record(dba, str(purchase))
    till.execute("commit")
    assert value(dba, "select count(*) from accounting.purchase") == 1
    assert duplicates(dba) == [f"purchase:{purchase}"]
    assert in_outbox(dba) == ONE_PURCHASE | {"duplicate": 1}


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_sale_that_waits_for_who_records_its_fact_commits_and_notes_a_duplicate(
    connect: Connect, dba: Session, customer: int, isolation: str
) -> None:
    till, other = connect(), connect()
    till.execute(f"begin isolation level {isolation}")
    purchase = add_purchase(till, customer)
    other.execute("begin")
    record(other, str(purchase))
    with beside(lambda: till.execute("commit")):
        until_waiting(dba, till)
        other.execute("commit")
    assert value(dba, "select count(*) from accounting.purchase") == 1
    assert in_outbox(dba) == ONE_PURCHASE | {"duplicate": 1}
    assert not failures(dba)


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_known_fact_that_the_snapshot_sees_is_a_duplicate(connect: Connect, dba: Session, isolation: str) -> None:
    record(dba)
    other = connect()
    other.execute(f"begin isolation level {isolation}")
    assert record(other) is False
    other.execute("commit")
    assert in_outbox(dba) == ONE_PURCHASE | {"duplicate": 1}


def test_two_who_record_two_facts_in_opposite_order_do_not_lose_one(connect: Connect, dba: Session) -> None:
    """A deadlock of their own making: PostgreSQL ends one of them, and the other records both."""
    first, second = connect(), connect()
    for session, number in ((first, "1"), (second, "2")):
        session.execute("set deadlock_timeout = '20ms'; begin")
        record(session, number)

    def go_on(session: Session, number: str) -> str:
        try:
            record(session, number)
            session.execute("commit")
        except psycopg.errors.DeadlockDetected:
            session.execute("rollback")
            return "ended"
        return "committed"

    with beside(lambda: go_on(first, "2")) as one, beside(lambda: go_on(second, "1")) as other:
        pass
    assert sorted([one.result(), other.result()]) == ["committed", "ended"]
    assert sorted(event_ids(dba)) == ["purchase:1", "purchase:2"]


def test_a_purchase_has_a_webhook_and_an_entry_of_its_details(dba: Session) -> None:
    record(dba)
    assert operations(dba) == ["add_purchase", "purchase_webhook"]


def test_a_historic_purchase_starts_no_campaign(dba: Session) -> None:
    record(dba, historic=True)
    assert operations(dba) == ["add_purchase"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("bonus_balance", "set_bonus_balance"),
        ("bonus_accrual", "accrual_webhook"),
        ("bonus_redemption", "redemption_webhook"),
        ("bonus_expiry", "expiry_webhook"),
    ],
)
def test_each_kind_has_its_operation(dba: Session, kind: str, expected: str) -> None:
    record(dba, kind=kind)
    assert operations(dba) == [expected]


def test_a_route_that_is_disabled_gives_no_delivery(dba: Session) -> None:
    dba.execute("update outbox.route set enabled = false where operation = 'purchase_webhook'")
    record(dba)
    assert operations(dba) == ["add_purchase"]


def test_a_kind_without_a_route_is_an_event_without_deliveries(dba: Session) -> None:
    assert record(dba, kind="stocktaking") is True
    assert in_outbox(dba) == ONE_PURCHASE | {"delivery": 0}


def test_a_fact_of_no_customer_has_a_lane_too(dba: Session) -> None:
    record(dba, kind="bonus_expiry", customer_id=None)
    lane = "select lane = outbox.lane_of('expiry_hook', null) and lane = outbox.lane_of('expiry_hook', '')"
    assert value(dba, f"{lane} from outbox.delivery")


def test_a_customer_has_one_lane_at_each_destination_and_shares_it_with_nobody(dba: Session) -> None:
    for source_id, customer_id in enumerate(["7", "7", "8", "77"]):
        record(dba, str(source_id), customer_id=customer_id)
        record(dba, str(source_id), customer_id=customer_id, kind="bonus_balance")
    lanes: dict[tuple[str, str], set[int]] = {}
    rows = dba.execute("select destination, customer_id, lane from outbox.delivery join outbox.event using (event_id)")
    for destination, customer_id, lane in rows:
        lanes.setdefault((destination, customer_id), set()).add(lane)
    assert len(lanes) == 6
    assert all(len(numbers) == 1 for numbers in lanes.values())
    assert len(set.union(*lanes.values())) == 6


@pytest.mark.parametrize("missing", ["kind", "source_id", "payload", "occurred_at", "historic"])
def test_a_fact_without_its_name_its_time_or_its_payload_is_refused(dba: Session, missing: str) -> None:
    with pytest.raises(psycopg.errors.NotNullViolation):
        record(dba, **{missing: None})
    assert in_outbox(dba) == ONE_PURCHASE | {"event": 0, "delivery": 0}


@pytest.mark.parametrize("occurred_at", ["infinity", "-infinity", "0044-03-15 BC", "20025-01-02", "0001-01-01+14"])
def test_a_time_that_no_program_could_read_is_refused_at_the_door(dba: Session, occurred_at: str) -> None:
    """Such an event would stop every worker that reads it: psycopg cannot make a datetime of it."""
    with pytest.raises(psycopg.errors.CheckViolation):
        record(dba, occurred_at=occurred_at)


def test_a_time_that_is_recorded_can_be_read_in_every_time_zone(dba: Session) -> None:
    edges = ["0001-01-03", "9999-12-29"]
    for edge in edges:
        record(dba, edge, occurred_at=f"{edge} 12:00+00")
    for zone in ("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Europe/Kyiv"):
        dba.execute(f"set timezone to '{zone}'")
        for binary in (True, False):
            rows = dba.execute("select occurred_at from outbox.event order by sequence", binary=binary).fetchall()
            assert [row[0].astimezone(UTC).isoformat()[:10] for row in rows] == edges


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("state = 'sent'", "a_delivery_state_is_one_of_five"),
        ("state = 'dead'", "stopping_has_a_reason"),
        ("state = 'held'", "stopping_has_a_reason"),
        ("state = 'waiting'", "stopping_has_a_reason"),
        ("try_count = 1", "tries_are_attempts"),
    ],
)
def test_a_delivery_keeps_its_state_and_its_columns_in_agreement(dba: Session, change: str, rule: str) -> None:
    record(dba)
    with pytest.raises(psycopg.errors.CheckViolation, match=rule):
        dba.execute(f"update outbox.delivery set {change}")


def test_what_a_sale_writes_to_has_no_check_for_each_would_be_parsed_anew_by_every_sale(dba: Session) -> None:
    tables = "'outbox.event'::regclass, 'outbox.delivery'::regclass"
    assert not column(dba, f"select conname from pg_constraint where contype = 'c' and conrelid in ({tables})")


def test_the_routes_are_read_as_the_one_page_that_they_are(dba: Session) -> None:
    plan = column(dba, "explain (costs off) select from outbox.route where kind = 'purchase' and enabled")
    assert plan[0] == "Seq Scan on route"


def test_ten_thousand_purchases_in_one_transaction_take_as_many_locks_as_one(dba: Session, customer: int) -> None:
    """Each is captured in a subtransaction whose lock ends with it; what stays is one for each table and the bell's."""

    def sell(count: int) -> tuple[int, int]:
        with dba.transaction():
            dba.execute(
                "insert into accounting.purchase (customer_id, total) select %s, 1 from generate_series(1, %s)",
                [customer, count],
            )
            dba.execute("set constraints all immediate")
            locks = "select count(*) from pg_locks where pid = pg_backend_pid() and locktype <> 'virtualxid'"
            return value(dba, locks), value(dba, "select count(*) from outbox.event")

    locks_of_one, _ = sell(1)
    assert sell(10_000) == (locks_of_one, 10_001)
    assert locks_of_one < 40
    assert not failures(dba)
