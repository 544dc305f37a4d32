"""Sessions of those who meet at the database: its administrator, tills, and roles with rights of their own."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql

from tests.sql.till import Connect, Session, add_customer

Login = Callable[..., Session]


@pytest.fixture
def dba(connect: Connect) -> Session:
    """Look and change as a superuser, each statement for itself."""
    return connect()


@pytest.fixture
def customer(dba: Session) -> int:
    return add_customer(dba)


@pytest.fixture
def login(dba: Session, connect: Connect, database_url: str) -> Iterator[Login]:
    """Open a session as a new role that may log in; the SQL that is given makes it what it is, `{}` being its name."""
    names: list[sql.Identifier] = []

    def as_new_role(*statements: str) -> Session:
        name, password = f"test_{secrets.token_hex(4)}", secrets.token_hex(8)
        names.append(sql.Identifier(name))
        dba.execute(sql.SQL("create role {} login password {}").format(names[-1], sql.Literal(password)))
        for statement in statements:
            dba.execute(sql.SQL(statement).format(names[-1]))
        return connect(_as_user(database_url, name, password))

    yield as_new_role
    for name in names:
        dba.execute(sql.SQL("drop owned by {0}; drop role {0}").format(name))


@pytest.fixture
def accountant(login: Login) -> Session:
    """A user of the accounting system with all rights there, and none anywhere else."""
    return login(
        "grant usage on schema accounting to {}",
        "grant select, insert, update, delete on all tables in schema accounting to {}",
    )


@pytest.fixture
def worker(login: Login) -> Session:
    """The role that the daemon logs in as."""
    return login("grant outbox_worker to {}")


def _as_user(url: str, name: str, password: str) -> str:
    return psycopg.conninfo.make_conninfo(url, user=name, password=password)
