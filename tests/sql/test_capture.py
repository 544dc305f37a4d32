"""A fact and its event commit together, and the event says what the fact was when its transaction committed."""

from __future__ import annotations

import json
from decimal import Decimal

import psycopg
import pytest

from tests.sql.till import (
    Connect,
    Session,
    add_customer,
    add_purchase,
    column,
    duplicates,
    enter,
    event_ids,
    failures,
    in_outbox,
    sell,
    value,
)

NOTHING = {"event": 0, "delivery": 0, "duplicate": 0, "capture_failure": 0}


def payload(session: Session, kind: str) -> dict[str, object]:
    text = value(session, "select payload::text from outbox.event where kind = %s", kind)
    return dict(json.loads(text, parse_float=Decimal))


def test_a_sale_and_its_events_appear_at_once(connect: Connect, dba: Session, customer: int) -> None:
    till = connect()
    till.execute("begin")
    purchase = sell(till, customer)
    assert in_outbox(dba) == NOTHING
    till.execute("commit")
    assert event_ids(dba)[1:] == [f"purchase:{purchase}", "bonus_accrual:1"]
    assert event_ids(dba)[0].startswith(f"bonus_balance:{customer}-")
    assert column(dba, "select operation from outbox.delivery order by operation") == [
        "accrual_webhook",
        "add_purchase",
        "purchase_webhook",
        "set_bonus_balance",
    ]
    assert not failures(dba)


def test_a_sale_that_is_rolled_back_leaves_nothing(connect: Connect, dba: Session, customer: int) -> None:
    till = connect()
    till.execute("begin")
    sell(till, customer)
    till.execute("set constraints all immediate")  # all of it has been captured
    assert in_outbox(till)["event"] == 3
    till.execute("rollback")
    assert in_outbox(dba) == NOTHING


def test_a_sale_whose_commit_fails_leaves_nothing(connect: Connect, dba: Session, customer: int) -> None:
    # Deferred triggers go in the order of the rows, so this one finds its fault when the sale has been captured.
    dba.execute("alter table accounting.purchase_line add constraint one unique (sku) deferrable initially deferred")
    till = connect()
    till.execute("begin")
    purchase = sell(till, customer)
    till.execute("insert into accounting.purchase_line values (%s, 3, 'A1', 'again', 1, 1, 1)", [purchase])
    with pytest.raises(psycopg.errors.UniqueViolation):
        till.execute("commit")
    assert in_outbox(dba) == NOTHING


def test_what_a_savepoint_takes_back_leaves_nothing(connect: Connect, dba: Session, customer: int) -> None:
    till = connect()
    till.execute("begin")
    kept = sell(till, customer, accrued="")
    with till.transaction(force_rollback=True):
        sell(till, customer)
        till.execute("set constraints all immediate")
    till.execute("commit")
    assert event_ids(dba) == [f"purchase:{kept}"]
    assert in_outbox(dba) == NOTHING | {"event": 1, "delivery": 2}


def test_a_purchase_is_captured_with_what_came_after_it_in_its_transaction(dba: Session, customer: int) -> None:
    with dba.transaction():
        purchase = add_purchase(dba, customer, total="1.00")
        dba.execute("insert into accounting.purchase_line values (%s, 2, 'B', 'second', 2, 10, 20)", [purchase])
        dba.execute("insert into accounting.purchase_line values (%s, 1, 'A', 'first', 0.125, 80, 10)", [purchase])
        enter(dba, customer, purchase, "redemption", "5.50")
        enter(dba, customer, purchase, "accrual", "0.25")
        enter(dba, customer, purchase, "accrual", "0.05")
        dba.execute("update accounting.purchase set total = 30 where purchase_id = %s", [purchase])
    assert payload(dba, "purchase") == {
        "purchase_id": str(purchase),
        "purchased_at": value(dba, "select to_json(purchased_at) #>> '{}' from accounting.purchase"),
        "phone": "+380501234567",
        "total": Decimal(30),
        "currency": "UAH",
        "bonus_accrued": Decimal("0.30"),
        "bonus_redeemed": Decimal("5.50"),
        "lines": [
            {"sku": "A", "name": "first", "quantity": Decimal("0.125"), "price": 80, "amount": 10},
            {"sku": "B", "name": "second", "quantity": 2, "price": 10, "amount": 20},
        ],
    }


