"""Capture never breaks accounting: whatever is wrong with outbox or mapping, the sale commits and we hear of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import closing

import psycopg
import pytest

from outbox_worker.demo.postgres import PostgresServer
from tests.conftest import Server
from tests.sql.conftest import Login
from tests.sql.till import (
    Connect,
    Session,
    add_customer,
    add_purchase,
    beside,
    event_ids,
    failures,
    in_outbox,
    record,
    sell,
    until_waiting,
    value,
)

ServerLog = Callable[[], str]

SETTINGS = [
    "row_security = off",
    "check_function_bodies = off",
    "transform_null_equals = on",
    "standard_conforming_strings = off",
    "plan_cache_mode = force_custom_plan",
    "session_replication_role = local",
    "client_min_messages = debug5",
    "default_transaction_isolation = serializable",
    "default_transaction_deferrable = on",
    "constraint_exclusion = on",
    "xmloption = document",
    "quote_all_identifiers = on",
    "bytea_output = escape",
    "timezone = 'Asia/Kathmandu'",
    "lock_timeout = 1",
    "work_mem = '64kB'",
    "enable_indexscan = off",
    "jit_above_cost = 0",
    "statement_timeout = '5s'",
    "lc_monetary = 'C'",
    "search_path = ''",
]


@pytest.fixture
def server_log(server: Server) -> ServerLog:
    """Read what the server has logged since the test began."""
    if not isinstance(server, PostgresServer):
        pytest.skip("the log of an external server cannot be read from here")
    log, start = server.log, server.log.stat().st_size
    return lambda: log.read_bytes()[start:].decode()


def with_view(session: Session, name: str, replaced: str, by: str) -> None:
    """Replace an expression in a view of the mapping."""
    text = value(session, "select pg_get_viewdef(%s::regclass)", f"integration.{name}")
    assert replaced in text, text
    session.execute(f"create or replace view integration.{name} as {text.replace(replaced, by, 1)}")


def sales(session: Session) -> int:
    return int(value(session, "select count(*) from accounting.purchase"))


@pytest.mark.parametrize(
    ("fault", "sqlstate"),
    [
        ("p.total / 0", "22012"),
        ("(p.total || ' UAH')::numeric", "22P02"),
        ("p.total * 1e11", "22003"),
        ("(select total from accounting.purchase cross join generate_series(1, 2))", "21000"),
        ("pg_read_file('/etc/hostname')::numeric", "42501"),
        ("current_setting('there.is.none')::numeric", "42704"),
    ],
)
def test_a_sale_commits_when_its_mapping_fails_and_the_failure_is_kept(
    dba: Session, customer: int, fault: str, sqlstate: str
) -> None:
    with_view(dba, "purchase", "p.total", f"({fault})::numeric(12,2) as total")
    purchase = sell(dba, customer)
    assert failures(dba) == [("purchase", str(purchase), sqlstate)]
    assert len(event_ids(dba)) == 2, "the accrual and the balance are captured all the same"
    assert value(dba, "select message <> '' and repaired_at is null from outbox.capture_failure")


def test_a_failed_assertion_of_the_mapping_is_a_failure_like_others(dba: Session, customer: int) -> None:
    """PL/pgSQL leaves it out of `others`."""
    dba.execute("create function integration.checked(text) returns text language plpgsql as"
                " $$ begin assert false, 'a phone'; return $1; end $$")  # fmt: skip
    with_view(dba, "purchase", "c.phone", "integration.checked(c.phone) as phone")
    purchase = sell(dba, customer)
    assert failures(dba) == [("purchase", str(purchase), "P0004")]


@pytest.mark.parametrize(
    ("damage", "kinds"),
    [
        ("revoke select on accounting.purchase_line from outbox_owner", ["purchase"]),
        ("revoke select on accounting.bonus_account from outbox_owner", ["bonus_balance", "bonus_accrual"]),
        ("drop view integration.purchase cascade", ["purchase"]),
        ("drop sequence outbox.fact_number", ["bonus_balance"]),
        ("drop table outbox.event", ["bonus_balance", "purchase", "bonus_accrual"]),
        ("drop table outbox.delivery cascade", ["bonus_balance", "purchase", "bonus_accrual"]),
        ("drop table outbox.route cascade", ["bonus_balance", "purchase", "bonus_accrual"]),
        ("drop function outbox.lane_of", ["bonus_balance", "purchase", "bonus_accrual"]),
        ("alter table outbox.event add column note text not null", ["bonus_balance", "purchase", "bonus_accrual"]),
        (
            "alter table outbox.delivery alter delivery_id restart 1;"
            " insert into outbox.delivery (lane, delivery_id, event_id, operation, destination) overriding system value"
            " select outbox.lane_of('accrual_hook', customer_id::text), 4, '', '', '' from accounting.customer",
            ["bonus_accrual"],
        ),
    ],
    ids=lambda it: it.split(";")[0] if isinstance(it, str) else "",
)
def test_a_sale_commits_when_the_outbox_or_the_mapping_is_damaged(
    dba: Session, customer: int, damage: str, kinds: list[str]
) -> None:
    dba.execute(damage)
    sell(dba, customer)
    assert sales(dba) == 1
    assert [kind for kind, _, _ in failures(dba)] == kinds


@pytest.mark.parametrize(
    "damage",
    [
        "drop table outbox.capture_failure; drop table outbox.event",
        "drop function outbox.record_capture_failure; drop function outbox.record_event",
        "revoke execute on function outbox.record_event, outbox.record_capture_failure from outbox_owner",
        "drop schema outbox cascade",
        "alter schema outbox rename to elsewhere",
    ],
)
def test_a_sale_commits_and_the_server_logs_it_when_not_even_the_failure_can_be_kept(
    dba: Session, customer: int, server_log: ServerLog, damage: str
) -> None:
    dba.execute(damage)
    purchase = sell(dba, customer)
    assert sales(dba) == 1
    assert f"outbox: purchase {purchase} was not captured" in server_log()


@pytest.mark.parametrize("level", ["debug5", "log", "notice"])
def test_a_failure_that_the_users_program_could_not_spell_does_not_end_the_sale(
    connect: Connect, dba: Session, customer: int, level: str
) -> None:
    """A warning in Cyrillic, sent to a program that speaks LATIN1, was an error inside the handler of errors."""
    with_view(dba, "purchase", "p.total", "(p.total || ' гривень')::numeric(12,2) as total")
    dba.execute("drop table outbox.capture_failure")
    till = connect()
    till.execute(f"set client_min_messages = {level}; set client_encoding = 'LATIN1'")
    sell(till, customer, name="Tea")
    assert sales(dba) == 1


def test_a_time_that_no_program_could_read_is_a_failure_and_no_event(dba: Session, customer: int) -> None:
    dba.execute(
        "insert into accounting.purchase (customer_id, total, purchased_at) values (%s, 1, 'infinity')", [customer]
    )
    assert failures(dba) == [("purchase", "1", "23514")]
    assert not event_ids(dba)


def test_a_name_that_is_too_long_for_an_index_is_a_failure_with_that_name(dba: Session, customer: int) -> None:
    name = "Ї" + secrets.token_hex(4000)
    with_name(dba, name)
    add_purchase(dba, customer)
    assert failures(dba) == [("purchase", name, "54000")]


@pytest.mark.parametrize("name", ["", ":", "12:3", "Продажа-000 123/А", "a\r\nX-Injected: 1", "\\", "'; drop table x"])
def test_any_other_name_is_one(dba: Session, customer: int, name: str) -> None:
    with_name(dba, name)
    add_purchase(dba, customer)
    assert event_ids(dba) == [f"purchase:{name}"]


def test_a_customers_name_may_be_as_long_as_it_likes(dba: Session) -> None:
    assert record(dba, customer_id=secrets.token_hex(500_000)) is True


def with_name(session: Session, name: str) -> None:
    """Give purchases names as other accounting systems have them."""
    text = value(session, "select pg_get_functiondef('integration.capture_purchase'::regproc)")
    for number in ("e.source_id::text", "new.purchase_id::text"):
        assert number in text
        text = text.replace(number, "current_setting('the.name')")
    session.execute(text)
    session.execute("select set_config('the.name', %s, false)", [name])


def test_a_fact_whose_name_is_null_is_a_failure(dba: Session, customer: int) -> None:
    dba.execute("alter sequence outbox.fact_number maxvalue 2")
    dba.execute("select setval('outbox.fact_number', 2)")
    dba.execute("update accounting.bonus_account set balance = 1")
    assert failures(dba) == [("bonus_balance", None, "2200H")]
    dba.execute("select outbox.record_capture_failure(null, null, '22012', 'x')")
    assert failures(dba)[1] == ("", None, "22012")


def test_a_conflict_that_is_not_about_the_event_is_a_failure_and_no_duplicate(dba: Session, customer: int) -> None:
    """Both SQLSTATEs were once taken for "this fact is known", and a sale without an event was called a duplicate."""
    for sqlstate in ("23505", "40001"):
        dba.execute("select outbox.record_capture_failure('purchase', '1', %s, 'of the mapping')", [sqlstate])
    assert failures(dba) == [("purchase", "1", "23505"), ("purchase", "1", "40001")]
    assert in_outbox(dba) == {"event": 0, "delivery": 0, "duplicate": 0, "capture_failure": 2}


def test_rows_that_row_level_security_hides_from_the_mapping_are_a_failure_and_not_silence(
    dba: Session, customer: int
) -> None:
    dba.execute("alter table accounting.purchase enable row level security")
    purchase = add_purchase(dba, customer)
    assert failures(dba) == [("purchase", str(purchase), "42501")]


def test_a_sale_is_captured_whatever_its_session_has_set(connect: Connect, dba: Session, customer: int) -> None:
    for count, setting in enumerate(SETTINGS, 1):
        with closing(connect()) as till:
            till.execute(f"set {setting}")
            sell(till, customer)
        captured = {"event": 3 * count, "delivery": 4 * count, "duplicate": 0, "capture_failure": 0}
        assert in_outbox(dba) == captured, setting


def test_a_session_that_replays_another_server_records_nothing_and_sells(connect: Connect, dba: Session) -> None:
    """Known, and repaired by reconciliation: to fire here would record what the other server has recorded."""
    till = connect()
    customer = add_customer(till)
    till.execute("set session_replication_role = replica")
    sell(till, customer)
    assert in_outbox(dba) == {"event": 0, "delivery": 0, "duplicate": 0, "capture_failure": 0}


def test_a_transaction_that_is_made_read_only_at_its_end_commits(
    connect: Connect, dba: Session, customer: int, server_log: ServerLog
) -> None:
    till = connect()
    till.execute("begin")
    purchase = sell(till, customer)
    till.execute("set transaction read only")
    till.execute("commit")
    assert sales(dba) == 1
    assert f"outbox: purchase {purchase} was not captured (25006" in server_log()


def test_a_sale_that_may_not_wait_commits_although_its_fact_is_being_recorded(
    connect: Connect, dba: Session, customer: int
) -> None:
    till, other = connect(), connect()
    till.execute("set lock_timeout = '50ms'; begin")
    purchase = add_purchase(till, customer)
    other.execute("begin")
    record(other, str(purchase))
    till.execute("commit")
    assert sales(dba) == 1
    assert failures(dba) == [("purchase", str(purchase), "55P03")]


def test_a_sale_commits_when_it_is_the_one_that_a_deadlock_with_another_recorder_ends(
    connect: Connect, dba: Session, customer: int
) -> None:
    till, other = connect(), connect()
    till.execute("set deadlock_timeout = '20ms'; begin; set constraints all immediate")
    first = add_purchase(till, customer)
    till.execute("set constraints all deferred")
    second = add_purchase(till, customer)
    other.execute("set deadlock_timeout = '60s'; begin")
    record(other, str(second))
    with beside(lambda: record(other, str(first))):
        until_waiting(dba, other)
        till.execute("commit")
    other.execute("commit")
    assert sales(dba) == 2
    assert failures(dba) == [("purchase", str(second), "40P01")]
    assert sorted(event_ids(dba)) == [f"purchase:{first}", f"purchase:{second}"]


@pytest.mark.parametrize(("how", "error"), [("cancel", "QueryCanceled"), ("terminate", "AdminShutdown")])
def test_a_sale_that_is_cancelled_in_the_middle_of_a_capture_is_cancelled(
    connect: Connect, dba: Session, customer: int, how: str, error: str
) -> None:
    till, other = connect(), connect()
    till.execute("begin")
    purchase = add_purchase(till, customer)
    other.execute("begin")
    record(other, str(purchase))
    with beside(lambda: error_of(till, "commit")) as ended:
        until_waiting(dba, till)
        dba.execute(f"select pg_{how}_backend(%s)", [till.info.backend_pid])
    assert ended.result() == error
    other.execute("rollback")
    assert sales(dba) == 0
    assert in_outbox(dba) == {"event": 0, "delivery": 0, "duplicate": 0, "capture_failure": 0}


def test_a_statement_time_out_is_obeyed_in_the_middle_of_a_capture(dba: Session, customer: int) -> None:
    """Only for what is captured at once: what is captured at commit no statement time-out of PostgreSQL reaches."""
    with_view(dba, "bonus_balance", "c.phone", "c.phone || pg_sleep(60) as phone")
    dba.execute("set statement_timeout = '50ms'")
    assert error_of(dba, "update accounting.bonus_account set balance = 1") == "QueryCanceled"
    assert not failures(dba)


def error_of(session: Session, statement: str) -> str | None:
    try:
        session.execute(statement)
    except psycopg.Error as error:
        return type(error).__name__
    return None


def test_a_user_whose_own_rights_are_gone_at_commit_has_its_sale_captured(
    accountant: Session, dba: Session, customer: int, login: Login
) -> None:
    accountant.execute("begin")
    sell(accountant, customer)
    dba.execute(f"revoke all on all tables in schema accounting from {accountant.info.user}")
    accountant.execute("commit")
    assert in_outbox(dba)["event"] == 3
    assert not failures(dba)


def test_a_schema_change_after_a_sale_in_one_transaction_is_refused_by_postgresql(dba: Session, customer: int) -> None:
    """Known and told in sql/README.md: what a deferred trigger costs a vendor's upgrade that writes rows too."""
    dba.execute("begin")
    sell(dba, customer)
    with pytest.raises(psycopg.errors.ObjectInUse, match="pending trigger events"):
        dba.execute("alter table accounting.purchase add column note text")
    dba.execute("rollback; begin")
    sell(dba, customer)
    dba.execute("set constraints all immediate; alter table accounting.purchase add column note text; commit")
    assert in_outbox(dba)["event"] == 3
