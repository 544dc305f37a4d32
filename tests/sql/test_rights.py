"""Who may do what: accounting users need no right on the outbox, and the worker cannot forge or unsay anything."""

from __future__ import annotations

from collections.abc import Iterable

import psycopg

from outbox_worker.database import schema
from tests.sql.conftest import Login
from tests.sql.till import Session, add_customer, event_ids, failures, in_outbox, record, sell, value

OUTBOX_TABLES = [
    "act", "addressee", "attempt", "backlog", "capture_failure", "claim", "client", "customer_phone", "delivery",
    "destination", "duplicate", "event", "round", "round_run", "route", "sync_run", "told_lot", "unstored_client",
]  # fmt: skip
APPEND_ONLY = ["event", "attempt", "act", "duplicate"]
CHANGES = [
    "insert into outbox.event (event_id, kind, source_id, occurred_at, historic, payload)"
    " values ('purchase:1', 'purchase', '1', now(), false, '{}')",
    "insert into outbox.delivery (lane, event_id, operation, destination) values (1, 'purchase:1', 'o', 'd')",
]

OF_NO_ACCOUNTING_USER = [
    *CHANGES,
    "select outbox.record_event('purchase', '1', '1', '{}', now())",
    "select outbox.record_capture_failure('purchase', '1', '22012', '')",
    "select outbox.ring_doorbell()",
    "select outbox.schema_version()",
    "select outbox.lane_of('api', '1')",
    "select integration.keep_failure('purchase', '1', '22012', '')",
    "select integration.add_customer('+380501234567', '', '', null, '', '')",
    "select integration.change_customer('1', '+380501234567', '', '', null, '', '')",
    "select from integration.customer",
    "select nextval('outbox.claim_id')",
    "select nextval('outbox.fact_number')",
    "select identity.identify('a@b.c', null)",
    "select from identity.contact",
    "create table outbox.mine ()",
    "create table integration.mine ()",
    "create table identity.mine ()",
    "drop schema outbox cascade",
    "set role outbox_owner",
    "set role outbox_worker",
]
OF_NO_WEB_PROCESS = [
    *CHANGES,
    "select outbox.record_event('purchase', '1', '1', '{}', now())",
    "select outbox.lane_of('api', '1')",
    *(f"select from {table}" for table in ("outbox.event", "identity.contact", "identity.large_cluster")),
    "insert into identity.contact (email) values ('a@b.c')",
    "delete from identity.contact",
    "select identity.link(1, 2)",
    "select identity.unlink(1)",
    "select identity.erase(1)",
    "select outbox.erase_events('{}', '{}', '{}')",
    "select identity.lock_all()",
    "select identity.cluster(1)",
    "select from integration.customer",
    "set role outbox_worker",
]
OF_NO_WORKER = [
    *CHANGES,
    *(f"{verb} outbox.{table}" for table in APPEND_ONLY for verb in ("delete from", "truncate")),
    *(f"update outbox.{table} set event_id = 'x'" for table in APPEND_ONLY),
    "truncate outbox.delivery",
    "insert into outbox.addressee (event_id, operation, lane, delivery_id) values ('x', 'x', 1, 1)",
    "delete from outbox.addressee",
    "select outbox.await_identity('x', 'purchase', '1', '{}', false)",
    "select outbox.ring_identification()",
    "insert into outbox.duplicate (event_id) values ('x')",
    "insert into outbox.capture_failure (kind, sqlstate, message) values ('x', 'x', 'x')",
    "update outbox.capture_failure set message = ''",
    "delete from outbox.capture_failure",
    "insert into outbox.route values ('purchase', 'elsewhere', 'api', false)",
    "update outbox.route set destination = 'api'",
    "delete from outbox.route",
    "insert into outbox.destination (destination) values ('elsewhere')",
    "delete from outbox.destination",
    "insert into outbox.round (round) values ('elsewhere')",
    "delete from outbox.round",
    "delete from outbox.round_run",
    "delete from outbox.told_lot",
    "update outbox.event set payload = 'null'",
    "select outbox.record_capture_failure('purchase', '1', '22012', '')",
    "select outbox.ring_doorbell()",
    "select setval('outbox.claim_id', 1)",
    "create table outbox.mine ()",
    "create or replace function outbox.schema_version() returns integer language sql return 2",
    "alter table outbox.event disable trigger all",
    "drop table outbox.event",
    "insert into identity.contact (email) values ('a@b.c')",
    "update identity.contact set email = 'a@b.c'",
    "delete from identity.contact",
    "select identity.join_clusters(1, 2)",
    "select from accounting.customer",
    "insert into accounting.customer (phone) values ('+380501234567')",
    "update accounting.bonus_account set balance = 0",
    "set role outbox_owner",
]


def allowed(session: Session, statements: Iterable[str]) -> list[str]:
    """Return those of the statements that are not refused for want of a right."""
    return [statement for statement in statements if not _is_refused(session, statement)]


def _is_refused(session: Session, statement: str) -> bool:
    try:
        session.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        return True
    return False


def test_what_a_user_without_any_right_on_the_outbox_sells_is_captured(accountant: Session, dba: Session) -> None:
    sell(accountant, add_customer(accountant))
    assert in_outbox(dba) == {"event": 3, "delivery": 4, "duplicate": 0, "capture_failure": 0}


