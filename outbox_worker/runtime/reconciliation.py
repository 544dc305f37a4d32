"""Reconciliation: what accounting says and no event does is recorded, so that nothing is lost.

    facts of the window ──count──▶ all known: done
                             └───▶ missing, in the order in which they occurred ──▶ the one door, 1,000 in a transaction
    captures that failed ────────▶ their facts, whenever they occurred ───────────▶ the same
    balances that changed ───────▶ other than the last event says ────────────────▶ a new change
    captures that failed, whose facts have their events now ──────────────────────▶ repaired

To be run as often as one likes, by several at once, beside all captures: a fact is recorded once, whoever comes first.
What a transaction has recorded stays if the next one fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from outbox_worker.database import reconciliation as database
from outbox_worker.database.engine import engine, explained, transaction
from outbox_worker.database.reconciliation import BALANCE, MissingBalance, MissingFact, RecordedBalance, Window
from outbox_worker.errors import OutboxWorkerError, Unrecordable
from outbox_worker.runtime.rounds import Ticking

T = TypeVar("T")

STATEMENT_S_MAX = 600.0  # a window without an index to find it by is a walk through the whole table
LONG_TRANSACTION = timedelta(days=1)  # a balance's capture may have failed so long after the balance changed
DISTANT_PAST = datetime(1, 1, 2, tzinfo=UTC)
LOOK_EVERY_S = 0.01
PATIENCE_S = 1.0  # with those who are recording at this moment; less than the lock time-out of who waits for us
PASSES_MAX = 5


@dataclass(frozen=True, slots=True)
class Terms:
    """How to reconcile. Facts younger than `live_within` start webhooks, older ones are history.

    Those younger than `grace` are left alone, for an accounting system that records its facts in several transactions.
    """

    live_within: timedelta = timedelta(hours=24)
    grace: timedelta = timedelta(seconds=5)
    batch_max: int = 1000
    all_balances: bool = False  # also of accounts that did not change in the window
    dry_run: bool = False


@dataclass(slots=True)
class KindCounts:
    """What was found of a kind: facts of the window, known, recorded now; captures that are repaired thereby."""

    fact_count: int = 0
    known_count: int = 0
    recorded_count: int = 0
    repaired_count: int = 0
    refused_count: int = 0


@dataclass(frozen=True, slots=True)
class RefusedFact:
    """A fact that could not be recorded, and why."""

    kind: str
    source_id: str
    reason: str


@dataclass(slots=True)
class Reconciled:
    """What came of a reconciliation. `refused` are still missing, and so is all that is missing after a dry run."""

    window: Window
    counts: dict[str, KindCounts] = field(default_factory=dict)
    refused: list[RefusedFact] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether nothing was missing."""
        return not self.refused and all(
            it.fact_count == it.known_count and not it.recorded_count for it in self.counts.values()
        )

    def of(self, kind: str) -> KindCounts:
        """Return the counts of a kind."""
        return self.counts.setdefault(kind, KindCounts())


def reconcile(
    conninfo: str,
    *,
    since: datetime,
    until: datetime | None = None,
    terms: Terms = Terms(),
    pause: Callable[[float], None] = time.sleep,
    go_on: Callable[[], None] = lambda: None,
) -> Reconciled:
    """Record what is missing of the facts that occurred from `since` to `until`, by accounting's own instants.

    `go_on` is called before each transaction, and may raise to break it off.
    Raises DatabaseUnavailable, and SchemaMismatch where the schema or the mapping is not one that we can work with.
    """
    with explained():
        return _Reconciliation(conninfo, terms, pause, go_on).run(since, until)


def reconciliation_round(conninfo: str, window: timedelta) -> Callable[[Ticking], Mapping[str, int]]:
    """Return the round that reconciles a window down to its beginning."""

    def run(ticking: Ticking) -> Mapping[str, int]:
        since = ticking.began_at - window
        found = reconcile(conninfo, since=since, pause=ticking.pause, go_on=ticking.go_on)
        names = ("fact_count", "known_count", "recorded_count", "repaired_count", "refused_count")
        return {name: sum(getattr(it, name) for it in found.counts.values()) for name in names}

    return run


class _Overtaken(OutboxWorkerError):
    """A balance has changed while it was recorded, or may have."""


