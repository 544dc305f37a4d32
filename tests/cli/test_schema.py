"""`outbox-worker schema`: the database side put in, taken out, shown; a refusal is a sentence and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from outbox_worker.database import schema
from outbox_worker.demo.postgres import PostgresServer
from tests.cli.desk import Answer, Desk
from tests.conftest import Server
from tests.sql.catalogue import catalogue
from tests.sql.till import Connect, Session


@pytest.fixture
def empty(connect: Connect, empty_database_url: str) -> Session:
    return connect(empty_database_url)


@pytest.fixture
def administrator(configure: Callable[..., Path], database_url: str, desk: Desk) -> Desk:
    """A desk whose configuration names a superuser of an installed database."""
    configure({"database.url": database_url})
    return desk


def is_a_sentence(answer: Answer, status: int) -> bool:
    said = answer.err
    return (answer.status, said.startswith("outbox-worker: "), "Traceback" in said) == (status, True, False)


def test_install_says_which_version_is_installed_where(desk: Desk, empty: Session, empty_database_url: str) -> None:
    answer = desk("schema", "install", "--database", empty_database_url)
    assert answer.status == 0
    assert answer.out == f"Schema outbox, version {schema.VERSION}, is installed in database '{empty.info.dbname}'.\n"
    assert schema.installed_version(empty) == schema.VERSION
    assert empty.execute("select to_regnamespace('accounting')").fetchone() == (None,)


def test_install_with_the_reference_installs_all_of_it(
    desk: Desk, empty: Session, empty_database_url: str, connect: Connect
) -> None:
    assert desk("schema", "install", "--reference", "--database", empty_database_url).status == 0
    assert catalogue(empty) == catalogue(connect())


def test_install_takes_the_database_of_the_configuration_and_can_be_repeated(administrator: Desk) -> None:
    assert administrator("schema", "install").status == 0
    assert administrator("schema", "install", "--reference").status == 0


def test_uninstall_asks_first_and_no_is_no(administrator: Desk, connect: Connect) -> None:
    before = catalogue(connect())
    answer = administrator("schema", "uninstall", types="n\n")
    assert answer.status == 1
    assert "every event, delivery and receipt" in answer.out
    assert catalogue(connect()) == before


def test_uninstall_takes_it_out(administrator: Desk, connect: Connect) -> None:
    answer = administrator("schema", "uninstall", "--yes")
    assert answer.status == 0
    assert "are gone from database" in answer.out
    assert schema.installed_version(connect()) is None


@pytest.mark.parametrize(
    ("options", "files"),
    [
        ((), ["install.sql"]),
        (("--reference",), ["install.sql", *schema.REFERENCE]),
        (("--uninstall",), ["uninstall.sql"]),
        (("--uninstall", "--reference"), ["uninstall.sql"]),
    ],
)
def test_print_prints_what_would_be_run(desk: Desk, options: tuple[str, ...], files: list[str]) -> None:
    answer = desk("schema", "print", *options)
    assert answer.status == 0
    assert answer.out == "".join(f"{schema.script(name)}\n" for name in files)
    assert "\\ir" not in answer.out


def test_a_role_without_the_rights_is_told_which_it_needs(desk: Desk, connect: Connect) -> None:
    before = catalogue(connect())
    for command in (("install",), ("install", "--reference"), ("uninstall", "--yes")):
        answer = desk("schema", *command)
        assert is_a_sentence(answer, 70)
        assert "CREATEROLE and CREATE on the database" in answer.err
    assert catalogue(connect()) == before


def test_an_installation_that_fails_in_its_second_half_leaves_nothing_of_the_first(
    desk: Desk, empty: Session, empty_database_url: str
) -> None:
    empty.execute("create schema accounting; create table accounting.customer (nothing text)")
    before = catalogue(empty)
    answer = desk("schema", "install", "--reference", "--database", empty_database_url)
    assert is_a_sentence(answer, 70)
    assert "Nothing was changed" in answer.err
    assert catalogue(empty) == before


def test_a_lock_that_is_not_to_be_had_is_a_sentence(administrator: Desk, connect: Connect) -> None:
    reader = connect(autocommit=False)
    reader.execute("select from outbox.backlog")
    answer = administrator("schema", "install")
    assert is_a_sentence(answer, 69)
    assert "Try again when it is quieter" in answer.err


@pytest.fixture
def legacy_url(server: Server) -> Iterator[str]:
    """A database in another encoding than UTF8."""
    with psycopg.connect(server.url(), autocommit=True) as session:
        name = sql.Identifier(f"legacy_{session.info.backend_pid}")
        provider = " locale_provider libc" if session.info.server_version >= 170000 else ""
        create = "create database {} template template0 encoding 'WIN1251' locale 'C'" + provider
        session.execute(sql.SQL(create).format(name))
        yield server.url(f"legacy_{session.info.backend_pid}")
        session.execute(sql.SQL("drop database {}").format(name))


def test_a_database_that_is_not_in_utf8_is_refused_with_a_sentence(desk: Desk, legacy_url: str) -> None:
    answer = desk("schema", "install", "--database", legacy_url)
    assert is_a_sentence(answer, 78)
    assert "UTF8" in answer.err and "WIN1251" in answer.err


def test_a_server_that_is_not_there_is_a_sentence_without_the_password(desk: Desk) -> None:
    answer = desk("schema", "install", "--database", "postgresql://me:hunter2@127.0.0.1:1/accounting")
    assert is_a_sentence(answer, 69)
    assert "127.0.0.1" in answer.err and "hunter2" not in answer.err


def test_a_wrong_password_is_a_sentence_without_it(desk: Desk, empty_database_url: str) -> None:
    url = make_conninfo(empty_database_url, password="hunter2")
    answer = desk("schema", "install", "--database", url)
    assert is_a_sentence(answer, 69)
    assert "password authentication failed" in answer.err and "hunter2" not in answer.err


def test_what_is_no_address_of_a_database_is_a_usage_error(desk: Desk) -> None:
    answer = desk("schema", "install", "--database", "host=localhost port")
    assert answer.status == 2
    assert "--database is not something to connect to" in answer.err


def test_a_server_that_ends_in_the_middle_is_a_sentence(
    desk: Desk, own_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill_then_install(connection: psycopg.Connection[Any]) -> None:
        own_server.kill()
        connection.execute("select 1")

    monkeypatch.setattr(schema, "install", kill_then_install)
    answer = desk("schema", "install", "--database", own_server.url())
    assert is_a_sentence(answer, 69)


def test_who_installed_without_being_superuser_is_told_nothing_of_it(own_server: PostgresServer, desk: Desk) -> None:
    with closing(psycopg.connect(own_server.url(), autocommit=True)) as superuser:
        superuser.execute("create role builder login createrole password 'x'")
        superuser.execute("create database accounting owner builder")
    words = conninfo_to_dict(own_server.url("accounting")) | {"user": "builder", "password": "x"}
    url = make_conninfo(**{key: str(value) for key, value in words.items()})
    for command in (("install", "--reference"), ("install", "--reference"), ("uninstall", "--yes")):
        answer = desk("schema", *command, "--database", url)
        assert (answer.status, answer.err) == (0, "")
