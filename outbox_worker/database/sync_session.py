"""The session of a customer sync: one connection for the whole run, one sync at a time.

The advisory lock belongs to the session: who loses the connection loses the lock, and can commit nothing any more.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from outbox_worker.database.engine import engine
from outbox_worker.database.long_session import LongSession
from outbox_worker.errors import RunningElsewhere

STATEMENT_S_MAX = 600.0  # the directory of phones is filled by one walk through all customers
_SYNC = 122550254464891  # the doorbell's key and three


class SyncSession(LongSession):
    """Enter it to sync. Raises RunningElsewhere, DatabaseUnavailable, SchemaMismatch."""

    def __init__(self, conninfo: str) -> None:
        super().__init__(
            engine(conninfo, application_name="outbox-worker customers sync", statement_timeout_s=STATEMENT_S_MAX)
        )

    def _begin(self) -> None:
        self.call(_lock)


def _lock(connection: Connection) -> None:
    if not connection.scalar(text("select pg_try_advisory_lock(:key)"), {"key": _SYNC}):
        raise RunningElsewhere("a customer sync is running already; wait for it, or for the next one")