class _Reconciliation:
    def __init__(self, conninfo: str, terms: Terms, pause: Callable[[float], None], go_on: Callable[[], None]) -> None:
        self._engine = engine(conninfo, application_name="outbox-worker reconcile", statement_timeout_s=STATEMENT_S_MAX)
        self._terms = terms
        self._pause = pause
        self._go_on = go_on

    def run(self, since: datetime, until: datetime | None) -> Reconciled:
        now = self._ask(database.now)
        window = Window(since, min(until or now, now - self._terms.grace))
        self._result = Reconciled(window)
        if self._count(window) and not self._terms.dry_run:
            self._record_window(window)
        self._record_failed()
        self._reconcile_balances(window)
        if not self._terms.dry_run:
            self._note_repaired(self._ask(database.repair))
        return self._result

    def _ask(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function of the database in a transaction of its own."""
        self._go_on()
        with transaction(self._engine) as connection:
            return function(connection, *arguments)

    # Facts

    def _count(self, window: Window) -> int:
        """Count, and return how many are missing."""
        found = self._ask(database.count, window)
        for it in found:
            counts = self._result.of(it.kind)
            counts.fact_count, counts.known_count = it.fact_count, it.known_count
        return sum(it.fact_count - it.known_count for it in found)

    def _record_window(self, window: Window) -> None:
        after: MissingFact | None = None
        while batch := self._ask(database.missing, window, after, self._terms.batch_max):
            self._record(batch)
            after = batch[-1]

    def _record_failed(self) -> None:
        """Record what the window did not have of the facts whose capture failed."""
        found = self._ask(database.failed)
        if self._terms.dry_run:
            for fact in found:
                self._refuse(fact, "its capture failed, and it is not recorded yet")
            return
        for batch in _batches(found, self._terms.batch_max):
            for fact in self._record(batch):
                self._refuse(fact, "its capture failed, and accounting has no such fact any more")

    def _record(self, facts: Sequence[MissingFact]) -> list[MissingFact]:
        """Record facts, one by one where together they are refused; return those that are gone."""
        try:
            recorded = self._ask(database.record, facts, self._terms.live_within)
        except Unrecordable as error:
            if len(facts) == 1:
                self._refuse(facts[0], str(error))
                return []
            half = len(facts) // 2
            return self._record(facts[:half]) + self._record(facts[half:])
        for fact in facts:
            self._result.of(fact.kind).recorded_count += recorded.get(fact.event_id, False)
        return [fact for fact in facts if fact.event_id not in recorded]

    # Balances

    def _reconcile_balances(self, window: Window) -> None:
        wide = Window(self._since_of_balances(window), window.until)
        compared_count, suspects = self._ask(database.suspects, wide)
        missing = self._ask(database.missing_balances, suspects) if suspects else []
        counts = self._result.of(BALANCE)
        counts.fact_count, counts.known_count = compared_count, compared_count - len(missing)
        if self._terms.dry_run:
            return
        for balance in self._record_balances(missing):
            self._refuse(balance, "it is being changed at this moment; the next reconciliation looks again")
        if not counts.refused_count:
            self._note_repaired(self._ask(database.repair_balances, wide.until))

    def _since_of_balances(self, window: Window) -> datetime:
        """A capture that failed does not say of which account it was, so all that changed since then are compared."""
        failed_at = self._ask(database.open_balance_failures_since)
        if self._terms.all_balances:
            return DISTANT_PAST
        return window.since if failed_at is None else min(window.since, failed_at - LONG_TRANSACTION)

    def _record_balances(self, missing: Sequence[MissingBalance]) -> Sequence[MissingBalance]:
        """Record balances; return those that were overtaken again and again."""
        for _ in range(PASSES_MAX):
            batches = _batches(missing, self._terms.batch_max)
            overtaken = [it.customer_id for batch in batches for it in self._overtaken_of(batch)]
            if not overtaken:
                return []
            missing = self._ask(database.missing_balances, overtaken)
        return missing

    def _overtaken_of(self, balances: Sequence[MissingBalance]) -> Sequence[MissingBalance]:
        """Record balances, or return them if that would put an old one after a new one."""
        try:
            with transaction(self._engine) as connection:
                recorded = database.record_balances(connection, balances, self._terms.live_within)
                self._require_last(connection, recorded)
        except _Overtaken:
            return balances
        except Unrecordable as error:
            if len(balances) == 1:
                self._refuse(balances[0], str(error))
                return []
            half = len(balances) // 2
            return [*self._overtaken_of(balances[:half]), *self._overtaken_of(balances[half:])]
        self._result.of(BALANCE).recorded_count += sum(it.is_new for it in recorded)
        return []

    def _require_last(self, connection: Any, recorded: Sequence[RecordedBalance]) -> None:
        """Wait for those who were recording when we did; raise _Overtaken if the balances are not as recorded."""
        if not outlasts_recorders(connection, self._pause) or database.changed_count(connection, recorded):
            raise _Overtaken

    # Results

    def _refuse(self, fact: MissingFact | MissingBalance, reason: str) -> None:
        self._result.of(fact.kind).refused_count += 1
        self._result.refused.append(RefusedFact(fact.kind, fact.source_id, reason))

    def _note_repaired(self, kinds: Sequence[str]) -> None:
        for kind in kinds:
            self._result.of(kind).repaired_count += 1


def outlasts_recorders(connection: Any, pause: Callable[[float], None] = time.sleep) -> bool:
    """Wait for the transactions that are recording at this moment; False if one of them lasts too long."""
    give_up_at_s = time.monotonic() + PATIENCE_S
    others = database.recorders(connection)
    while others:
        if time.monotonic() >= give_up_at_s:
            return False
        pause(LOOK_EVERY_S)
        others &= database.recorders(connection)
    return True


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
