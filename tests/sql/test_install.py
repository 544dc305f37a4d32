"""Installing: again and again, from psql, by whoever may, two at once; and taking it all out again."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from outbox_worker.database import schema
from outbox_worker.demo.postgres import PostgresServer, embedded_directory
from tests.conftest import BIN_DIRECTORY
from tests.sql.catalogue import catalogue, identities
from tests.sql.till import Connect, Session, add_customer, beside, in_outbox, sell, until_waiting, value

MAPPING = "accounting/reference_mapping.sql"
REFERENCE_SCHEMA = "accounting/reference_schema.sql"


@pytest.fixture
def psql() -> Path:
    program = Path(BIN_DIRECTORY or embedded_directory()) / "psql"
    if not program.exists():
        pytest.skip(f"there is no {program}")
    return program


@pytest.fixture
def empty(connect: Connect, empty_database_url: str) -> Session:
    """A superuser's session in a database with nothing of ours in it."""
    return connect(empty_database_url)


@pytest.fixture(scope="module")
def fresh_server(make_server: Callable[..., PostgresServer]) -> Iterator[PostgresServer]:
    """A server that has never seen our roles."""
    with make_server() as server:
        yield server


@pytest.fixture
def make_database(fresh_server: PostgresServer) -> Iterator[Callable[[], str]]:
    """Make databases on the fresh server; afterwards they and our roles are gone, so that it is fresh again."""
    names: list[str] = []
    with psycopg.connect(fresh_server.url(), autocommit=True) as session:

        def make() -> str:
            names.append(f"test_{secrets.token_hex(4)}")
            session.execute(f"create database {names[-1]}")
            return fresh_server.url(names[-1])

        yield make
        for name in names:
            session.execute(f"drop database {name} with (force)")
        for (role,) in session.execute("select rolname from pg_roles where rolname !~ '^(pg_|postgres)'").fetchall():
            session.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


def run(session: Session, *files: str) -> None:
    for name in files:
        with session.transaction():
            session.execute(sql.SQL(schema.script(name)))


def of_outbox(session: Session) -> list[str]:
    return [line for line in catalogue(session, "outbox") if not line.startswith("other schema")]


def install_all(session: Session) -> None:
    schema.install(session)
    schema.install_reference(session)


def test_to_install_again_changes_nothing(dba: Session, customer: int) -> None:
    sell(dba, customer)
    dba.execute("update outbox.route set enabled = false where operation = 'purchase_webhook'")
    dba.execute("update outbox.destination set paused_at = now(), pause_reason = 'by me' where destination = 'api'")
    before = catalogue(dba), identities(dba), in_outbox(dba)
    install_all(dba)
    install_all(dba)
    assert (catalogue(dba), identities(dba), in_outbox(dba)) == before


def test_what_was_damaged_is_mended_by_installing_again(dba: Session, customer: int) -> None:
    before = catalogue(dba)
    dba.execute(
        "drop function outbox.ring_doorbell; drop index outbox.delivery_open; grant all on outbox.event to public"
    )
    dba.execute("drop trigger capture_purchase on accounting.purchase; drop view outbox.backlog")
    install_all(dba)
    assert catalogue(dba) == before


def test_who_installs_keeps_the_role_and_the_settings_of_the_session(empty: Session) -> None:
    asked = "select current_user, current_setting('search_path'), current_setting('lock_timeout')"
    before = empty.execute(asked).fetchall()
    with empty.transaction():
        schema.install(empty)
        assert value(empty, "select current_user") == before[0][0]
    assert empty.execute(asked).fetchall() == before


