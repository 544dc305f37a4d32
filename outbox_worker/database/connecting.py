"""psycopg's way into the database: one look over a connection of its own, and what a refusal means.

The relay's process, `status` and `web` read by it. SQLAlchemy, which is for everything else (`engine`), takes longer to
load than all of the rest of them, and the relay's process would keep it for a reading every half minute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

import psycopg
from psycopg import errors

from outbox_worker.database.options import ENCODING, options
from outbox_worker.errors import DatabaseUnavailable, OutboxWorkerError, SchemaMismatch

NO_SETTINGS: Mapping[str, str] = MappingProxyType({})

_OTHER_SCHEMA = (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction, errors.InvalidSchemaName)
_IN_USE = (errors.LockNotAvailable, errors.DeadlockDetected)


def connect(
    conninfo: str,
    *,
    application_name: str,
    statement_timeout_s: float = 30.0,
    settings: Mapping[str, str] = NO_SETTINGS,
) -> psycopg.Connection:
    """Connect. `conninfo` is libpq's, a URL or key=value pairs; `settings` are further ones of the session.

    Every statement sees what was committed before it, whatever the database's own default is: what locks a row and then
    looks around relies on it. Raises psycopg's own errors.
    """
    timeouts = {"statement_timeout": str(round(statement_timeout_s * 1000)), "lock_timeout": "2s"}
    return psycopg.connect(
        conninfo,
        application_name=application_name,
        connect_timeout=5,
        client_encoding=ENCODING,
        options=options(conninfo, timeouts | dict(settings)),
    )


@contextmanager
def look(conninfo: str, application_name: str) -> Iterator[psycopg.Connection]:
    """Open a connection with a transaction, for a reading.

    Raises DatabaseUnavailable, without a password, and SchemaMismatch where this role may not read what it asks for.
    """
    with explained():
        try:
            connection = connect(conninfo, application_name=application_name)
        except psycopg.OperationalError as error:
            raise unreachable(error) from None
        with connection:
            yield connection


@contextmanager
def explained() -> Iterator[None]:
    """Turn what the database refuses inside the block into a sentence that says what to do."""
    try:
        yield
    except psycopg.Error as error:
        said = sentence(error)
        if said is None:
            raise
        raise said from None


def unreachable(error: BaseException | None) -> DatabaseUnavailable:
    """Say that there is no connection; libpq's words hold no password."""
    words = str(error).strip()
    return DatabaseUnavailable(f"the database cannot be reached: {words}. Is it running, and is [database] url right?")


def sentence(refused: BaseException | None) -> OutboxWorkerError | None:
    """Return what to tell a person of an error of the driver's, None where only its trace back helps."""
    if isinstance(refused, (*_OTHER_SCHEMA, errors.InsufficientPrivilege)):
        return SchemaMismatch(
            f"the database has no schema outbox that this role may use so: {_words(refused)}. Install it with "
            "`outbox-worker schema install`, and grant outbox_worker to this role."
        )
    if isinstance(refused, _IN_USE):
        return DatabaseUnavailable("others are changing the same rows; nothing was changed: try again")
    if isinstance(refused, errors.QueryCanceled):
        return DatabaseUnavailable("it took too long, and nothing was changed: ask for less at once")
    if isinstance(refused, psycopg.OperationalError | psycopg.InterfaceError):
        return DatabaseUnavailable(f"the database does not answer: {_words(refused)}")
    return None


def _words(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