def test_numbers_keep_the_scale_of_their_columns(dba: Session, customer: int) -> None:
    with dba.transaction():
        purchase = add_purchase(dba, customer, total="9999999999.90")
        dba.execute("insert into accounting.purchase_line values (%s, 1, 'A', '', 1, 0.10, 1e9)", [purchase])
        enter(dba, customer, purchase, "accrual", "7")
    text = value(dba, "select payload::text from outbox.event where kind = 'purchase'")
    for number in ('"total" : 9999999999.90,', '"quantity" : 1.000,', '"price" : 0.10,', '"amount" : 1000000000.00}'):
        assert number in text
    assert '"bonus_accrued" : 7.00, "bonus_redeemed" : 0.00,' in text


def test_an_accrual_tells_its_code_its_amount_and_the_balance_that_it_led_to(dba: Session, customer: int) -> None:
    enter(dba, customer, None, "accrual", "10.00")
    with dba.transaction():
        enter(dba, customer, None, "accrual", "2.00")
        enter(dba, customer, None, "redemption", "0.50")
    told = "select payload ->> 'amount' || ' ' || (payload ->> 'balance') from outbox.event where kind = %s order by 1"
    assert column(dba, told, "bonus_accrual") == ["10.00 10.00", "2.00 11.50"]
    assert column(dba, told, "bonus_redemption") == ["0.50 11.50"]
    codes = column(dba, "select payload ->> 'code' from outbox.event where kind like 'bonus_%%n' or kind like '%%l'")
    assert sorted(codes) == sorted(column(dba, "select code from accounting.bonus_entry"))


def test_every_change_of_a_balance_is_told_in_order(dba: Session, customer: int) -> None:
    for _ in range(3):
        with dba.transaction():
            enter(dba, customer, None, "accrual", "1.00")
            enter(dba, customer, None, "accrual", "0.10")
    told = "select payload ->> 'balance' from outbox.event where kind = 'bonus_balance' order by sequence"
    assert column(dba, told) == ["1.00", "1.10", "2.10", "2.20", "3.20", "3.30"]
    in_lanes = "select event_id from outbox.delivery where operation = 'set_bonus_balance' order by delivery_id"
    assert column(dba, in_lanes) == [it for it in event_ids(dba) if it.startswith("bonus_balance:")]


def test_a_balance_that_is_written_again_unchanged_is_no_event(dba: Session, customer: int) -> None:
    dba.execute("update accounting.bonus_account set balance = balance, changed_at = now()")
    dba.execute("update accounting.bonus_account set balance = 0.000")
    assert in_outbox(dba) == NOTHING


def test_a_statement_that_changes_no_row_is_no_event(dba: Session, customer: int) -> None:
    dba.execute("update accounting.bonus_account set balance = 1 where customer_id = -1")
    dba.execute(
        "insert into accounting.purchase (customer_id, total) select customer_id, 1 from accounting.customer"
        " where customer_id = -1"
    )
    assert in_outbox(dba) == NOTHING


def test_the_balance_that_an_account_is_opened_with_is_told(dba: Session) -> None:
    dba.execute("insert into accounting.customer (phone) values ('+380670000001')")
    dba.execute("insert into accounting.bonus_account select customer_id, 50 from accounting.customer")
    assert payload(dba, "bonus_balance")["balance"] == Decimal(50)


def test_a_purchase_of_nobody_is_no_event(dba: Session) -> None:
    sell(dba, None)
    assert in_outbox(dba) == NOTHING


