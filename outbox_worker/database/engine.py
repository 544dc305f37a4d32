"""SQLAlchemy's way into the database, for everything but the relay's own loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import Connection, Engine, create_engine, exc
from sqlalchemy.pool import NullPool

from outbox_worker.errors import DatabaseUnavailable


def engine(conninfo: str, *, application_name: str, statement_timeout_s: float = 30.0) -> Engine:
    """Return an engine that opens a connection for each use and keeps none: these uses are seconds or minutes apart.

    `conninfo` is libpq's, a URL or key=value pairs.
    """

    def connect() -> psycopg.Connection:
        return psycopg.connect(
            conninfo,
            application_name=application_name,
            connect_timeout=5,
            options=f"-c statement_timeout={round(statement_timeout_s * 1000)} -c lock_timeout=2s",
        )

    return create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Open a connection with a transaction that is committed at the end of the block.

    Raises DatabaseUnavailable, without a password, when the server cannot be reached.
    """
    try:
        connection = engine.connect()
    except exc.OperationalError as error:
        words = str(error.orig).strip()
        raise DatabaseUnavailable(
            f"the database cannot be reached: {words}. Is it running, and is [database] url right?"
        ) from None
    with connection, connection.begin():
        yield connection
