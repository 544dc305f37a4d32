"""InBoost's list of clients from a watermark to its end, whatever its cursors do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Protocol

from outbox_worker.errors import InBoostUnavailable, SyncStopped
from outbox_worker.inboost.listing import CursorExpired, Page

REPEATS_MAX = 10  # pages with the clients of a page before
RESTARTS_MAX = 3  # at the watermark, in one run
_ANEW = "What was read is stored, and the next run begins again at the last watermark."


class Source(Protocol):
    """Where pages come from: `inboost.listing.Listing`."""

    def page(self, since: datetime | None, cursor: str | None, size: int, today: date) -> Page:
        """Return a page, or raise CursorExpired or an OutboxWorkerError."""


class Pages:
    """Iterate to read. `begins_again`: the next run must not go on at a cursor, but at the watermark.

    Raises SyncStopped where the list has no end, goes round in a circle, or lets its cursors expire again and again.
    """

    def __init__(self, source: Source, since: datetime | None, cursor: str | None, size: int) -> None:
        self.begins_again = False
        self._cursor = cursor
        self._source = source
        self._since = since
        self._size = size
        self._asked_count = 0
        self._restart_count = 0
        self._begin()

    def __iter__(self) -> Iterator[Page]:
        while True:
            page = self._next()
            if page is None:
                continue
            yield page
            if page.cursor is None:
                return
            self._cursor = page.cursor
            self._require_progress(page, page.cursor)

    def _begin(self) -> None:
        self._cursors: set[str] = set()
        self._digests: set[bytes] = set()
        self._repeat_count = 0

    def _next(self) -> Page | None:
        """Ask for a page; None where the cursor has expired, and all begins again at the watermark."""
        self._asked_count += 1
        try:
            return self._source.page(self._since, self._cursor, self._size, datetime.now(UTC).date())
        except CursorExpired:
            self._begin_again()
            return None
        except InBoostUnavailable:
            if self._asked_count == 1:
                self.begins_again = True  # the cursor of the run before may be what InBoost cannot bear
            raise

    def _begin_again(self) -> None:
        self._cursor = None
        self._restart_count += 1
        if self._restart_count > RESTARTS_MAX:
            self.begins_again = True
            raise SyncStopped(
                f"InBoost let the cursor of its list expire {self._restart_count} times in one run. {_ANEW} If it "
                "happens again, read more clients at a time: [customers] page_size"
            )
        self._begin()

    def _require_progress(self, page: Page, cursor: str) -> None:
        if cursor in self._cursors:
            self.begins_again = True
            raise SyncStopped(f"InBoost's list of clients goes round in a circle: a cursor came twice. {_ANEW}")
        self._repeat_count += page.digest in self._digests
        if self._repeat_count > REPEATS_MAX:
            self.begins_again = True
            raise SyncStopped(
                f"InBoost's list of clients does not end: {self._repeat_count} pages had the clients of pages before. "
                f"{_ANEW}"
            )
        self._cursors.add(cursor)
        self._digests.add(page.digest)
