"""Retention: what is old is forgotten, in small transactions.

What a crash leaves: batches that were committed are gone, and the rest is found by the next run. How far a run has come
is noted after each slice of time; a crash before that has the slice looked through again, which finds nothing.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, text

_OLDEST = text("select min(event.recorded_at) from outbox.event event where event.payload::text <> 'null'")

_WATERMARK = text("select it.watermark from outbox.round it where it.round = 'housekeeping'")

_ADVANCE = text("update outbox.round it set watermark = :before where it.round = 'housekeeping'")

_FORGET_EVENTS = text("select outbox.forget_events(:since, :before, :batch_max)")

_FORGET_JOURNALS = text("select outbox.forget_journals(:before, :batch_max)")


def watermark(connection: Connection) -> datetime | None:
    """Return until when events were looked through, None if never."""
    found: datetime | None = connection.scalar(_WATERMARK)
    return found


def oldest(connection: Connection) -> datetime | None:
    """Return when the oldest event was recorded that still has its story. Walks through the table."""
    found: datetime | None = connection.scalar(_OLDEST)
    return found


def advance(connection: Connection, before: datetime) -> None:
    """Note that events were looked through until then."""
    connection.execute(_ADVANCE, {"before": before})


def forget_events(connection: Connection, since: datetime, before: datetime, batch_max: int) -> int:
    """Forget events of a slice of time, but for those with an open delivery; return how many."""
    return connection.scalar(_FORGET_EVENTS, {"since": since, "before": before, "batch_max": batch_max}) or 0


def forget_journals(connection: Connection, before: datetime, batch_max: int) -> int:
    """Forget a batch of what else is old; return how many rows."""
    return connection.scalar(_FORGET_JOURNALS, {"before": before, "batch_max": batch_max}) or 0
