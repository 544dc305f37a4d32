"""What the sandbox remembers for a judge: every request that it saw, and every effect that a request had.

A request is a row from its arrival on and is completed when it ends, so the newest rows of a page may be unfinished.
Sequence numbers start at 1 and have no holes. When the ledger is full, its oldest rows are forgotten, and counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, Generic, TypeVar

import msgspec

from outbox_worker.demo.sandbox.lanes import Lanes

Row = TypeVar("Row")


class SeenRequest(msgspec.Struct, gc=False):
    """One request. `_at` is in Unix seconds; `_monotonic_s` is comparable between the processes of one host."""

    sequence: int
    arrived_at: float
    arrived_monotonic_s: float
    connection: int
    operation: str
    destination: str
    method: str
    path: str
    phone: str | None = None
    event_id: str | None = None
    idempotency_key: str | None = None
    body_sha256: str | None = None  # none when the body was not read
    lane_count: int | None = None  # how many of its lane were in the sandbox when it came, itself included
    fault: str | None = None
    effect: int | None = None  # sequence number of the effect that it had
    duplicate: bool = False  # its event id was known, and so it had no effect
    status: int | None = None  # none when no whole answer was written
    ended: str | None = None  # answered, reset, garbage, cut, closed (by us), client_gone, stopped; none: still here
    ended_monotonic_s: float | None = None


class Effect(msgspec.Struct, frozen=True, tag="effect", tag_field="type"):
    """Something that InBoost would have done: a balance set, a purchase stored, a hook acted upon, a client changed."""

    sequence: int
    acted_at: float  # Unix seconds
    acted_monotonic_s: float
    operation: str
    destination: str
    event_id: str | None
    phone: str | None
    request: int  # sequence number of the request, within the life of one sandbox
    body: msgspec.Raw  # as it came


class Journal(Generic[Row]):
    """Rows in order of their sequence numbers, at most about `rows_max` of them."""

    def __init__(self, rows_max: int) -> None:
        self._rows: list[Row] = []
        self._rows_max = rows_max
        self.forgotten_count = 0

    @property
    def last(self) -> int:
        """Tell the sequence number of the newest row, 0 before the first."""
        return self.forgotten_count + len(self._rows)

    def append(self, row: Row) -> None:
        """Add the row whose sequence number is `last + 1`."""
        self._rows.append(row)
        # A tenth more is let in, so that moving the rest is paid once in a while and not for every row.
        if len(self._rows) > self._rows_max + self._rows_max // 10:
            self._forget(len(self._rows) - self._rows_max)

    def after(self, sequence: int, limit: int | None = None) -> list[Row]:
        """Read the rows that follow a sequence number, oldest first."""
        start = max(0, sequence - self.forgotten_count)
        return self._rows[start : None if limit is None else start + limit]

    def _forget(self, count: int) -> None:
        del self._rows[:count]
        self.forgotten_count += count


class Ledger:
    """The two journals, the counts that outlive forgotten rows, and the lanes."""

    def __init__(self, rows_max: int = 1_000_000) -> None:
        self.requests: Journal[SeenRequest] = Journal(rows_max)
        self.effects: Journal[Effect] = Journal(rows_max)
        self.lanes = Lanes()
        self.in_flight_count = 0
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)  # by operation
        self.statuses: dict[str, Counter[str]] = defaultdict(Counter)  # by operation
        self.faults: dict[str, Counter[str]] = defaultdict(Counter)  # by operation

    def arrived(self, request: SeenRequest) -> None:
        """Write down a request that came in."""
        self.requests.append(request)
        self.in_flight_count += 1
        self.counts[request.operation]["requests"] += 1
        if request.fault is not None:
            self.faults[request.operation][request.fault] += 1

    def ended(self, request: SeenRequest, how: str, status: int | None, monotonic_s: float) -> None:
        """Complete a request; the caller sees to it that this happens once."""
        request.ended, request.status, request.ended_monotonic_s = how, status, monotonic_s
        self.in_flight_count -= 1
        self.statuses[request.operation][how if status is None else str(status)] += 1

    def refused_duplicate(self, request: SeenRequest) -> None:
        """Note that a request had no effect because its event id was known."""
        request.duplicate = True
        self.counts[request.operation]["duplicates"] += 1

    def acted(self, effect: Effect, *, again: bool) -> None:
        """Write down an effect; `again` says that its event id had one before at the same destination."""
        self.effects.append(effect)
        self.counts[effect.operation]["effects"] += 1
        if again:
            self.counts[effect.operation]["doubled_effects"] += 1

    def summary(self) -> dict[str, Any]:
        """Count it all."""
        overlaps = sorted(self.lanes.overlap_max.items(), key=lambda item: -item[1])
        return {
            "operations": {operation: self._of(operation) for operation in self.counts},
            "request_last": self.requests.last,
            "effect_last": self.effects.last,
            "requests_forgotten": self.requests.forgotten_count,
            "effects_forgotten": self.effects.forgotten_count,
            "in_flight": self.in_flight_count,
            "overlap": {
                "count_max": overlaps[0][1] if overlaps else int(self.requests.last > 0),
                "lanes": len(overlaps),
                "worst": [
                    {"destination": destination, "phone": phone, "count": count}
                    for (destination, phone), count in overlaps[:20]
                ],
            },
        }

    def _of(self, operation: str) -> dict[str, Any]:
        counts = self.counts[operation]
        return {name: counts[name] for name in ("requests", "effects", "duplicates", "doubled_effects")} | {
            "statuses": dict(self.statuses[operation]),
            "faults": dict(self.faults[operation]),
        }
