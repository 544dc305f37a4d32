"""SQLAlchemy's way into the database, for everything but the relay's own loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial

import psycopg
from sqlalchemy import Connection, Engine, create_engine, exc
from sqlalchemy.pool import NullPool

from outbox_worker.database import schema
from outbox_worker.database.connecting import NO_SETTINGS, connect, sentence, unreachable


def engine(
    conninfo: str,
    *,
    application_name: str,
    statement_timeout_s: float = 30.0,
    settings: Mapping[str, str] = NO_SETTINGS,
) -> Engine:
    """Return an engine that opens a connection for each use and keeps none: these uses are seconds or minutes apart.

    What it is told is what `connect` takes. Asked for again it is the same engine: what a new one asks the server
    before its first use is asked once.
    """
    return _engine(conninfo, application_name, statement_timeout_s, tuple(settings.items()))


@lru_cache(maxsize=32)
def _engine(
    conninfo: str, application_name: str, statement_timeout_s: float, settings: tuple[tuple[str, str], ...]
) -> Engine:
    creator = partial(
        connect,
        conninfo,
        application_name=application_name,
        statement_timeout_s=statement_timeout_s,
        settings=dict(settings),
    )
    return create_engine("postgresql+psycopg://", creator=creator, poolclass=NullPool, use_native_hstore=False)


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Open a connection with a transaction that is committed at the end of the block.

    Raises DatabaseUnavailable, without a password, when the server cannot be reached.
    """
    with _connected(engine) as connection, connection.begin():
        yield connection


@contextmanager
def single_statements(engine: Engine) -> Iterator[Connection]:
    """Open a connection whose every statement is a transaction: one look costs one statement. Raises as above."""
    with _connected(engine) as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


def _connected(engine: Engine) -> Connection:
    try:
        return engine.connect()
    except exc.OperationalError as error:
        raise unreachable(error.orig) from None


@contextmanager
def session(conninfo: str, application_name: str) -> Iterator[Connection]:
    """Open a connection for a person's command, with a transaction that is committed at the end of the block.

    Raises SchemaMismatch where the schema is not ours, DatabaseUnavailable where the server cannot be reached.
    """
    with explained(), transaction(engine(conninfo, application_name=application_name)) as connection:
        driver = connection.connection.driver_connection
        if isinstance(driver, psycopg.Connection):  # always; SQLAlchemy cannot know it
            schema.require_version(driver)
        yield connection


@contextmanager
def explained() -> Iterator[None]:
    """Turn what the database refuses inside the block into a sentence that says what to do."""
    try:
        yield
    except (exc.DBAPIError, psycopg.Error) as error:
        said = sentence(error.orig if isinstance(error, exc.DBAPIError) else error)
        if said is None:
            raise
        raise said from None
