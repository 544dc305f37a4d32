"""A session that sleeps until a sale rings: what sql/install/ring_identification.sql is the other half of.

    awake ──nothing to do: take the bell's lock, look once more──▶ asleep ──it rings, or time is up──▶ awake

Who holds the lock has every writer ring; while nobody holds it no writer does, and whoever is awake looks by itself. It
is refused while a writer is under way that has not rung, or while another worker sleeps with it.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Self, TypeVar

import psycopg
from sqlalchemy import Connection, exc, text

from outbox_worker.database import schema
from outbox_worker.database.engine import engine
from outbox_worker.errors import DatabaseUnavailable

P = ParamSpec("P")
T = TypeVar("T")

BELL = 122550254464892  # the doorbell's key and four; ring_identification.sql has the same
CHANNEL = "outbox_identification"
# Statements are planned for tables that may have been empty a moment ago: by index, whatever the statistics. No commit
# waits for the disk: what a crash takes back is done again, and whatever builds on it (a claim, say) comes later in the
# write-ahead log and waits for all that is before it.
_SETTINGS = {
    "enable_seqscan": "off",
    "synchronous_commit": "off",
    "idle_session_timeout": "0",
    "tcp_keepalives_idle": "30",
}

_LISTEN = text(f"listen {CHANNEL}")
_ARM = text("select pg_try_advisory_lock(:bell)")
_DISARM = text("select pg_advisory_unlock(:bell)")
_IS_SILENT = text("select current_setting('max_prepared_transactions') <> '0'")
_SOMEBODY_SLEEPS = text("""
select exists (
    select from pg_locks lock
    where lock.locktype = 'advisory' and lock.mode = 'ExclusiveLock' and lock.granted and lock.objsubid = 1
      and lock.database = (select oid from pg_database where datname = current_database())
      and lock.classid = cast(cast(:bell as bigint) >> 32 as oid)
      and lock.objid = cast(cast(:bell as bigint) & 4294967295 as oid))
""")


class BellSession:
    """Enter it to work and sleep. Raises DatabaseUnavailable, SchemaMismatch."""

    def __init__(self, conninfo: str, application_name: str) -> None:
        self._engine = engine(conninfo, application_name=application_name, settings=_SETTINGS)
        self._connection: Connection | None = None
        self._rang = False
        self.is_silent = False  # nobody ever rings here

    def __enter__(self) -> Self:
        try:
            self._connection = self._engine.connect()
        except exc.OperationalError as error:
            raise DatabaseUnavailable(f"the database cannot be reached: {str(error.orig).strip()}") from None
        try:
            schema.require_version(self._driver)
            self._driver.rollback()
            self._driver.add_notify_handler(self._hear)
            self.call(_listen)
            self.is_silent = self.call(_ask, _IS_SILENT)
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

    def arm(self) -> bool:
        """Have writers ring from now on; False where that cannot be had now. Then look once more before sleeping."""
        self._rang = False
        return self.call(_ask, _ARM)

    def disarm(self) -> None:
        """Have them ring no more."""
        self.call(_ask, _DISARM)

    def somebody_sleeps(self) -> bool:
        """Tell whether another worker sleeps with the lock, so that writers ring for all."""
        return self.call(_ask, _SOMEBODY_SLEEPS)

    def wait(self, seconds: float) -> bool:
        """Wait until it rings; tell whether it did. It is in no transaction, and holds back no vacuum."""
        driver = self._driver
        if not self._rang:
            select.select([driver.fileno()], [], [], seconds)
            try:
                driver.pgconn.consume_input()
            except psycopg.OperationalError as error:
                raise DatabaseUnavailable(f"the connection was lost: {str(error).strip()}") from None
            while driver.pgconn.notifies():
                self._rang = True
        return self._rang

    def _hear(self, notify: psycopg.Notify) -> None:
        self._rang = True

    @property
    def _driver(self) -> psycopg.Connection:
        driver = None if self._connection is None else self._connection.connection.driver_connection
        if not isinstance(driver, psycopg.Connection):
            raise DatabaseUnavailable("this session is over")
        return driver


def _listen(connection: Connection) -> None:
    connection.execute(_LISTEN)


def _ask(connection: Connection, question: object) -> bool:
    return bool(connection.scalar(question, {"bell": BELL}))  # type: ignore[call-overload]
