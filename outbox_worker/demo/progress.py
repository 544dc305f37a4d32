"""How far the demo is, for the live view: this may ask the outbox itself. The verdict may not, and does not."""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from psycopg import Connection

from outbox_worker.database import backlog
from outbox_worker.database.connecting import look
from outbox_worker.demo.control import Control, read_body
from outbox_worker.demo.sandbox.ledger import Effect
from outbox_worker.demo.shop import Replay
from outbox_worker.records import Action, Outcome

_UNIDENTIFIED = "select count(*) from outbox.addressee where chosen_as is null"
_COUNTS = """
select (select count(*) from outbox.event), count(*) filter (where verdict = %s), count(*) filter (where verdict = %s),
       count(*) filter (where outcome = %s)
from outbox.attempt
"""


class Latencies:
    """From the commit of a sale to each of its effects at InBoost, retries and all.

    `commits` tells when what was committed. Changes of a balance are left out: they have no name that accounting knows.
    """

    def __init__(self, control: Control, commits: Mapping[str, float]) -> None:
        self._control = control
        self._commits = commits
        self._last = 0
        self._unknown: list[tuple[str, float]] = []  # had their effect before the till had noted the commit
        self._sorted_ms: list[float] = []

    def update(self) -> None:
        """Take in what has happened since the last time."""
        met = [*self._unknown, *map(self._named, self._control.effects(self._last))]
        self._unknown = []
        for name, acted_s in met:
            if not name:
                continue
            if name in self._commits:
                insort(self._sorted_ms, max(acted_s - self._commits[name], 0.0) * 1000)
            else:
                self._unknown.append((name, acted_s))

    def at(self, quantile: float) -> float | None:
        """Return the latency in milliseconds that this share of the effects did not exceed."""
        return self._sorted_ms[int(quantile * (len(self._sorted_ms) - 1))] if self._sorted_ms else None

    def _named(self, effect: Effect) -> tuple[str, float]:
        self._last = effect.sequence
        words = read_body(effect.body) or {}
        return str(words.get("purchaseId") or words.get("code") or ""), effect.acted_monotonic_s


@dataclass(frozen=True, slots=True)
class Progress:
    """One look at everything. Latencies are None before the first effect."""

    elapsed_s: float
    sale_count: int
    committed_count: int
    event_count: int
    delivered_count: int
    retried_count: int
    doubt_count: int  # so far
    in_doubt_count: int  # now
    pending_count: int
    held_count: int
    dead_count: int
    waiting_count: int
    unidentified_count: int  # of these, orders whose buyer is not known yet, or has no phone
    lag_s: float
    latency_ms_p50: float | None
    latency_ms_p95: float | None
    latency_ms_p99: float | None

    @property
    def is_settled(self) -> bool:
        """Whether the worker has nothing more to do by itself."""
        return self.pending_count == 0 and self.in_doubt_count == 0 and self.unidentified_count == 0


class Observer:
    """Looks at the outbox, the tills and InBoost's stand-in."""

    def __init__(self, conninfo: str, control: Control, replay: Replay, sale_count: int) -> None:
        self._conninfo = conninfo
        self._replay = replay
        self._sale_count = sale_count
        self._latencies = Latencies(control, replay.commits)
        self._began_s = monotonic()

    def look(self) -> Progress:
        """Read everything once."""
        self._latencies.update()
        committed_count = self._replay.committed_count  # first: what is captured later can only be more
        with look(self._conninfo, "outbox-worker demo") as connection:
            return self._progress(connection, committed_count)

    def _progress(self, connection: Connection[Any], committed_count: int) -> Progress:
        # In the order of an order's way: what is not to be identified any more is in the backlog, or was delivered; and
        # when that is empty, what was delivered is all among the counts.
        [(unidentified_count,)] = connection.execute(_UNIDENTIFIED)
        status = backlog.read(connection)
        [counts] = connection.execute(_COUNTS, (Action.ACKNOWLEDGE, Action.RETRY, Outcome.IN_DOUBT))
        event_count, delivered_count, retried_count, doubt_count = counts
        return Progress(
            elapsed_s=monotonic() - self._began_s,
            sale_count=self._sale_count,
            committed_count=committed_count,
            event_count=event_count,
            delivered_count=delivered_count,
            retried_count=retried_count,
            doubt_count=doubt_count,
            in_doubt_count=status.count("in_doubt"),
            pending_count=status.count("pending"),
            held_count=status.count("held"),
            dead_count=status.count("dead"),
            waiting_count=status.count("waiting"),
            unidentified_count=unidentified_count,
            lag_s=status.lag_s,
            latency_ms_p50=self._latencies.at(0.50),
            latency_ms_p95=self._latencies.at(0.95),
            latency_ms_p99=self._latencies.at(0.99),
        )
