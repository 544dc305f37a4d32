"""What the metrics tell of the customer sync: a few rows of its runs, and what it could not store."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text

from outbox_worker.database import customers, sync_runs
from outbox_worker.database.engine import engine, explained, transaction
from outbox_worker.database.sync_runs import SyncRun

_UNSETTLED = text("""
select count(*) from outbox.client
where history_sent_at is null or balance_sent_at is null or released_at is null
""")


@dataclass(frozen=True, slots=True)
class SyncFigures:
    """The latest run that came to its end; whether the present one has stopped; clients not stored, by kind."""

    done: SyncRun | None
    is_stopped: bool
    unstored: dict[str, int]
    unsettled_count: int


class SyncFiguresReader:
    """Reads the figures whenever asked, each time by a connection of its own."""

    def __init__(self, conninfo: str, application_name: str) -> None:
        self._engine = engine(conninfo, application_name=application_name)

    def __call__(self) -> SyncFigures:
        """Raise DatabaseUnavailable, or SchemaMismatch where there is no outbox that this role may read."""
        with explained(), transaction(self._engine) as connection:
            latest = sync_runs.latest(connection)
            return SyncFigures(
                sync_runs.latest(connection, done=True),
                latest is not None and latest.problem is not None,
                customers.kept_counts(connection),
                connection.scalar(_UNSETTLED) or 0,
            )
