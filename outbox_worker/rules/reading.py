"""From where to look for new deliveries, so that none is missed and little is looked at twice. Pure.

Ids are drawn when a row is written and seen when it commits, so a lower id may appear after a higher one. Three looks
answer that, each beginning after some id and going to the end:

    forward   from the highest id seen; in every round
    recent    from where the highest was two seconds ago; many times a second: transactions that overlap
    full      from 0; every few seconds, and after a wake-up that brought nothing: transactions that were open for long

Before sleeping a full look is needed: what commits afterwards rings, but what has committed just before, behind the
position, has not rung and would be slept over.

A recent and a full look also pass over what has been seen before, and, while somebody holds a snapshot open, over what
has been delivered since. So each takes at most a small share of the time: the longer it takes, the rarer it is. A full
look that cannot be afforded before sleeping is owed, and made during the sleep as soon as it can be.
"""

from __future__ import annotations

from collections import deque
from math import inf

RECENT_S = 2.0
RECENT_EVERY_S = 0.05
FULL_EVERY_S = 5.0
SHARE = 50  # one part in so many of the time goes to looks of each of the two kinds


class Reading:
    """The position in one destination's deliveries."""

    def __init__(self) -> None:
        self.position = 0
        self._samples: deque[tuple[float, int]] = deque()
        self._recent_due_s = 0.0
        self._full_due_s = 0.0
        self._full_affordable_s = 0.0
        self._owes_full = False
        self._full_from: int | None = None
        self._full_spent_s = 0.0

    @property
    def owed_s(self) -> float:
        """When the full look is to be made that was owed before sleeping; infinity if none is."""
        return self._full_affordable_s if self._owes_full else inf

    def begin(self, now_s: float, *, before_sleep: bool = False) -> int:
        """Return the id after which to look now."""
        due_s = self._full_due_s
        if before_sleep or self._owes_full:
            due_s = min(due_s, self._full_affordable_s)
        if self._full_from is None and now_s >= due_s:
            self._full_from, self._full_spent_s, self._owes_full = 0, 0.0, False
        elif before_sleep:
            self._owes_full = True
        if self._full_from is not None:
            return self._full_from
        if now_s >= self._recent_due_s:
            return self._recent(now_s)
        return self.position

    def end(self, after: int, last_id: int | None, *, complete: bool, took_s: float, now_s: float) -> None:
        """Take note of a look: the last id it saw, whether it came to the end, how long it took."""
        if after == self._full_from:
            self._end_full(last_id, complete=complete, took_s=took_s, now_s=now_s)
        elif after < self.position:
            self._recent_due_s = now_s + max(RECENT_EVERY_S, SHARE * took_s)
        self.position = max(self.position, last_id or 0)

    def ask_full(self) -> None:
        """Make the next look a full one."""
        self._full_due_s = 0.0

    def _end_full(self, last_id: int | None, *, complete: bool, took_s: float, now_s: float) -> None:
        self._full_spent_s += took_s
        if complete or last_id is None or last_id >= self.position:
            self._full_from = None
            self._full_affordable_s = now_s + SHARE * self._full_spent_s
            self._full_due_s = max(now_s + FULL_EVERY_S, self._full_affordable_s)
        else:
            self._full_from = last_id

    def _recent(self, now_s: float) -> int:
        self._recent_due_s = now_s + RECENT_EVERY_S
        self._samples.append((now_s, self.position))
        while len(self._samples) > 1 and self._samples[1][0] <= now_s - RECENT_S:
            self._samples.popleft()
        return self._samples[0][1]
