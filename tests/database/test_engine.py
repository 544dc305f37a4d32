"""The way into the database for everything but the relay: every refusal is a sentence that says what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from outbox_worker.database.engine import engine, session
from outbox_worker.errors import DatabaseUnavailable, SchemaMismatch


def test_a_statement_sees_what_was_committed_before_it_whatever_the_database_has_as_its_default(
    database_url: str, connect: Callable[..., psycopg.Connection[Any]]
) -> None:
    superuser = connect()
    database = psycopg.sql.Identifier(superuser.info.dbname)
    superuser.execute(
        psycopg.sql.SQL("alter database {} set default_transaction_isolation = 'repeatable read'").format(database)
    )
    with session(database_url, "test") as connection:
        assert connection.scalar(text("show transaction_isolation")) == "read committed"


def test_the_engine_of_a_use_is_made_once(database_url: str) -> None:
    made = engine(database_url, application_name="test", settings={"jit": "off"})
    assert engine(database_url, application_name="test", settings={"jit": "off"}) is made
    assert engine(database_url, application_name="test", settings={"jit": "on"}) is not made
    assert engine(database_url, application_name="test", statement_timeout_s=1, settings={"jit": "off"}) is not made


def test_a_database_without_the_schema_is_a_schema_mismatch(empty_database_url: str) -> None:
    with pytest.raises(SchemaMismatch, match="schema install"), session(empty_database_url, "test"):
        pass


def test_a_schema_of_another_version_is_refused(
    database_url: str, connect: Callable[..., psycopg.Connection[Any]]
) -> None:
    connect().execute(
        "create or replace function outbox.schema_version() returns integer language sql immutable return 99"
    )
    with pytest.raises(SchemaMismatch, match="99"), session(database_url, "test"):
        pass


def run(url: str, *statements: str) -> None:
    """Run statements in one transaction."""
    with session(url, "test") as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_a_missing_right_is_a_schema_mismatch(database_url: str) -> None:
    with pytest.raises(SchemaMismatch, match="grant outbox_worker"):
        run(database_url, "set local role pg_monitor", "select * from outbox.act")


def test_a_lock_that_is_not_to_be_had_is_a_sentence(
    database_url: str, connect: Callable[..., psycopg.Connection[Any]]
) -> None:
    other = connect(autocommit=False)
    other.execute("select from outbox.destination where destination = 'api' for update")
    with pytest.raises(DatabaseUnavailable, match="try again"):
        run(database_url, "set local lock_timeout = '10ms'", "update outbox.destination set failure_count = 0")


def test_a_statement_that_takes_too_long_is_a_sentence(database_url: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="too long"):
        run(database_url, "set local statement_timeout = '10ms'", "select pg_sleep(5)")


def test_a_lost_connection_is_a_sentence(database_url: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="does not answer"):
        run(database_url, "select pg_terminate_backend(pg_backend_pid())")


def test_a_server_that_is_not_there_is_a_sentence() -> None:
    nobody = "postgresql://u:hunter2@127.0.0.1:1/d"
    with pytest.raises(DatabaseUnavailable, match="cannot be reached") as refused, session(nobody, "test"):
        pass
    assert "hunter2" not in str(refused.value)