@pytest.mark.parametrize("later", [False, True], ids=["in the same transaction", "in a later transaction"])
def test_a_purchase_whose_customer_is_said_afterwards_is_captured_once(
    dba: Session, customer: int, later: bool
) -> None:
    dba.execute("begin")
    purchase = sell(dba, None)
    if later:
        dba.execute("commit; begin")
    dba.execute("update accounting.purchase set customer_id = %s", [customer])
    dba.execute("update accounting.purchase set customer_id = %s", [add_customer(dba)])
    dba.execute("commit")
    dba.execute("update accounting.purchase set customer_id = customer_id, total = 31.00")
    assert event_ids(dba) == [f"purchase:{purchase}"]
    assert not duplicates(dba)


def test_what_is_deleted_again_in_its_own_transaction_is_no_event(dba: Session, customer: int) -> None:
    with dba.transaction():
        purchase = add_purchase(dba, customer)
        enter(dba, customer, None, "accrual", "1.00")
        dba.execute("delete from accounting.bonus_entry")
        dba.execute("delete from accounting.purchase where purchase_id = %s", [purchase])
    assert [it.partition(":")[0] for it in event_ids(dba)] == ["bonus_balance"]
    assert not failures(dba)


def test_rows_that_come_by_copy_are_captured(dba: Session, customer: int) -> None:
    with dba.cursor().copy("copy accounting.purchase (customer_id, total) from stdin") as copy:
        for total in range(5):
            copy.write_row((customer, total))
    assert len(event_ids(dba)) == 5


def test_a_session_that_makes_constraints_immediate_has_its_purchase_captured_as_it_is_then(
    dba: Session, customer: int
) -> None:
    """Known and told in sql/README.md: PostgreSQL has nothing that runs at commit and only there."""
    with dba.transaction():
        dba.execute("set constraints all immediate")
        sell(dba, customer)
    assert payload(dba, "purchase")["lines"] == []


@pytest.mark.parametrize(
    "name",
    [
        "quotes \" ' and \\ backslashes \\u0041 \\",
        "\x01\x08\t\n\r\x1f\x7f\x80\u2028\ufeff\uffff",
        "Чай 👩‍👩‍👧‍👦 ґ אב \U0010ffff",
        "</script>{{}} %s $1 :name",
        "",
        "Ї" * 2**19,
    ],
    ids=["quotes", "control characters", "beyond the basic plane", "other languages' syntax", "empty", "1 MB"],
)
def test_any_text_comes_through_as_it_is(dba: Session, customer: int, name: str) -> None:
    sell(dba, customer, name=name)
    lines = payload(dba, "purchase")["lines"]
    assert isinstance(lines, list)
    assert lines[0]["name"] == name


def test_a_number_that_is_none_becomes_text_which_no_number_field_accepts(dba: Session, customer: int) -> None:
    """What is sent is checked by kind, so this ends as a dead letter that says `total is not a number`."""
    add_purchase(dba, customer, total="NaN")
    assert payload(dba, "purchase")["total"] == "NaN"
    assert not failures(dba)


def test_huge_and_tiny_numbers_are_written_out_in_full(dba: Session) -> None:
    statement = "select json_build_object('n', %s::numeric)::text"
    huge, tiny = "1" + "0" * 500, "0." + "0" * 200 + "1"
    assert value(dba, statement, huge) == f'{{"n" : {huge}}}'
    assert value(dba, statement, tiny) == f'{{"n" : {tiny}}}'


def test_instants_carry_an_offset_whatever_the_session_has(connect: Connect, dba: Session, customer: int) -> None:
    till = connect()
    till.execute("set timezone to 'Asia/Kathmandu'; set datestyle to 'German'; set intervalstyle to 'sql_standard'")
    till.execute(
        "insert into accounting.purchase (customer_id, total, purchased_at) values (%s, 1, '2026-03-04 05:06:07.5+00')",
        [customer],
    )
    assert payload(dba, "purchase")["purchased_at"] == "2026-03-04T10:51:07.5+05:45"
    assert value(dba, "select occurred_at = '2026-03-04 05:06:07.5+00' from outbox.event")
