"""Databases for the tests: one server per process, our schema installed once, a fresh copy of it for each test.

    server ──▶ installed (a template with our schema) ──▶ database_url, connect      a copy for each test
          └──▶ template0                              ──▶ empty_database_url         one for each test
    own_server ──▶ a server that the test may kill and start again

OUTBOX_WORKER_TEST_DATABASE, a URL or conninfo of a superuser, has another server used than one that we start, and
OUTBOX_WORKER_TEST_BIN_DIRECTORY has another PostgreSQL started than that of the wheel.
Databases bear names of this run and are dropped. Roles belong to the whole server, which other runs may be using: no
test drops one or changes what it may do, and on a server that is not ours they stay.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
import pytest
import structlog
from hypothesis import HealthCheck, settings
from psycopg import sql
from pytest_postgresql.janitor import DatabaseJanitor

from outbox_worker import logs
from outbox_worker.database import schema
from outbox_worker.demo.postgres import PostgresServer
from outbox_worker.errors import DatabaseUnavailable

EXTERNAL_DATABASE = os.environ.get("OUTBOX_WORKER_TEST_DATABASE", "")
BIN_DIRECTORY = os.environ.get("OUTBOX_WORKER_TEST_BIN_DIRECTORY", "")
MEMORY = Path("/dev/shm")  # noqa: S108 - the server makes a directory of its own there, closed to others
MEMORY_BYTES_MIN = 2**31
INSTALL_LOCK = 0x0074_6573_7473  # any number that the product does not use


@dataclass(frozen=True)
class ExternalServer:
    """A server that somebody else runs, with the coordinates that PostgresServer has too."""

    host: str
    port: int
    user: str
    password: str
    maintenance_dbname: str

    def url(self, dbname: str | None = None) -> str:
        """Return a URL in the form that takes the directory of a socket as its host."""
        words = {"host": self.host, "port": self.port, "user": self.user, "password": self.password}
        return f"postgresql:///{quote(dbname or self.maintenance_dbname, safe='')}?{urlencode(words, quote_via=quote)}"


Server = PostgresServer | ExternalServer

# How long an example takes is the machine's affair, not a promise: a busy one would fail where nothing is wrong.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


class Janitor(DatabaseJanitor):
    """pytest-postgresql's, working by one session of the run: a session for each step costs as much as a database."""

    def __init__(self, server: Server, session: psycopg.Connection, **of_database: Any) -> None:
        super().__init__(host=server.host, port=server.port, user=server.user, password=server.password, **of_database)
        self._server = server
        self._session = session

    @property
    def url(self) -> str:
        """The database's URL, for a superuser."""
        return self._server.url(self.dbname)

    @contextmanager
    def cursor(self, dbname: str | None = None) -> Iterator[psycopg.Cursor]:
        with self._session.cursor() as cursor:
            yield cursor

    def drop(self) -> None:
        """Drop it together with whoever is still there: pytest-postgresql's way waits for them to have left."""
        with self.cursor() as cursor:
            if self.is_template():
                cursor.execute(f'alter database "{self.dbname}" with is_template false')
            cursor.execute(f'drop database "{self.dbname}" with (force)')

    def _build_create_database_sql(self) -> sql.Composed:
        # Two checkpoints, which cost next to nothing where nothing is synced, instead of every page in the log.
        strategy = " strategy file_copy" if isinstance(self._server, PostgresServer) else ""
        return super()._build_create_database_sql() + sql.SQL(strategy)