def test_an_accounting_user_cannot_see_the_outbox(accountant: Session) -> None:
    assert not allowed(accountant, (f"select from outbox.{table}" for table in OUTBOX_TABLES))


def test_an_accounting_user_cannot_touch_the_outbox(accountant: Session) -> None:
    assert not allowed(accountant, OF_NO_ACCOUNTING_USER)


def test_an_accounting_user_cannot_attach_a_capture_function_to_a_table_of_its_own(login: Login) -> None:
    user = login("create schema authorization {}")
    user.execute("create table mine (purchase_id bigint, customer_id bigint)")
    forge = "create trigger forge after insert on mine for each row execute function integration.capture_purchase()"
    assert not allowed(user, [forge])


def test_the_worker_cannot_forge_or_unsay_anything(worker: Session) -> None:
    assert not allowed(worker, OF_NO_WORKER)


def test_the_web_process_may_identify_and_nothing_else(login: Login) -> None:
    web = login("grant outbox_identify to {}")
    assert not allowed(web, OF_NO_WEB_PROCESS)
    assert value(web, "select identity.identify('a@b.c', null) #>> '{contact,emails,0}'") == "a@b.c"
    assert value(web, "select count(*) from identity.known(array['a@b.c'], array[null], array[null])") == 1
    assert value(web, "select outbox.schema_version()") == schema.VERSION


def test_the_worker_reads_everything_of_the_outbox(worker: Session) -> None:
    for table in OUTBOX_TABLES:
        worker.execute(f"select * from outbox.{table}")
    assert value(worker, "select outbox.schema_version()") == schema.VERSION


def test_the_worker_records_facts_at_the_door(worker: Session, dba: Session) -> None:
    assert record(worker) is True
    assert record(worker) is False
    assert value(dba, "select recorder from outbox.duplicate") == worker.info.user


def test_the_worker_adds_and_changes_customers_through_the_mapping_alone(worker: Session, dba: Session) -> None:
    words = "'+380501234567', 'Ганна', 'Рубан', '1990-02-03', 'InBoost', 'nurse'"
    customer = value(worker, f"select integration.add_customer({words})")
    assert customer == "1"
    worker.execute(f"select integration.change_customer('1', {words.replace('nurse', 'surgeon')})")
    assert value(dba, "select specialty || birth_date from accounting.customer") == "surgeon1990-02-03"
    assert value(worker, "select phone from integration.customer") == "+380501234567"


def test_public_has_no_right_on_anything_of_ours(dba: Session) -> None:
    granted = dba.execute(
        "select oid::regclass::text from pg_class where relnamespace in ('outbox'::regnamespace,"
        " 'identity'::regnamespace, 'integration'::regnamespace)"
        " and exists (select from aclexplode(relacl) where grantee = 0)"
        " union all select oid::regprocedure::text from pg_proc where pronamespace in ('outbox'::regnamespace,"
        " 'identity'::regnamespace, 'integration'::regnamespace)"
        " and exists (select from aclexplode(coalesce(proacl, acldefault('f', proowner))) where grantee = 0)"
    ).fetchall()
    assert not granted


def test_all_that_is_ours_belongs_to_the_owner_that_nobody_logs_in_as(dba: Session) -> None:
    spaces = "('outbox'::regnamespace, 'identity'::regnamespace, 'integration'::regnamespace)"
    owners = dba.execute(
        f"select distinct owner::regrole::text from (select relowner from pg_class where relnamespace in {spaces}"
        f" union select proowner from pg_proc where pronamespace in {spaces}"
        f" union select typowner from pg_type where typnamespace in {spaces}"
        f" union select nspowner from pg_namespace where oid in {spaces}) of_ours (owner)"
    ).fetchall()
    assert owners == [("outbox_owner",)]
    assert not value(dba, "select bool_or(rolcanlogin or rolsuper) from pg_roles where rolname like 'outbox\\_%%'")


def test_every_function_with_the_owners_rights_has_its_search_path_pinned(dba: Session) -> None:
    loose = dba.execute(
        "select oid::regprocedure from pg_proc where prosecdef and pronamespace in ('outbox'::regnamespace,"
        " 'identity'::regnamespace, 'integration'::regnamespace)"
        " and not coalesce(proconfig, '{}') @> array['search_path=pg_catalog, pg_temp']"
    ).fetchall()
    assert not loose


def test_what_a_user_puts_into_the_search_path_or_into_temporary_tables_changes_nothing(
    login: Login, dba: Session
) -> None:
    user = login(
        "grant usage on schema accounting to {}",
        "grant select, insert, update on all tables in schema accounting to {}",
        "create schema authorization {}",
    )
    customer = add_customer(user)
    for name in ("event", "delivery", "route", "capture_failure", "purchase", "customer", "bonus_balance"):
        user.execute(f"create temporary table {name} (id int); create view {name} as select 1 / 0 as nothing")
    for function in ("clock_timestamp()", "pg_notify(text, text)", "json_build_object(variadic text[])"):
        user.execute(f"create function {function} returns text language plpgsql as 'begin return 1 / 0; end'")
    user.execute("create function concatenate(text, text) returns text language sql return 'forged'")
    user.execute("create operator || (leftarg = text, rightarg = text, function = concatenate)")
    user.execute('set search_path = pg_temp, "$user", pg_catalog')
    purchase = sell(user, customer)
    assert f"purchase:{purchase}" in event_ids(dba)
    assert not failures(dba)
