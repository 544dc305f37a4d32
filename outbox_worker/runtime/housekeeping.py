"""Housekeeping: what is older than the retention is forgotten, so that the outbox stays small.

    events, slice by slice of time, from where the last run came to ──▶ names alone      a batch in a transaction,
    journals ───────────────────────────────────────────────────────▶ gone             and a pause after each

What was not delivered stays, however old. It is behind the watermark then, so on the first of each month the walk
begins at the beginning. `sql/install/forget_events.sql` says what is left of an event, and why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from outbox_worker.database import retention as database
from outbox_worker.database.engine import engine, explained
from outbox_worker.runtime.rounds import Ticking

BATCH_MAX = 500
PAUSE_S = 0.05  # after each batch: nobody is in a hurry, and the disk is accounting's
SLICE = timedelta(hours=6)
STATEMENT_S_MAX = 600.0  # the oldest event is found by a walk through the table, once


@dataclass(frozen=True, slots=True)
class Housekeeping:
    """The round that forgets what is older than `keep`."""

    conninfo: str
    keep: timedelta
    batch_max: int = BATCH_MAX
    pause_s: float = PAUSE_S

    def __call__(self, ticking: Ticking) -> Mapping[str, int]:
        """Forget, until there is nothing more to forget."""
        made = engine(self.conninfo, application_name="outbox-worker housekeeping", statement_timeout_s=STATEMENT_S_MAX)
        before = ticking.began_at - self.keep
        with explained(), made.connect() as connection:
            events = self._forget_events(connection, before, ticking)
            return {"event_count": events, "journal_count": self._forget_journals(connection, before, ticking)}

    def _forget_events(self, connection: Any, before: datetime, ticking: Ticking) -> int:
        count, since = 0, self._begin_at(connection, ticking)
        while since is not None and since < before:
            until = min(since + SLICE, before)
            while forgotten := self._batch(connection, database.forget_events, since, until):
                count += forgotten
                ticking.pause(self.pause_s)
            ticking.go_on()
            with connection.begin():
                database.advance(connection, until)
            since = until
        return count

    def _begin_at(self, connection: Any, ticking: Ticking) -> datetime | None:
        with connection.begin():
            found = database.watermark(connection)
            return database.oldest(connection) if found is None or ticking.planned_for.day == 1 else found

    def _forget_journals(self, connection: Any, before: datetime, ticking: Ticking) -> int:
        count = 0
        while forgotten := self._batch(connection, database.forget_journals, before):
            count += forgotten
            ticking.pause(self.pause_s)
        return count

    def _batch(self, connection: Any, forget: Callable[..., int], *span: datetime) -> int:
        with connection.begin():
            return forget(connection, *span, self.batch_max)
