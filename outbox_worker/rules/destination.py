"""What one worker knows of one destination: its lanes, where its reading stands, how much may go there now. Pure."""

from __future__ import annotations

from math import inf

from outbox_worker.rules.lanes import Lanes
from outbox_worker.rules.reading import Reading

HOUSES_AHEAD = 4


class Destination:
    """A destination with `slots` requests in flight at most, from this worker.

    When it has failed `failures_max` times in a row, only one probe is in flight until one is answered.
    """

    def __init__(self, name: str, *, slots: int, failures_max: int, lanes: Lanes) -> None:
        self.name = name
        self.lanes = lanes
        self.reading = Reading()
        self.in_flight = 0
        self.paused = False
        self.failure_count = 0
        self.rests_until_s = 0.0
        self.at_once: int | None = None  # where a rate holds: what it allows in one turn
        self._slots = slots
        self.failures_max = failures_max

    @property
    def is_failing(self) -> bool:
        """Whether it has failed again and again."""
        return self.failure_count >= self.failures_max

    def is_open(self, now_s: float) -> bool:
        """Tell whether anything may go there now."""
        return not self.paused and now_s >= self.rests_until_s

    def room(self, now_s: float) -> int:
        """Return how many more requests may go there now."""
        if not self.is_open(now_s):
            return 0
        slots = 1 if self.is_failing else self._slots
        room = max(slots - self.in_flight, 0)
        return room if self.at_once is None else min(room, self.at_once)

    def look_max(self, batch: int) -> int:
        """Return how many deliveries to read ahead now.

        None while half of what may be known is known, or heads are ready for so many full houses: what is read later
        is what other workers have left.
        """
        room = self.lanes.room
        has_enough = room < len(self.lanes) or self.lanes.ready_count >= HOUSES_AHEAD * self._slots
        return 0 if self.paused or has_enough else min(room, batch)

    @property
    def _owed_s(self) -> float:
        return self.reading.owed_s if self.look_max(1) else inf

    def has_work(self, now_s: float) -> bool:
        """Tell whether something could be claimed or read anew now."""
        if self.lanes.unread_count > 0 or (self.lanes.ready_count > 0 and self.room(now_s) > 0):
            return True
        return now_s >= self._owed_s

    def next_wake_s(self, now_s: float) -> float:
        """Return when something may become possible here that is not now; infinity if only others can change that."""
        if self.paused:
            return inf
        wake_s = self.rests_until_s if now_s < self.rests_until_s else self.lanes.next_wake_s
        return min(wake_s, self._owed_s)

    def forget(self, busy: set[int]) -> None:
        """Begin to read anew; only what is on its way is still known."""
        self.lanes.reset(busy)
        self.reading = Reading()