def test_plain_psql_installs_the_same(empty: Session, psql: Path, dba: Session, empty_database_url: str) -> None:
    files = [schema.directory() / name for name in ("install.sql", REFERENCE_SCHEMA, MAPPING)]
    options = ["--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1"]
    done = subprocess.run(
        [str(psql), empty_database_url, *options, *(f"--file={file}" for file in files)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PGOPTIONS": "-c client_min_messages=warning"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert catalogue(empty) == catalogue(dba)


def test_what_schema_print_prints_installs_the_same(empty: Session, dba: Session) -> None:
    run(empty, "install.sql", *schema.REFERENCE)
    assert catalogue(empty) == catalogue(dba)


def test_uninstall_leaves_the_accounting_schema_as_it_was(empty: Session) -> None:
    run(empty, REFERENCE_SCHEMA)
    before = catalogue(empty)
    schema.install(empty)
    run(empty, MAPPING)
    customer = add_customer(empty)
    sell(empty, customer)
    schema.uninstall(empty)
    assert catalogue(empty) == before
    sell(empty, customer)
    assert value(empty, "select count(*) from accounting.purchase") == 2


def test_install_uninstall_install_is_install(empty: Session) -> None:
    install_all(empty)
    first = catalogue(empty)
    schema.uninstall(empty)
    schema.uninstall(empty)
    install_all(empty)
    assert catalogue(empty) == first
    sell(empty, add_customer(empty))
    assert in_outbox(empty)["event"] == 3


def test_a_mapping_that_is_taken_out_and_loaded_again_takes_no_new_fact_for_an_old_one(
    dba: Session, customer: int
) -> None:
    """Its numbers for changes of balances began anew, so the next changes were "known" and nobody was told of them."""
    for _ in range(3):
        sell(dba, customer)
    dba.execute("drop schema integration cascade")
    run(dba, MAPPING)
    for _ in range(3):
        sell(dba, customer)
    assert in_outbox(dba) == {"event": 18, "delivery": 24, "duplicate": 0, "capture_failure": 0}


def test_uninstall_takes_the_roles_with_it_when_no_other_database_has_a_use_for_them(
    make_database: Callable[[], str], connect: Connect
) -> None:
    one, other = connect(make_database()), connect(make_database())
    roles = "select count(*) from pg_roles where rolname in ('outbox_owner', 'outbox_worker')"
    install_all(one)
    schema.install(other)
    schema.uninstall(one)
    assert value(one, roles) == 2
    schema.uninstall(other)
    assert value(one, roles) == 0


def test_an_uninstallation_that_would_have_to_wait_for_a_sale_gives_up_and_changes_nothing(
    connect: Connect, dba: Session, customer: int
) -> None:
    before = catalogue(dba)
    open_sale = connect()
    open_sale.execute("begin")
    sell(open_sale, customer)
    with pytest.raises(psycopg.errors.LockNotAvailable):
        schema.uninstall(dba)
    open_sale.execute("commit")
    assert catalogue(dba) == before
    assert in_outbox(dba)["event"] == 3


def test_two_who_install_in_one_database_go_one_after_the_other(
    connect: Connect, empty: Session, empty_database_url: str, dba: Session
) -> None:
    first, second = connect(empty_database_url), connect(empty_database_url)
    first.execute("begin")
    schema.install(first)
    with beside(lambda: schema.install(second)):
        until_waiting(empty, second)
        first.execute("commit")
    assert of_outbox(empty) == of_outbox(dba)


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_two_who_install_in_two_databases_make_the_roles_once(
    make_database: Callable[[], str], connect: Connect, end: str
) -> None:
    one, other = make_database(), make_database()
    first, second, observer = connect(one), connect(other), connect(other)
    first.execute("begin")
    schema.install(first)
    with beside(lambda: schema.install(second)):
        until_waiting(observer, second)
        first.execute(end)
    schema.install(first)
    assert catalogue(first) == catalogue(second)


def test_the_owner_of_the_database_and_its_tables_installs_runs_and_uninstalls_without_being_superuser(
    make_database: Callable[[], str], connect: Connect, dba: Session
) -> None:
    """CREATEROLE and CREATE on the database are enough, and to own the accounting tables for the mapping."""
    url = make_database()
    superuser = connect(url)
    superuser.execute("create role builder login createrole password 'x'; create role clerk login password 'x'")
    superuser.execute(sql.SQL("grant create on database {} to builder").format(sql.Identifier(superuser.info.dbname)))
    with closing(connect(psycopg.conninfo.make_conninfo(url, user="builder", password="x"))) as builder:
        run(builder, REFERENCE_SCHEMA)
        without = catalogue(builder)
        schema.install(builder)
        run(builder, MAPPING)
        installed, ours = catalogue(builder), of_outbox(builder)
        schema.install(builder)
        run(builder, MAPPING)
        assert catalogue(builder) == installed
        builder.execute(
            "grant usage on schema accounting to clerk; grant all on all tables in schema accounting to clerk"
        )
        with closing(connect(psycopg.conninfo.make_conninfo(url, user="clerk", password="x"))) as clerk:
            sell(clerk, add_customer(clerk))
        assert in_outbox(superuser) == {"event": 3, "delivery": 4, "duplicate": 0, "capture_failure": 0}
        builder.execute(
            "revoke usage on schema accounting from clerk; revoke all on all tables in schema accounting from clerk"
        )
        schema.uninstall(builder)
        assert catalogue(builder) == without
    assert ours == of_outbox(dba)


def test_who_may_not_make_roles_is_refused_and_nothing_is_changed(
    make_database: Callable[[], str], connect: Connect
) -> None:
    url = make_database()
    superuser = connect(url)
    superuser.execute("create role builder login password 'x'")
    superuser.execute(sql.SQL("grant create on database {} to builder").format(sql.Identifier(superuser.info.dbname)))
    before = catalogue(superuser)
    builder = connect(psycopg.conninfo.make_conninfo(url, user="builder", password="x"))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        schema.install(builder)
    assert catalogue(superuser) == before


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "WIN1251"])
def test_a_database_that_is_not_in_utf8_is_refused_with_a_sentence(
    fresh_server: PostgresServer, make_database: Callable[[], str], connect: Connect, encoding: str
) -> None:
    make_database()
    with psycopg.connect(fresh_server.url(), autocommit=True) as session:
        session.execute(
            f"create database legacy_{encoding} template template0 encoding '{encoding}' locale 'C'"
            + (" locale_provider libc" if session.info.server_version >= 170000 else "")
        )
        try:
            with (
                psycopg.connect(fresh_server.url(f"legacy_{encoding}".lower())) as legacy,
                pytest.raises(psycopg.errors.FeatureNotSupported, match=f"in UTF8.*{encoding}"),
            ):
                schema.install(legacy)
        finally:
            session.execute(f"drop database legacy_{encoding}")
