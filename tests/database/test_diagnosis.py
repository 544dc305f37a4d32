"""What doctor sees in the database, where a breakage cannot be waited for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg

from outbox_worker.database import diagnosis
from outbox_worker.database.engine import engine, transaction
from tests.conftest import Server
from tests.scenarios.conftest import login_of_a_worker

Connect = Callable[..., psycopg.Connection[Any]]


def test_what_the_worker_needs_is_what_it_is_given(connect: Connect) -> None:
    given = (
        connect()
        .execute(
            "select lower(privilege_type), table_name from information_schema.role_table_grants"
            " where grantee = 'outbox_worker' and table_schema = 'outbox'"
        )
        .fetchall()
    )
    assert set(given) == {(right, name) for right, names in diagnosis.NEEDED.items() for name in names}


def test_a_session_that_holds_a_snapshot_is_seen(connect: Connect, database_url: str) -> None:
    report = connect(application_name="report")
    report.execute("begin isolation level repeatable read")
    report.execute("select 1")
    with transaction(engine(database_url, application_name="doctor")) as connection:
        found, hidden_count = diagnosis.holders(connection, timedelta(0))
        assert diagnosis.holders(connection, timedelta(minutes=5)) == ([], 0)
    assert [it.kind for it in found if "(report)" in it.name] == ["session"]
    assert hidden_count == 0, "a superuser sees all"


def test_sessions_that_this_role_may_not_see_are_counted(connect: Connect, server: Server, database_url: str) -> None:
    connect()
    with login_of_a_worker(server.url()) as login:
        url = psycopg.conninfo.make_conninfo(database_url, **login)
        with transaction(engine(url, application_name="doctor")) as connection:
            assert diagnosis.holders(connection, timedelta(0))[1] >= 1