class Databases:
    """Makes the databases of a run."""

    def __init__(self, server: Server, session: psycopg.Connection) -> None:
        self._server = server
        self._session = session

    @contextmanager
    def copy(self, template: str) -> Iterator[str]:
        """Copy a database for the block; its URL is given."""
        with Janitor(self._server, self._session, dbname=_new_name(), template_dbname=template) as copied:
            yield copied.url

    @contextmanager
    def template(self, fill: Callable[..., None]) -> Iterator[str]:
        """Make a database to copy, filled once; its name is given."""
        with Janitor(self._server, self._session, dbname=_new_name(), as_template=True) as template:
            template.load(fill)
            yield template.dbname


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Have whoever is done first take over from the other; the usual way leaves one idle for most of a minute."""
    if config.option.dist != "load":
        return None  # somebody asked for another way
    from xdist.scheduler import WorkStealingScheduling  # only where there is xdist

    return WorkStealingScheduling(config, log)


@pytest.fixture(autouse=True)
def _logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that a test runs in its own process sets logging up, for a stream that ends with the test."""
    handlers, level = logging.root.handlers[:], logging.root.level
    monkeypatch.setattr(logs, "_stream", None)
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Start the server of this test process, or find the one that was named to us."""
    if EXTERNAL_DATABASE:
        yield _external_server()
    else:
        with _make_server() as started:
            yield started


@pytest.fixture(scope="session")
def databases(server: Server) -> Iterator[Databases]:
    with psycopg.connect(server.url(), autocommit=True) as session:
        yield Databases(server, session)


@pytest.fixture(scope="session")
def installed(server: Server, databases: Databases) -> Iterator[str]:
    """Install our schema and the reference accounting into a template, once."""

    def install(*, autocommit: bool, **coordinates: Any) -> None:
        with _alone(server), psycopg.connect(autocommit=autocommit, **coordinates) as session:
            schema.install(session)
            schema.install_reference(session)

    with databases.template(install) as name:
        yield name


@pytest.fixture
def database_url(databases: Databases, installed: str) -> Iterator[str]:
    """The URL of the test's own copy of the installed database, for a superuser."""
    with databases.copy(installed) as url:
        yield url


@pytest.fixture
def empty_database_url(databases: Databases) -> Iterator[str]:
    """The URL of a database of the test's own with nothing of ours in it."""
    with databases.copy("template0") as url:
        yield url


@pytest.fixture
def connect(database_url: str) -> Iterator[Callable[..., psycopg.Connection]]:
    """Open further sessions, on the test's database unless told otherwise; all of them are closed at the end."""
    with ExitStack() as sessions:

        def connect_to(url: str = database_url, *, autocommit: bool = True, **parameters: Any) -> psycopg.Connection:
            session = psycopg.connect(url, autocommit=autocommit, **parameters)
            return sessions.enter_context(closing(session))

        yield connect_to


@pytest.fixture(scope="session")
def make_server() -> Callable[..., PostgresServer]:
    """Make a server that is not started; arguments are PostgresServer's, where they differ from a test's usual ones."""
    try:
        _make_server()
    except DatabaseUnavailable as reason:
        if not EXTERNAL_DATABASE:
            raise
        pytest.skip(f"this needs a server of its own, and only an external one is here: {reason}")
    return _make_server


@pytest.fixture
def own_server(make_server: Callable[..., PostgresServer]) -> Iterator[PostgresServer]:
    """Start a server that the test may kill, stop and start again; our schema is not in it."""
    with make_server() as started:
        yield started


def _make_server(**arguments: Any) -> PostgresServer:
    """Put it into memory where there is enough: a copy of a database is 300 files, 14 ms instead of 50 to 300."""
    is_roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES_MIN
    usual = {
        "parent_directory": MEMORY if is_roomy else None,
        "durable": False,
        "settings": {"max_wal_size": "128MB"},
        "bin_directory": Path(BIN_DIRECTORY) if BIN_DIRECTORY else None,
    }
    return PostgresServer(**(usual | arguments))


def _external_server() -> ExternalServer:
    with psycopg.connect(EXTERNAL_DATABASE) as session:
        info = session.info
        return ExternalServer(info.host, info.port, info.user, info.password, info.dbname)


def _new_name() -> str:
    return f"outbox_test_{secrets.token_hex(8)}"


@contextmanager
def _alone(server: Server) -> Iterator[None]:
    """Let one process at a time install: roles are common to all databases, and two that create one collide."""
    with psycopg.connect(server.url(), autocommit=True) as session:
        session.execute("select pg_advisory_lock(%s)", [INSTALL_LOCK])
        yield
