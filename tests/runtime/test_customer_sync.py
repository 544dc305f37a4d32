"""InBoost's clients become customers of accounting, linked, once, whatever comes between."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from outbox_worker.errors import RunningElsewhere, SyncStopped
from outbox_worker.rules.matching import FIELDS, Winner
from outbox_worker.runtime import customer_sync
from outbox_worker.runtime.sync_plan import plan
from tests.database.rows import Rows
from tests.runtime.syncing import TERMS, Sync, counts, kept, links, listing, put
from tests.scenarios.waiting import until

ANNA = {
    "id": 1,
    "userPhoneNumber": "+380501112233",
    "userName": "Anna",
    "lastName": "Bondar",
    "birth": "1990-02-03",
    "source": "instagram",
    "profession": "doctor",
}


def customers(rows: Rows) -> list[tuple[Any, ...]]:
    return rows.all(
        "select phone, first_name, last_name, birth_date::text, source, specialty from accounting.customer"
        " order by customer_id"
    )


def test_a_client_that_accounting_does_not_know_becomes_a_customer(portal: Any, rows: Rows, run: Sync) -> None:
    put(portal, ANNA)
    done = run()
    assert customers(rows) == [("+380501112233", "Anna", "Bondar", "1990-02-03", "instagram", "doctor")]
    assert (done.counts.read_count, done.counts.created_count, done.counts.linked_count) == (1, 1, 1)
    again = run()
    assert (again.counts.created_count, again.counts.linked_count) == (0, 0)
    assert len(customers(rows)) == 1


def writes(rows: Rows) -> int:
    """Count all that was ever written to the tables that the sync writes, but for the run itself."""
    until(
        lambda: (
            not rows.all(
                "select from pg_stat_activity where application_name = 'outbox-worker customers sync'"
                " and datname = current_database()"
            )
        ),
        "the sync's session to end: it counts what it wrote as it ends",
    )
    rows.do("select pg_stat_force_next_flush()")
    return int(
        rows.all(
            "select sum(n_tup_ins + n_tup_upd + n_tup_del) from pg_stat_user_tables where relname in"
            " ('customer', 'client', 'unstored_client', 'customer_phone', 'event', 'delivery')"
        )[0][0]
    )


def test_a_known_customer_is_linked_and_its_empty_fields_are_filled(portal: Any, rows: Rows, run: Sync) -> None:
    rows.do("insert into accounting.customer (phone, first_name, source) values ('050 111-22-33', 'Ганна', 'till')")
    put(portal, ANNA | {"source": "", "profession": None})
    assert counts(run()) == {"read_count": 1, "changed_count": 1, "linked_count": 1}
    assert customers(rows) == [("050 111-22-33", "Ганна", "Bondar", "1990-02-03", "till", None)]
    assert links(rows) == [("1", "1", "+380501112233")]


@pytest.mark.parametrize(
    ("winner", "updated_at", "expected"),
    [
        (Winner.INBOOST, None, "Anna"),
        (Winner.ACCOUNTING, "2099-01-01T00:00:00Z", "Ганна"),
        (Winner.NEWEST, "2099-01-01T00:00:00Z", "Anna"),
        (Winner.NEWEST, "2020-01-01T00:00:00Z", "Ганна"),
    ],
)
def test_who_wins_is_said_by_the_configuration(
    portal: Any, rows: Rows, run: Sync, winner: Winner, updated_at: str | None, expected: str
) -> None:
    rows.do("insert into accounting.customer (phone, first_name) values ('0501112233', 'Ганна')")
    put(portal, ANNA | ({"updatedAt": updated_at} if updated_at else {}))
    run(replace(TERMS, winners=dict.fromkeys(FIELDS, winner)))
    assert rows.all("select first_name from accounting.customer") == [(expected,)]


def test_a_change_in_inboost_reaches_the_customer_and_what_somebody_edits_meanwhile_stays(
    portal: Any, rows: Rows, run: Sync
) -> None:
    put(portal, ANNA)
    run()
    rows.do("update accounting.customer set specialty = 'surgeon', changed_at = now() + interval '1 day'")
    put(portal, ANNA | {"lastName": "Koval", "updatedAt": "2099-01-01T00:00:00Z", "profession": None})
    assert counts(run()) == {"read_count": 1, "changed_count": 1}
    assert rows.all("select last_name, specialty from accounting.customer") == [("Koval", "surgeon")]


def test_nothing_is_written_for_a_client_that_is_as_it_was(portal: Any, rows: Rows, run: Sync) -> None:
    rows.do(
        "insert into accounting.customer (phone)"
        " select '050222000' || number from generate_series(0, 2) number, (values (1), (2)) twice"
    )
    put(portal, ANNA, {"id": 2, "userPhoneNumber": "none"}, {"userPhoneNumber": "0502220001"}, "+380673334455")
    run()
    assert len(kept(rows)) == 2
    before = writes(rows)
    put(portal, ANNA, {"userPhoneNumber": "+380673334455"})
    for terms in (TERMS, replace(TERMS, whole=True)):
        done = run(terms)
        assert done.counts.read_count >= 2
        assert counts(done) == {"read_count": done.counts.read_count}
    assert writes(rows) == before


def test_two_customers_with_one_phone_are_a_conflict_and_never_a_guess(portal: Any, rows: Rows, run: Sync) -> None:
    rows.do("insert into accounting.customer (phone) values ('0501112233'), ('+380 50 111 22 33')")
    put(portal, ANNA)
    assert counts(run()) == {"read_count": 1}
    assert kept(rows) == [("id:1", "shared_phone", ["1", "2"])]
    rows.do("update accounting.customer set phone = null where customer_id = 2")
    put(portal)
    assert run().counts.linked_count == 1, "what is no conflict any more is stored, though nobody reads it again"
    assert (kept(rows), links(rows)) == ([], [("1", "1", "+380501112233")])


def test_two_clients_of_one_customer_are_a_conflict(portal: Any, rows: Rows, run: Sync) -> None:
    put(portal, ANNA)
    run()
    put(portal, {"id": 9, "userPhoneNumber": "050 111 22 33"})
    run()
    assert kept(rows) == [("id:9", "second_client", ["1"])]
    assert links(rows) == [("1", "1", "+380501112233")]


def test_two_clients_with_one_new_phone_in_one_page_become_one_customer(portal: Any, rows: Rows, run: Sync) -> None:
    put(portal, ANNA, {"id": 9, "userPhoneNumber": "050 111 22 33"}, {"id": 10, "userPhoneNumber": "0672223344"})
    assert run().counts.created_count == 2
    assert len(customers(rows)) == 2
    ((customer_id, _, _),) = [it for it in links(rows) if it[1] == "1"]
    assert kept(rows) == [("id:9", "second_client", [customer_id])]


def test_a_client_that_moves_to_a_free_phone_keeps_its_customer(portal: Any, rows: Rows, run: Sync) -> None:
    put(portal, ANNA)
    run()
    portal.do(portal.state.clients.find("+380501112233").fields.update, {"userPhoneNumber": "0672223344"})
    run(replace(TERMS, whole=True, winners=dict.fromkeys(FIELDS, Winner.INBOOST)))
    assert rows.all("select phone from accounting.customer") == [("+380672223344",)]
    assert links(rows) == [("1", "1", "+380672223344")]


def test_a_client_that_moves_to_a_phone_of_somebody_else_is_a_conflict(portal: Any, rows: Rows, run: Sync) -> None:
    rows.do("insert into accounting.customer (phone) values ('0501112233'), ('0672223344')")
    put(portal, ANNA)
    run()
    portal.do(portal.state.clients.find("+380501112233").fields.update, {"userPhoneNumber": "0672223344"})
    run(replace(TERMS, whole=True))
    assert kept(rows) == [("id:1", "taken_phone", ["1", "2"])]
    assert links(rows) == [("1", "1", "+380501112233")]


def test_one_customer_that_accounting_refuses_fails_no_other_and_is_tried_again(
    portal: Any, rows: Rows, run: Sync
) -> None:
    rows.do("alter table accounting.customer add constraint no_olena check (first_name <> 'Olena')")
    put(
        portal,
        *({"id": n, "userPhoneNumber": f"+38050222000{n}", "userName": "Olena" if n == 4 else "Ira"} for n in range(9)),
    )
    assert run().counts.created_count == 8
    assert kept(rows) == [("id:4", "refused", [])]
    ((reason,),) = rows.all("select reason from outbox.unstored_client")
    assert "no_olena" in reason
    rows.do("alter table accounting.customer drop constraint no_olena")
    assert run().counts.created_count == 1
    assert kept(rows) == []


def test_a_customer_whose_row_somebody_holds_is_left_for_the_next_run(
    portal: Any, rows: Rows, run: Sync, connect: Callable[..., psycopg.Connection[Any]]
) -> None:
    rows.do("insert into accounting.customer (phone) values ('0501112233'), ('0672223344')")
    put(portal, ANNA, {"id": 2, "userPhoneNumber": "0672223344", "userName": "Ira"})
    till = connect(autocommit=False)
    till.execute("select from accounting.customer where customer_id = 1 for update")
    assert run().counts.changed_count == 1
    assert kept(rows) == [("id:1", "refused", [])]
    till.rollback()
    assert run().counts.changed_count == 1
    assert kept(rows) == []


def test_nobody_is_added_whom_a_cashier_has_added_since_the_sync_began(
    portal: Any, rows: Rows, run: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(customer_sync, "DIRECTORY_FRESH_S", 0.0)
    put(portal, ANNA)
    portal.put_faults("list_clients:barrier")
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(run)
        until(lambda: portal.do(portal.sandbox.barrier.counts)["arrived"], "the page to be asked for")
        rows.do("insert into accounting.customer (phone) values ('0501112233')")
        portal.do(portal.sandbox.barrier.release)
        assert done.result(30).counts.linked_count == 1
    assert len(customers(rows)) == 1


def test_a_customer_that_is_gone_from_accounting_takes_its_link_along(portal: Any, rows: Rows, run: Sync) -> None:
    put(portal, ANNA)
    run()
    rows.do("delete from accounting.customer")
    run()
    assert links(rows) == [] or customers(rows) != []


def test_impossible_dates_of_birth_are_told_and_not_stored(portal: Any, rows: Rows, run: Sync) -> None:
    put(portal, ANNA | {"birth": "1990-02-30"})
    run()
    assert rows.all("select birth_date from accounting.customer") == [(None,)]
    assert rows.all("select remark from outbox.client") == [("birth_date 1990-02-30 is impossible",)]


def test_a_run_that_would_change_too_many_customers_stops_and_goes_on_when_forced(
    portal: Any, rows: Rows, run: Sync
) -> None:
    put(portal, *({"id": n, "userPhoneNumber": f"+3805022201{n:02}"} for n in range(20)))
    put(portal, *({"id": 100 + n, "userPhoneNumber": f"+380502223{n:03}"} for n in range(100)))
    terms = replace(TERMS, change_share_max=0.2, page_size=60)
    with pytest.raises(SyncStopped, match="more than 100 customers"):
        run(terms)
    with pytest.raises(SyncStopped, match="more than 100 customers; 60 were"):
        run(terms)
    assert len(customers(rows)) == 60
    assert "more than 100" in rows.all("select problem from outbox.sync_run")[0][0]
    assert run(replace(terms, force=True)).counts.created_count == 120
    assert len(customers(rows)) == 120


def test_two_syncs_do_not_run_at_once(portal: Any, run: Sync) -> None:
    put(portal, ANNA)
    portal.put_faults("list_clients:barrier")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(run)
        until(lambda: portal.do(portal.sandbox.barrier.counts)["arrived"], "the page to be asked for")
        with pytest.raises(RunningElsewhere):
            run()
        portal.do(portal.sandbox.barrier.release)
        assert first.result(30).counts.created_count == 1


def test_a_dry_run_says_what_a_run_would_do_and_writes_nothing(
    portal: Any, rows: Rows, database_url: str, worker_login: dict[str, str]
) -> None:
    rows.do(
        "insert into accounting.customer (phone, first_name) values"
        " ('0501112233', null), ('0672223344', 'Ira'), ('0672223355', 'Two'), ('0672223355', 'Twins')"
    )
    put(
        portal,
        ANNA,
        {"id": 2, "userPhoneNumber": "0672223344", "userName": "Ira"},
        "+380672223355",
        "0",
        "+380672223366",
    )
    with listing(portal.url) as source:
        found = plan(make_conninfo(database_url, **worker_login), source, TERMS)
    assert (found.read_count, found.customer_count) == (5, 4)
    assert {word: n for word, n in found.counts.items() if n} == {
        "change": 1,
        "link": 1,
        "shared_phone": 1,
        "no_phone": 1,
        "create": 1,
    }
    assert (links(rows), kept(rows), len(customers(rows))) == ([], [], 4)
    assert rows.all("select from outbox.sync_run") == []


def test_what_a_till_changes_between_the_look_and_the_change_is_not_overwritten(
    portal: Any, rows: Rows, run: Sync, connect: Callable[..., psycopg.Connection[Any]]
) -> None:
    rows.do("insert into accounting.customer (phone) values ('0501112233')")
    put(portal, ANNA)
    till = connect(autocommit=False)
    till.execute("update accounting.customer set source = 'till', changed_at = now() where customer_id = 1")
    with ThreadPoolExecutor(1) as pool:
        syncing = pool.submit(run)
        until(
            lambda: rows.all(
                "select from pg_stat_activity where wait_event_type = 'Lock'"
                " and application_name = 'outbox-worker customers sync'"
            ),
            "the sync to have looked, and to wait for the customer",
        )
        till.commit()
        syncing.result(30)
    assert [kind for _, kind, _ in kept(rows)] == ["refused"]
    ((reason,),) = rows.all("select reason from outbox.unstored_client")
    assert "the next run" in reason
    run()
    assert (kept(rows), links(rows)) == ([], [("1", "1", "+380501112233")])
    assert rows.all("select first_name, source from accounting.customer") == [("Anna", "till")]


def test_a_till_that_wants_what_the_sync_holds_gets_it_before_anybody_looks_for_a_deadlock(
    portal: Any, rows: Rows, run: Sync, connect: Callable[..., psycopg.Connection[Any]]
) -> None:
    rows.do("insert into accounting.customer (phone) values ('0501112233'), ('0672223344')")
    put(portal, ANNA, {"id": 2, "userPhoneNumber": "0672223344", "userName": "Ira"})
    till = connect(autocommit=False)
    till.execute("update accounting.customer set source = 'till' where customer_id = 2")
    with ThreadPoolExecutor(1) as pool:
        syncing = pool.submit(run)
        until(
            lambda: rows.all(
                "select from pg_stat_activity where wait_event_type = 'Lock'"
                " and application_name = 'outbox-worker customers sync'"
            ),
            "the sync to hold the first customer and to wait for the second",
        )
        till.execute("update accounting.customer set source = 'till' where customer_id = 1")
        till.commit()
        syncing.result(30)
    run()
    assert rows.all("select first_name, source from accounting.customer order by 1") == [
        ("Anna", "till"),
        ("Ira", "till"),
    ]
