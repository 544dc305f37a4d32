"""SQLAlchemy's way into the database, for everything but the relay's own loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

import psycopg
from psycopg import errors
from sqlalchemy import Connection, Engine, create_engine, exc
from sqlalchemy.pool import NullPool

from outbox_worker.database import schema
from outbox_worker.database.options import ENCODING, options
from outbox_worker.errors import DatabaseUnavailable, SchemaMismatch

_OTHER_SCHEMA = (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction, errors.InvalidSchemaName)
_IN_USE = (errors.LockNotAvailable, errors.DeadlockDetected)


def engine(
    conninfo: str,
    *,
    application_name: str,
    statement_timeout_s: float = 30.0,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Engine:
    """Return an engine that opens a connection for each use and keeps none: these uses are seconds or minutes apart.

    `conninfo` is libpq's, a URL or key=value pairs; `settings` are further ones of the session. Every statement sees
    what was committed before it, whatever the database's own default is: what locks a row and then looks around relies
    on it.
    """

    timeouts = {"statement_timeout": str(round(statement_timeout_s * 1000)), "lock_timeout": "2s"}

    def connect() -> psycopg.Connection:
        return psycopg.connect(
            conninfo,
            application_name=application_name,
            connect_timeout=5,
            client_encoding=ENCODING,
            options=options(conninfo, timeouts | dict(settings)),
        )

    return create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)


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
        words = str(error.orig).strip()
        raise DatabaseUnavailable(
            f"the database cannot be reached: {words}. Is it running, and is [database] url right?"
        ) from None


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
        refused = error.orig if isinstance(error, exc.DBAPIError) else error
        if isinstance(refused, (*_OTHER_SCHEMA, errors.InsufficientPrivilege)):
            raise SchemaMismatch(
                f"the database has no schema outbox that this role may use so: {_words(refused)}. Install it with "
                "`outbox-worker schema install`, and grant outbox_worker to this role."
            ) from None
        if isinstance(refused, _IN_USE):
            raise DatabaseUnavailable("others are changing the same rows; nothing was changed: try again") from None
        if isinstance(refused, errors.QueryCanceled):
            raise DatabaseUnavailable("it took too long, and nothing was changed: ask for less at once") from None
        if isinstance(refused, psycopg.OperationalError | psycopg.InterfaceError):
            raise DatabaseUnavailable(f"the database does not answer: {_words(refused)}") from None
        raise


def _words(error: BaseException | None) -> str:
    return str(error).strip().partition("\n")[0]
