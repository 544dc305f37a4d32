"""A session that sleeps until a sale rings: what sql/install/ring_identification.sql is the other half of.

    awake ──nothing to do: take the bell's lock, look once more──▶ asleep ──it rings, or time is up──▶ awake

Who holds the lock has every writer ring; while nobody holds it no writer does, and whoever is awake looks by itself. It
is refused while a writer is under way that has not rung, or while another worker sleeps with it.
"""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import Connection, text

from outbox_worker.database import contacts, statements
from outbox_worker.database.engine import engine
from outbox_worker.database.long_session import LongSession
from outbox_worker.errors import DatabaseUnavailable

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


class BellSession(LongSession):
    """Enter it to work and sleep. Raises DatabaseUnavailable, SchemaMismatch."""

    def __init__(self, conninfo: str, application_name: str) -> None:
        super().__init__(engine(conninfo, application_name=application_name, settings=_SETTINGS))
        self._rang = False
        self.is_silent = False  # nobody ever rings here

    def _begin(self) -> None:
        self._driver.add_notify_handler(self._hear)
        self.call(_listen)
        self.is_silent = self.call(_ask, _IS_SILENT)

    @contextmanager
    def nobody_erased(self) -> Iterator[None]:
        """Hold off the erasure of customers inside the block. An error ends the session, and the hold with it."""
        self.call(contacts.hold_off_erasure)
        yield
        self.call(contacts.allow_erasure)

    def arm(self) -> bool:
        """Have writers ring from now on; False where that cannot be had now. Then look once more before sleeping."""
        self._rang = False
        return self.call(_ask, _ARM)

    def disarm(self) -> None:
        """Have them ring no more."""
        self.call(_ask, _DISARM)

    def somebody_sleeps(self) -> bool:
        """Tell whether another worker sleeps with the lock, so that writers ring for all."""
        return self.call(_somebody_sleeps)

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


def _listen(connection: Connection) -> None:
    connection.execute(_LISTEN)


def _ask(connection: Connection, question: object) -> bool:
    return bool(connection.scalar(question, {"bell": BELL}))  # type: ignore[call-overload]


def _somebody_sleeps(connection: Connection) -> bool:
    return bool(connection.exec_driver_sql(statements.SOMEBODY_SLEEPS, (BELL, BELL)).scalar())
