"""The session of a customer sync: one connection for the whole run, one sync at a time, transactions of its own making.

The advisory lock belongs to the session: who loses the connection loses the lock, and can commit nothing any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, Self, TypeVar

import psycopg
from sqlalchemy import Connection, exc, text

from outbox_worker.database import schema
from outbox_worker.database.engine import engine
from outbox_worker.errors import DatabaseUnavailable, RunningElsewhere

P = ParamSpec("P")
T = TypeVar("T")

STATEMENT_S_MAX = 600.0  # the directory of phones is filled by one walk through all customers
_SYNC = 122550254464891  # the doorbell's key and three


class SyncSession:
    """Enter it to sync. Raises RunningElsewhere, DatabaseUnavailable, SchemaMismatch."""

    def __init__(self, conninfo: str) -> None:
        self._engine = engine(
            conninfo, application_name="outbox-worker customers sync", statement_timeout_s=STATEMENT_S_MAX
        )
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        try:
            self._connection = self._engine.connect()
        except exc.OperationalError as error:
            raise DatabaseUnavailable(f"the database cannot be reached: {str(error.orig).strip()}") from None
        try:
            driver = self._connection.connection.driver_connection
            if isinstance(driver, psycopg.Connection):  # always; SQLAlchemy cannot know it
                schema.require_version(driver)
                driver.rollback()
            self.call(_lock)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def call(self, function: Callable[Concatenate[Connection, P], T], *arguments: P.args, **words: P.kwargs) -> T:
        """Call a function of the database in a transaction of its own."""
        if self._connection is None:
            raise DatabaseUnavailable("the session of the customer sync is over")
        with self._connection.begin():
            return function(self._connection, *arguments, **words)


def _lock(connection: Connection) -> None:
    if not connection.scalar(text("select pg_try_advisory_lock(:key)"), {"key": _SYNC}):
        raise RunningElsewhere("a customer sync is running already; wait for it, or for the next one")
