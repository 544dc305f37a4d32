"""Who may do what: accounting users need no right on the outbox, and the worker cannot forge or unsay anything."""

from __future__ import annotations

from collections.abc import Iterable

import psycopg
import pytest

from outbox_worker.database import schema
from tests.sql.conftest import Login
from tests.sql.till import DOORBELL, Session, add_customer, event_ids, failures, in_outbox, record, sell, value

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
    "select identity.asked('{}', '{}', '{}')",
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

FORGERY = """
do $$
declare
    ours constant oid[] := array['text', 'json', 'bool', 'int4', 'int8', 'timestamptz']::regtype[];
    it record;
begin
    for it in select distinct proname, pg_get_function_identity_arguments(oid) as arguments from pg_proc
              where pronamespace = 'pg_catalog'::regnamespace and prokind = 'f' and pronargs > 0 and not proretset
                and proargtypes::oid[] <@ ours and proallargtypes is null loop
        execute format('create function forged.%I(%s) returns text language plpgsql as %L',
                       it.proname, it.arguments, 'begin raise ''forged''; end');
    end loop;
    for it in select oprname, oprleft::regtype as one, oprright::regtype as other from pg_operator
              where oprleft = any (ours) and oprright = any (ours) loop
        execute format('create or replace function forged.operate(%s, %s) returns bool language plpgsql as %L',
                       it.one, it.other, 'begin raise ''forged''; end');
        execute format('create operator forged.%s (leftarg = %s, rightarg = %s, function = forged.operate)',
                       it.oprname, it.one, it.other);
    end loop;
end
$$;
"""


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
    assert value(web, "select count(*) from identity.add(array['b@b.c'], array[null], array[null])") == 1
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


def test_every_function_with_the_owners_rights_has_its_search_path_pinned_but_for_the_door(dba: Session) -> None:
    """The door writes each name in full instead, for every sale pays for a setting; the next test is about that."""
    loose = dba.execute(
        "select oid::regproc::text from pg_proc where prosecdef and pronamespace in ('outbox'::regnamespace,"
        " 'identity'::regnamespace, 'integration'::regnamespace)"
        " and not coalesce(proconfig, '{}') @> array['search_path=pg_catalog, pg_temp']"
    ).fetchall()
    assert loose == [("outbox.record_event",)]


def test_whatever_a_caller_puts_before_the_names_of_postgresql_the_door_uses_its_own(
    login: Login, dba: Session
) -> None:
    """Functions and operators for whatever the door handles, its type and its tables are forged, and raise an error."""
    caller = login("grant outbox_worker to {}", "create schema forged authorization {}")
    caller.execute(FORGERY)
    for name in ("event", "delivery", "route", "duplicate"):
        caller.execute(f"create table forged.{name} (id int); create temporary view {name} as select 1 / 0 as nothing")
    caller.execute("create domain forged.text as pg_catalog.text check (value is null)")
    caller.execute("grant usage on schema forged to public; set search_path = forged, pg_temp, pg_catalog")
    with pytest.raises(psycopg.errors.RaiseException, match="forged"):
        caller.execute("select pg_catalog.text 'a' || pg_catalog.text 'b'")
    door = """select outbox.record_event('purchase', %s, '7', '{"contact_email": "a@b.c"}', '2026-01-02')"""
    assert value(caller, door, "1") is True
    assert value(caller, door, "1") is False
    dba.execute("select pg_advisory_lock(%s)", [DOORBELL])
    assert value(caller, door, "2") is True, "and this one rang"
    assert event_ids(dba) == ["purchase:1", "purchase:2"]
    assert in_outbox(dba) == {"event": 2, "delivery": 4, "duplicate": 1, "capture_failure": 0}


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
