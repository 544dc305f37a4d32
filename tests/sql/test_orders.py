"""An order with contact data waits for the worker to say whose it is; the sale itself waits for nobody."""

from __future__ import annotations

import json
from typing import Any

import pytest

from outbox_worker.database import schema
from tests.sql.till import (
    Connect,
    Session,
    column,
    duplicates,
    event_ids,
    failures,
    in_outbox,
    record,
    sell,
    value,
)

IDENTITY = 452655935092
BELL = 122550254464892


def order(session: Session, customer: int | None = None, *, email: str | None = None, phone: str | None = None) -> int:
    """Sell something to who leaves this with the order."""
    statement = (
        "insert into accounting.purchase (customer_id, total, contact_email, contact_phone)"
        " values (%s, 30.00, %s, %s) returning purchase_id"
    )
    return int(value(session, statement, customer, email, phone))


def deliveries(session: Session) -> list[Any]:
    return session.execute("select operation, state, reason from outbox.delivery order by operation").fetchall()


WAITING = [("add_purchase", "waiting", "to be identified"), ("purchase_webhook", "waiting", "to be identified")]


def test_an_order_with_contact_data_waits_to_be_identified_in_the_lanes_of_its_customer(
    dba: Session, customer: int
) -> None:
    order(dba, customer, email="anna@example.com", phone="050 765 43 21")
    assert deliveries(dba) == WAITING
    payload = json.loads(value(dba, "select payload::text from outbox.event"))
    assert (payload["contact_email"], payload["contact_phone"]) == ("anna@example.com", "050 765 43 21")
    assert payload["phone"] == "+380501234567"
    lanes = "select lane = outbox.lane_of(destination, %s) from outbox.delivery"
    assert column(dba, lanes, str(customer)) == [True, True]
    ours = "select a.lane = d.lane and a.delivery_id = d.delivery_id and identified_at is null"
    joined = "from outbox.addressee a join outbox.delivery d using (event_id, operation)"
    assert column(dba, f"{ours} {joined}") == [True, True]


def test_an_order_without_a_customer_is_an_event_where_the_buyer_left_something_and_waits_in_lanes_of_its_own(
    dba: Session,
) -> None:
    first, second = order(dba, email="anna@example.com"), order(dba, phone="0507654321")
    order(dba)  # nobody's
    assert event_ids(dba) == [f"purchase:{first}", f"purchase:{second}"]
    assert deliveries(dba) == sorted(WAITING * 2)
    assert value(dba, "select count(distinct lane) from outbox.delivery") == 4
    assert not failures(dba)


def test_contact_data_that_is_said_after_the_receipt_makes_the_order_an_event_once(dba: Session) -> None:
    purchase = order(dba)
    dba.execute("update accounting.purchase set contact_phone = '0507654321'")
    assert event_ids(dba) == [f"purchase:{purchase}"]
    dba.execute("update accounting.purchase set contact_email = 'anna@example.com'")
    assert event_ids(dba) == [f"purchase:{purchase}"]
    assert duplicates(dba) == []


def test_who_bought_may_be_said_after_the_contact_and_is_no_second_event(dba: Session, customer: int) -> None:
    purchase = order(dba, email="anna@example.com")
    dba.execute("update accounting.purchase set customer_id = %s", [customer])
    assert event_ids(dba) == [f"purchase:{purchase}"]
    assert duplicates(dba) == []


def test_a_mapping_of_before_orders_had_contact_data_is_brought_up_by_loading_it_again(dba: Session) -> None:
    for trigger in ("capture_purchase", "capture_purchase_of_customer"):
        dba.execute(f"drop trigger {trigger} on accounting.purchase")
    dba.execute(
        "create constraint trigger capture_purchase after insert on accounting.purchase deferrable initially deferred"
        " for each row when (new.customer_id is not null) execute function integration.capture_purchase()"
    )
    schema.install_reference(dba)
    order(dba, email="anna@example.com")
    assert len(event_ids(dba)) == 1


@pytest.mark.parametrize(
    "payload", ["{}", '{"contact_email": null, "contact_phone": null}', '{"contact_phone": " "}', '["contact_phone"]']
)
def test_an_event_without_contact_data_is_delivered_at_once(dba: Session, payload: str) -> None:
    assert record(dba, payload=payload)
    assert {state for _, state, _ in deliveries(dba)} == {"pending"}
    assert value(dba, "select count(*) from outbox.addressee") == 0


def test_a_sale_without_contact_data_has_none_in_its_payload(dba: Session, customer: int) -> None:
    sell(dba, customer)
    assert value(dba, "select count(*) from outbox.event where strpos(payload::text, 'contact') > 0") == 0
    assert value(dba, "select count(*) from outbox.event where kind = 'purchase'") == 1


def test_a_history_that_knows_a_contact_waits_for_it_too(dba: Session) -> None:
    record(dba, payload='{"contact_phone": "0507654321"}', historic=True)
    assert deliveries(dba) == WAITING[:1]


def test_a_sale_waits_for_nobody_who_has_identity_to_himself(dba: Session, connect: Connect, customer: int) -> None:
    alone, till = connect(), connect()
    alone.execute("begin; select identity.lock_all(); lock table identity.contact in access exclusive mode")
    till.execute("set lock_timeout = '50ms'; begin")
    order(till, customer, email="anna@example.com", phone="0507654321")
    order(till, email="bohdan@example.com")
    till.execute("set constraints all immediate")
    locks = "select count(*) from pg_locks where pid = %s and locktype = 'advisory' and objid = %s"
    assert value(dba, locks, till.info.backend_pid, IDENTITY & 0xFFFFFFFF) == 0
    till.execute("commit")
    assert in_outbox(dba) == {"event": 2, "delivery": 4, "duplicate": 0, "capture_failure": 0}


def test_a_sale_rings_while_identification_sleeps_and_only_then(connect: Connect, customer: int) -> None:
    sleeper, till = connect(), connect()
    sleeper.execute("listen outbox_identification")
    order(till, customer, email="anna@example.com")
    assert not list(sleeper.notifies(timeout=0.1))
    assert value(sleeper, "select pg_try_advisory_lock(%s)", BELL)
    sell(till, customer)
    assert not list(sleeper.notifies(timeout=0.1))
    order(till, customer, email="anna@example.com")
    assert len(list(sleeper.notifies(timeout=5, stop_after=1))) == 1


def test_an_order_that_is_rolled_back_leaves_nothing(dba: Session, connect: Connect, customer: int) -> None:
    till = connect()
    till.execute("begin")
    order(till, customer, phone="0507654321")
    till.execute("set constraints all immediate")
    assert value(till, "select count(*) from outbox.addressee") == 2
    till.execute("rollback")
    assert value(dba, "select count(*) from outbox.addressee") == 0


def test_what_is_forgotten_of_an_old_order_is_whom_it_went_to_as_well(dba: Session) -> None:
    order(dba, phone="0507654321")
    dba.execute("delete from outbox.delivery")
    dba.execute("update outbox.event set recorded_at = now() - interval '200 days'")
    forget = "select outbox.forget_events('-infinity', now() - interval '180 days', 10)"
    assert value(dba, forget) == 1
    assert value(dba, "select count(*) from outbox.addressee") == 0
