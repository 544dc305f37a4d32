"""The customer sync: InBoost's clients are read page by page, and become customers of accounting, linked with them.

    directory of phones ─▶ what could not be stored before ─▶ what links owe ─▶ page ─▶ … ─▶ page ─▶ the watermark moves
                                                                                 │
                   differing ─▶ stage ─▶ known ─▶ decide ─▶ store, in batches ◀──┴─▶ what links owe

A customer, its link and the count commit together; so do a page's count and the cursor of the next. An interruption
anywhere costs what was not committed, at most a page, and the next run goes on there. A client that comes again as it
was stored costs one look into an index and no write, so to read pages twice does no harm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from outbox_worker import logs
from outbox_worker.database import clients as database
from outbox_worker.database import directory, mapping_keys, sync_runs, unstored
from outbox_worker.database.engine import explained
from outbox_worker.database.sync_record import Counts, SyncRun
from outbox_worker.database.sync_session import SyncSession
from outbox_worker.errors import OutboxWorkerError, SyncStopped, Unrecordable
from outbox_worker.inboost.listing import Page
from outbox_worker.rules.clients import Client, identify
from outbox_worker.rules.matching import Create, Decision, Known, Store, Unstored, Winner, decide
from outbox_worker.rules.phones import normalise
from outbox_worker.runtime.links import LinkTerms, Settler
from outbox_worker.runtime.pages import Pages, Source

T = TypeVar("T")

BATCH = 250  # clients in one transaction
RETRY_BATCH = 1_000
CHANGES_MIN = 100  # that a run may always make, however few customers there are
DIRECTORY_FRESH_S = 5.0  # before somebody is added, to be sure that a cashier has not just done it


@dataclass(frozen=True, slots=True)
class SyncTerms:
    """How to sync. `change_share_max`: which part of all customers a run may create or change, unless forced.

    `overlap` is how far behind what was read the next run begins. `whole`: read all clients, not only updated ones.
    """

    region: str
    winners: Mapping[str, Winner]
    links: LinkTerms
    page_size: int = 1_000
    overlap: timedelta = timedelta(minutes=5)
    change_share_max: float = 0.2
    force: bool = False
    whole: bool = False


class Interrupted(OutboxWorkerError):
    """Told to stop; what was read is stored, and the next run goes on there."""


class _DirectoryIsOld(OutboxWorkerError):
    """Somebody would be added by a directory that may not have the newest customers."""


Progress = Callable[[Counts], None]


def sync(
    conninfo: str,
    source: Source,
    terms: SyncTerms,
    *,
    stopping: Callable[[], bool] = lambda: False,
    progress: Progress = lambda counts: None,
) -> SyncRun:
    """Sync all customers, or go on where the last run was interrupted; return the run.

    Raises Interrupted when told to stop, SyncStopped where a person must look, RunningElsewhere, InBoostUnavailable,
    DatabaseUnavailable. Whatever is raised, what was stored stands, and the next run goes on.
    """
    with explained(), SyncSession(conninfo) as session:
        return _Sync(session, terms, stopping, progress).run(source)


def retry(conninfo: str, terms: SyncTerms) -> SyncRun | None:
    """Try once more to store what could not be stored, and settle its links; nothing is read. As `sync` otherwise."""
    with explained(), SyncSession(conninfo) as session:
        return _Sync(session, terms, lambda: False, lambda counts: None).retry()


class _Sync:
    def __init__(
        self,
        session: SyncSession,
        terms: SyncTerms,
        stopping: Callable[[], bool],
        progress: Progress,
    ) -> None:
        self._session = session
        self._terms = terms
        self._stopping = stopping
        self._progress = progress
        self._directory_at_s = 0.0
        self._pages: Pages | None = None
        self._keys = session.call(mapping_keys.read)
        self._settler = Settler(session, self._keys, terms.links, self._go_on, self._add)

    def run(self, source: Source) -> SyncRun:
        self._refresh_directory()
        self._begin()
        try:
            self._retry_unstored()
            self._settler.settle(look=True)
            self._read_pages(source)
        except Interrupted:
            raise  # nothing is wrong, and the next run goes on
        except OutboxWorkerError as error:
            self._session.call(sync_runs.stop, self._run, str(error), begins_again=self._begins_again)
            raise
        self._session.call(sync_runs.end, self._run, self._terms.overlap)
        return self._latest()

    def retry(self) -> SyncRun:
        self._refresh_directory()
        self._begin()
        self._retry_unstored()
        self._settler.settle(look=False)
        return self._latest()

    def _begin(self) -> None:
        self._run = self._session.call(sync_runs.begin, whole=self._terms.whole)
        self._counts = self._run.counts
        share = round(self._terms.change_share_max * self._run.customer_count)
        self._changes_max = None if self._terms.force else max(share, CHANGES_MIN)

    @property
    def _begins_again(self) -> bool:
        return self._pages is not None and self._pages.begins_again

    def _latest(self) -> SyncRun:
        return self._session.call(sync_runs.latest) or self._run

    def _go_on(self) -> None:
        if self._stopping():
            raise Interrupted("told to stop; what was read is stored, and the next run goes on there")

    def _refresh_directory(self) -> None:
        refresh_directory(self._session, self._terms.region, self._go_on)
        self._directory_at_s = time.monotonic()

    # Pages

    def _read_pages(self, source: Source) -> None:
        self._pages = Pages(source, self._run.since, self._run.cursor, self._terms.page_size)
        for page in self._pages:
            self._take_in(page)
            self._go_on()

    def _take_in(self, page: Page) -> None:
        region = self._terms.region
        known = [it if it.client_id is not None else identify(it, region) for it in page.clients]
        differing = self._session.call(database.differing, newest_of_each(known))
        for batch in batches(differing, BATCH):
            self._go_on()
            self._store([identify(it, region) for it in batch])
        self._session.call(self._end_page, page)
        if differing:
            self._settler.settle(look=False)
        self._progress(self._counts)

    def _end_page(self, connection: Any, page: Page) -> None:
        """Count the page and move on to the next."""
        unstored.keep_unreadable(connection, [(it.digest, it.excerpt) for it in page.unreadable])
        counts = Counts(page_count=1, read_count=len(page.clients) + len(page.unreadable))
        self._add(connection, counts)
        newest_at = max((it.updated_at for it in page.clients if it.updated_at is not None), default=None)
        sync_runs.move(connection, self._run, page.cursor, page.date or datetime.now(UTC), newest_at)

    # Clients

    def _retry_unstored(self) -> None:
        after = 0
        while True:
            after, kept = self._session.call(unstored.retryable, after, RETRY_BATCH)
            if not kept:
                return
            usable = [it for it in (identify(it, self._terms.region) for it in kept) if it.phone is not None]
            for batch in batches(usable, BATCH):
                self._go_on()
                self._store(batch)

    def _store(self, batch: Sequence[Client]) -> None:
        """Store clients together, or one by one where together they are refused."""
        try:
            self._session.call(self._store_together, batch)
        except _DirectoryIsOld:
            self._refresh_directory()
            self._store(batch)
        except Unrecordable as error:
            if len(batch) == 1:
                self._session.call(unstored.keep, batch, {0: Unstored("refused", logs.clean(str(error)))})
                return
            half = len(batch) // 2
            self._store(batch[:half])
            self._store(batch[half:])

    def _store_together(self, connection: Any, batch: Sequence[Client]) -> None:
        database.stage(connection, batch)
        decided = decisions(batch, database.known(connection, self._keys), self._terms)
        self._require_fresh_directory(decided)
        self._require_few_changes(decided)
        stored = database.store(connection, batch, decided)
        counts = Counts(
            created_count=stored.created_count, changed_count=stored.changed_count, linked_count=stored.linked_count
        )
        self._add(connection, counts)

    def _require_fresh_directory(self, decided: Iterable[Decision]) -> None:
        is_old = time.monotonic() > self._directory_at_s + DIRECTORY_FRESH_S
        if is_old and any(isinstance(it, Create) for it in decided):
            raise _DirectoryIsOld

    def _require_few_changes(self, decided: Iterable[Decision]) -> None:
        if self._changes_max is None:
            return
        planned = sum(isinstance(it, Create) or (isinstance(it, Store) and bool(it.changes)) for it in decided)
        done = self._counts.created_count + self._counts.changed_count
        if planned and done + planned > self._changes_max:
            raise SyncStopped(
                f"this run would create or change more than {self._changes_max:,} customers; {done:,} were, no more "
                "are. Look with `outbox-worker customers sync --dry-run`, and if it is right, let it go on with "
                "`outbox-worker customers sync --force`. The limit is [customers] change_share_max."
            )

    def _add(self, connection: Any, counts: Counts) -> None:
        """Count in the transaction that did it. Of one that is rolled back, nothing is counted: see `_store`."""
        sync_runs.add(connection, self._run, counts)
        self._counts = _sum(self._counts, counts)


def refresh_directory(session: SyncSession, region: str, go_on: Callable[[], None]) -> None:
    """Bring the directory of accounting's phones up to date, in transactions of some thousand customers."""
    session.call(directory.open_changes)
    while session.call(directory.take_changes, lambda spelled: normalise(spelled, region)):
        go_on()


def decisions(batch: Sequence[Client], known: Sequence[Known], terms: SyncTerms) -> list[Decision]:
    """Decide what becomes of each client."""
    return [decide(client, it, terms.winners, terms.region) for client, it in zip(batch, known, strict=True)]


def newest_of_each(clients: Iterable[Client]) -> list[Client]:
    """Keep of a client that comes twice the newer one, or the later one where they do not say."""
    found: dict[str, Client] = {}
    for it in clients:
        before = found.get(it.key)
        if before is None or _instant(it) >= _instant(before):
            found[it.key] = it
    return list(found.values())


def _instant(client: Client) -> datetime:
    return client.updated_at or datetime.min.replace(tzinfo=UTC)


def _sum(one: Counts, other: Counts) -> Counts:
    return replace(one, **{it.name: getattr(one, it.name) + getattr(other, it.name) for it in fields(Counts)})


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Part a list."""
    return (items[start : start + size] for start in range(0, len(items), size))
