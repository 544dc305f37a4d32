"""`contacts`: which contact details belong to one customer, what people say about it, and the right to be forgotten."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from outbox_worker.database.bell_session import BellSession
from outbox_worker.runtime.identification import Identification, IdentificationTerms
from tests.cli.desk import Desk
from tests.database.rows import PURCHASE, Rows
from tests.runtime.syncing import TERMS
from tests.sql.identity import Ask
from tests.sql.test_orders import order
from tests.sql.till import Connect, add_customer, beside, until, value

WHY = ("--reason", "Olena knows her", "--actor", "olena@till")
PHONE, OTHER = "+380501234567", "+380671112233"


def identify(rows: Rows, *asks: Ask) -> None:
    for email, phone in asks:
        normal = phone if phone and phone.startswith("+") else None
        rows.all("select identity.identify(%s::text, %s::text, %s::text)", email, phone, normal)


def linked(rows: Rows) -> dict[int, int | None]:
    return dict(rows.all("select contact_id, linked_id from identity.contact order by 1"))  # type: ignore[arg-type]


@pytest.fixture
def known(rows: Rows) -> Rows:
    """1 and 2 are one customer, 3 is another, and 4 was joined to 3 by a request."""
    identify(rows, ("anna@x.com", PHONE), ("anna@work.com", PHONE), ("bohdan@x.com", OTHER), (None, "+380931112233"))
    identify(rows, ("bohdan@x.com", "+380931112233"))
    return rows


@pytest.mark.parametrize("words", [["2"], ["--email", " ANNA@work.com"], ["--phone", "050 123-45-67"]])
def test_a_customer_is_shown_by_any_detail_masked_unless_revealed(desk: Desk, known: Rows, words: list[str]) -> None:
    shown = desk("contacts", "show", *words)
    assert [line.split()[:2] for line in shown.lines] == [["1", "primary"], ["2", "secondary"]]
    assert "a***@x.com" in shown.out and "anna" not in shown.out and "1234567" not in shown.out
    found = desk("contacts", "show", *words, "--reveal", "--json").data["contacts"]
    assert [(it["email"], it["phone_number"]) for it in found] == [("anna@x.com", PHONE), ("anna@work.com", PHONE)]
    described = desk("contacts", "show", "--help").out
    assert [key for key in found[0] if key not in described] == []


def test_who_is_not_known_is_status_1_and_who_is_not_named_a_mistake(desk: Desk, known: Rows) -> None:
    assert desk("contacts", "show", "--email", "nobody@x").status == 1
    assert desk("contacts", "show").status == 2
    assert desk("contacts", "show", "1", "--email", "anna@x.com").status == 2


def test_two_customers_are_linked_and_the_act_is_recorded(desk: Desk, known: Rows) -> None:
    answer = desk("contacts", "link", "4", "2", *WHY)
    assert (answer.status, answer.lines) == (0, ["4 and 2 linked"])
    assert linked(known) == {1: None, 2: 1, 3: 1, 4: 1}
    assert known.acts() == [("link", None, None, None, "olena@till", "Olena knows her")]
    assert known.all("select detail ->> 'contact_ids' from outbox.act") == [("[4,2]",)]
    assert desk("contacts", "link", "4", "99", *WHY).status == 1


def test_a_contact_that_was_joined_wrongly_leaves(desk: Desk, known: Rows) -> None:
    assert desk("contacts", "unlink", "4", *WHY).status == 0
    assert linked(known) == {1: None, 2: 1, 3: None, 4: None}


def test_a_contact_leaves_with_what_only_it_has(desk: Desk, known: Rows) -> None:
    assert desk("contacts", "unlink", "1", *WHY).status == 0
    assert linked(known)[2] is None and linked(known)[1] is None
    assert known.all("select email, phone_number from identity.contact where contact_id < 3 order by contact_id") == [
        ("anna@x.com", None),
        ("anna@work.com", PHONE),
    ]
    alone = desk("contacts", "unlink", "1", *WHY)
    assert alone.status == 1 and "contact 1 is alone" in alone.err


def test_a_contact_that_has_nothing_of_its_own_cannot_leave(desk: Desk, known: Rows) -> None:
    identify(known, ("carl@x", "7777777"), ("dan@x", "7777777"), ("carl@x", "8888888"))
    told = desk("contacts", "unlink", "5", *WHY)
    assert told.status == 1 and "has nothing that others of its cluster have not" in told.err


def test_a_dry_run_changes_nothing_and_a_reason_is_wanted(desk: Desk, known: Rows) -> None:
    before = linked(known)
    told = desk("contacts", "link", "1", "3", "--dry-run", "--json").data
    assert told == {"act": "link", "dry_run": True, "contact_ids": [1, 3]}
    assert desk("contacts", "unlink", "4", "--dry-run").lines == ["4 would be unlinked"]
    assert desk("contacts", "erase", "1", "--dry-run").status == 0
    assert desk("contacts", "link", "1", "3").status == 2
    assert (linked(known), known.acts()) == (before, [])


# Erase


@pytest.fixture
def traced(known: Rows) -> Rows:
    """Anna, customer 7, has bought twice, and is on a list with Bohdan; purchase 1 is at InBoost."""
    known.purchase(1)
    known.delivered("purchase:1", excerpt=json.dumps({"phone": PHONE}))
    known.delivered("purchase:1", "purchase_webhook")
    known.purchase(2, payload=(PURCHASE % 2).replace(PHONE, "(050) 123 45 67"))
    known.purchase(3, "8", payload=(PURCHASE % 3).replace(PHONE, OTHER))
    known.do(
        "select outbox.record_event('bonus_expiry', '2026-11-22', null, %s::json, now())",
        json.dumps({"expires_before": "2026-12-01", "phones": [OTHER, "050 1234567"]}),
    )
    return known


def payload(rows: Rows, event_id: str) -> dict[str, Any]:
    return dict(rows.all("select payload from outbox.event where event_id = %s", event_id)[0][0])


def test_who_wants_to_be_forgotten_is_forgotten_and_nothing_can_be_sent_twice(desk: Desk, traced: Rows) -> None:
    meant = desk("contacts", "erase", "--phone", PHONE, "--dry-run", "--json").data
    told = desk("contacts", "erase", "--phone", PHONE, "--yes", "--json", *WHY)
    assert told.status == 0
    assert told.data == meant | {"dry_run": False, "dropped_count": 2}
    assert (meant["event_ids"], meant["shared_ids"]) == (["purchase:1", "purchase:2"], ["bonus_expiry:2026-11-22"])
    assert (meant["contact_ids"], meant["customer_ids"]) == ([1, 2], ["7"])
    everything = traced.all(
        "select string_agg(it, ' ') from (select c::text from identity.contact c union all"
        " select e::text from outbox.event e union all select a::text from outbox.attempt a union all"
        " select a::text from outbox.act a) all_of_it (it)"
    )[0][0]
    for trace in ("anna", "501234567", "50) 123 45 67", "50 1234567"):
        assert trace not in everything
    assert payload(traced, "purchase:1")["phone"] is None
    assert traced.all("select payload ->> 'total' from outbox.event where event_id = 'purchase:1'") == [("1234.50",)]
    assert payload(traced, "bonus_expiry:2026-11-22") == {"expires_before": "2026-12-01", "phones": [OTHER]}
    assert payload(traced, "purchase:3")["phone"] == OTHER
    assert (traced.state("purchase:2"), traced.state("purchase:3")) == (None, "pending")
    traced.purchase(1)
    assert traced.all("select event_id from outbox.duplicate") == [("purchase:1",)]
    assert traced.state("purchase:1") is None
    assert desk("contacts", "show", "--phone", PHONE).status == 1
    assert desk("contacts", "show", "1").lines[0].split()[:3] == ["1", "primary", "erased"]


def test_erase_takes_the_customer_out_of_what_orders_and_the_customer_sync_have(desk: Desk, traced: Rows) -> None:
    traced.do(
        "select outbox.record_event('purchase', '4', null, %s::json, now())",
        json.dumps({"purchase_id": "4", "phone": None, "contact_email": "anna@example.com", "total": 5}),
    )
    traced.do(
        "update outbox.addressee set phone = %s, contact_id = 1, chosen_as = 'contact', identified_at = now()", PHONE
    )
    traced.do(
        "insert into outbox.client (customer_id, client_id, phone, digest)"
        " values ('7', 'c7', %s, ''), ('8', 'c8', %s, '')",
        PHONE,
        OTHER,
    )
    traced.do("insert into outbox.customer_phone values ('7', '050 123 45 67', %s), ('8', %s, %s)", PHONE, OTHER, OTHER)
    for key, phone, document in (
        ("id:1", PHONE, {"phone": PHONE}),
        ("digest:1", None, ["(050) 123-45-67"]),
        ("id:2", OTHER, {"phone": OTHER}),
    ):
        traced.do(
            "insert into outbox.unstored_client (client_key, phone, kind, reason, customer_ids, digest, document)"
            " values (%s, %s, 'refused', 'x', '{}', '', %s::json)",
            key,
            phone,
            json.dumps(document),
        )
    told = desk("contacts", "erase", "--phone", PHONE, "--yes", "--json", *WHY)
    assert told.status == 0 and "purchase:4" in told.data["event_ids"]
    assert traced.all("select customer_id from outbox.client") == [("8",)]
    assert traced.all("select customer_id from outbox.customer_phone") == [("8",)]
    assert traced.all("select client_key from outbox.unstored_client") == [("id:2",)]
    assert traced.all("select count(*) from outbox.addressee") == [(0,)]
    assert payload(traced, "purchase:4")["contact_email"] is None
    assert traced.state("purchase:4") is None
    assert traced.all("select outbox.record_event('purchase', '4', null, '{}', now())") == [(False,)]


def test_what_is_being_sent_keeps_a_customer_from_being_erased_for_a_moment(desk: Desk, traced: Rows) -> None:
    traced.claimed("purchase:2")
    told = desk("contacts", "erase", "1", "--yes", *WHY)
    assert told.status == 3 and "is being sent" in told.err
    assert payload(traced, "purchase:1")["phone"] == PHONE
    assert traced.all("select count(*) from identity.contact where deleted_at is not null") == [(0,)]
    assert traced.acts() == []


def test_what_a_relay_claims_while_an_erasure_waits_for_it_is_not_taken_away(
    desk: Desk, traced: Rows, connect: Connect
) -> None:
    relay, observer = connect(), connect()
    relay.execute("begin")
    relay.execute("select from outbox.delivery where event_id = 'purchase:2' for update")
    relay.execute(
        "insert into outbox.claim (lane, delivery_id, number, purpose, worker)"
        " select lane, delivery_id, 1, 'send', gen_random_uuid() from outbox.delivery"
        " where event_id = 'purchase:2' and operation = 'add_purchase'"
    )
    waiting = "select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"

    def commit() -> None:
        until(lambda: observer.execute(waiting).fetchone() is not None, "the erasure to wait")
        relay.execute("commit")

    with beside(commit):
        told = desk("contacts", "erase", "1", "--yes", *WHY)
    assert told.status == 3 and "is being sent" in told.err
    assert payload(traced, "purchase:1")["phone"] == PHONE
    assert (traced.state("purchase:2"), traced.acts()) == ("pending", [])


def test_an_order_that_is_being_identified_leaves_nothing_of_who_is_erased_meanwhile(
    desk: Desk, rows: Rows, connect: Connect, database_url: str
) -> None:
    """The worker has read the order, and not identified it yet, when its buyer is to be forgotten."""
    identify(rows, ("anna@x.com", PHONE))
    dba, in_the_way = connect(), connect()
    order(dba, add_customer(dba, OTHER), email="anna@x.com", phone="+380931112233")
    in_the_way.execute("begin; lock table accounting.customer")
    waiting = (
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        " and application_name = %s"
    )

    def let_go() -> None:
        until(lambda: value(dba, waiting, "outbox-worker contacts erase"), "the erasure to wait")
        in_the_way.execute("commit")

    with BellSession(database_url, "outbox-worker identification") as session:
        identification = Identification(database_url, IdentificationTerms("UA", TERMS.links), threading.Event())
        with beside(lambda: identification.work(session)):
            until(lambda: value(dba, waiting, "outbox-worker identification"), "the worker to wait")
            with beside(let_go):
                told = desk("contacts", "erase", "1", "--yes", *WHY)
    assert told.status == 0
    assert (
        rows.all("select email, phone_number from identity.contact where num_nonnulls(email, phone_number) > 0") == []
    )
    assert rows.all("select count(*) from outbox.event where payload ->> 'contact_email' is not null") == [(0,)]


def test_to_erase_is_asked_about(desk: Desk, traced: Rows) -> None:
    assert desk("contacts", "erase", "1", *WHY).status == 2
    assert desk("contacts", "erase", "1", *WHY, types="n\n").status == 1
    assert traced.acts() == []
    described = desk("contacts", "erase", "--help").out
    told = desk("contacts", "erase", "1", "--dry-run", "--json").data
    assert [key for key in told if key not in described] == []
