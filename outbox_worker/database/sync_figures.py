"""What the metrics tell of the customer sync: a few rows of its runs, and what it could not store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import Connection
from psycopg.rows import dict_row

from outbox_worker.database.connecting import look
from outbox_worker.database.sync_record import LATEST, LATEST_DONE, SyncRun, run_of

UNSTORED = "select kind, count(*) from outbox.unstored_client where decision is null group by kind order by kind"
_UNSETTLED = """
select count(*) from outbox.client
where history_sent_at is null or balance_sent_at is null or released_at is null
"""


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
        self._conninfo, self._application_name = conninfo, application_name

    def __call__(self) -> SyncFigures:
        """Raise DatabaseUnavailable, or SchemaMismatch where there is no outbox that this role may read."""
        with look(self._conninfo, self._application_name) as connection:
            latest = _run(connection, LATEST)
            [(unsettled_count,)] = connection.execute(_UNSETTLED)
            return SyncFigures(
                _run(connection, LATEST_DONE),
                latest is not None and latest.problem is not None,
                dict(connection.execute(UNSTORED).fetchall()),
                unsettled_count,
            )


def _run(connection: Connection[Any], statement: LiteralString) -> SyncRun | None:
    row = connection.cursor(row_factory=dict_row).execute(statement).fetchone()
    return None if row is None else run_of(row)
