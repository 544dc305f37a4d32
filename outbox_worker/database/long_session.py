"""One connection for a long piece of work, in transactions of its own making.

What belongs to the session (an advisory lock, a LISTEN) is lost with the connection, and with it the work is over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, Self, TypeVar

import psycopg
from sqlalchemy import Connection, Engine, exc

from outbox_worker.database import schema
from outbox_worker.errors import DatabaseUnavailable

P = ParamSpec("P")
T = TypeVar("T")


class LongSession:
    """Enter it to work. Raises DatabaseUnavailable, SchemaMismatch."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        try:
            self._connection = self._engine.connect()
        except exc.OperationalError as error:
            raise DatabaseUnavailable(f"the database cannot be reached: {str(error.orig).strip()}") from None
        try:
            schema.require_version(self._driver)
            self._driver.rollback()
            self._begin()
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
            raise DatabaseUnavailable("this session is over")
        with self._connection.begin():
            return function(self._connection, *arguments, **words)

    def _begin(self) -> None:
        """Take what the session is to have before any work."""
        raise NotImplementedError

    @property
    def _driver(self) -> psycopg.Connection:
        driver = None if self._connection is None else self._connection.connection.driver_connection
        if not isinstance(driver, psycopg.Connection):  # SQLAlchemy cannot know that it always is
            raise DatabaseUnavailable("this session is over")
        return driver
