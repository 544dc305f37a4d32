"""The lanes of one destination in memory: which delivery may be claimed next. Pure; times are seconds given by the
caller.

What stands here is a reading of the database, never the truth: a claim is checked by the statement that makes it.
So this may be bounded and forgetful, and a lane of which it was wrong is simply read again.

A lane is *ready* when its head may be claimed, *busy* while its head is on its way, *resting* until its head is due,
and *short* when the database may hold more of it than is known here; a short lane with nothing left asks to be read.
Memory is bounded: one customer with a million waiting takes `lane_max` places of `total_max`.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from math import inf
from typing import NamedTuple


class Due(NamedTuple):
    """A delivery that waits, as it was read: `due_s` is when it is due, 0 if it was due when it was read."""

    delivery_id: int
    lane: int
    due_s: float


class Lane:
    """What is known of one lane: its deliveries in order, the head first."""

    __slots__ = ("known", "rests_until_s", "short")

    def __init__(self) -> None:
        self.known: deque[Due] = deque()
        self.short = False
        self.rests_until_s = 0.0


class Lanes:
    """Admit what was read, take what may be claimed, say how it ended.

    `pick` chooses an index below a count: 0 keeps the order of arrival; a drawn one keeps several workers on one
    database out of each other's way.
    """

    def __init__(
        self, *, lane_max: int = 64, total_max: int = 20_000, pick: Callable[[int], int] = lambda count: 0
    ) -> None:
        self._lane_max = lane_max
        self._total_max = total_max
        self._pick = pick
        self._lanes: dict[int, Lane] = {}
        self._ids: set[int] = set()
        self._ready: deque[int] = deque()
        self._resting: list[tuple[float, int]] = []
        self._unread: set[int] = set()

    def __len__(self) -> int:
        """Return how many deliveries are known."""
        return len(self._ids)

    @property
    def room(self) -> int:
        """How many more deliveries may be read ahead."""
        return max(self._total_max - len(self._ids), 0)

    @property
    def ready_count(self) -> int:
        """How many heads could be claimed now."""
        return len(self._ready)

    @property
    def unread_count(self) -> int:
        """How many lanes must be read before they can go on."""
        return len(self._unread)

    @property
    def next_wake_s(self) -> float:
        """When the next lane's rest is over; infinity if none rests."""
        return self._resting[0][0] if self._resting else inf

    def admit(self, found: Iterable[Due]) -> int:
        """Take in deliveries read in order of their ids; return how many were new here."""
        before = len(self._ids)
        for due in found:
            if due.delivery_id not in self._ids:
                self._admit(due)
        return len(self._ids) - before

    def unread(self, count_max: int) -> list[int]:
        """Return lanes that must be read before they can go on; each is named once, and `reread` brings it back."""
        return [self._unread.pop() for _ in range(min(count_max, len(self._unread)))]

    def reread(self, number: int, found: Iterable[Due], *, complete: bool) -> None:
        """Take in what reading a lane from its head brought; `complete` says whether that was all of it."""
        self.drop(number)
        for due in found:
            self._admit(due)
        if not complete:
            self._lanes[number].short = True

    def take(self, count_max: int) -> list[Due]:
        """Return heads to be claimed now; their lanes are busy until one of the four words below is said of them."""
        return [self._lanes[self._pop()].known[0] for _ in range(min(count_max, len(self._ready)))]

    def seize(self, due: Due) -> None:
        """A head was claimed that had not been taken from here: its lane is busy, whatever was known of it."""
        lane = self._lanes.setdefault(due.lane, Lane())
        self._unread.discard(due.lane)
        if due.lane in self._ready:
            self._ready.remove(due.lane)
        lane.rests_until_s = 0.0
        if not lane.known or lane.known[0].delivery_id != due.delivery_id:
            lane.short = lane.short or bool(lane.known)
            self._ids.difference_update(known.delivery_id for known in lane.known)
            lane.known.clear()
            self._append(lane, due)

    def done(self, number: int) -> None:
        """The head is off the lane: delivered, or out of the way of what follows."""
        lane = self._lanes[number]
        self._ids.discard(lane.known.popleft().delivery_id)
        self._settle(number, lane)

    def put_off(self, number: int, due_s: float) -> None:
        """The head stays the head, and is due later."""
        lane = self._lanes[number]
        lane.known[0] = lane.known[0]._replace(due_s=due_s)
        self._shorten(lane)
        self._settle(number, lane)

    def drop(self, number: int) -> None:
        """The lane waits for its client, or for a person: nothing of it is kept here."""
        lane = self._lanes.pop(number, None)
        if lane is not None:
            self._ids.difference_update(due.delivery_id for due in lane.known)

    def lose(self, number: int, until_s: float) -> None:
        """The claim did not succeed, so what is known of the lane is wrong: it is to be read again at `until_s`."""
        lane = self._lanes[number]
        self._ids.difference_update(due.delivery_id for due in lane.known)
        lane.known.clear()
        lane.short = True
        self._rest(number, lane, until_s)

    def doubt(self) -> None:
        """Somebody may have changed when a resting lane is due: let all that rest be read again."""
        resting, self._resting = self._resting, []
        for until_s, number in resting:
            lane = self._lanes.get(number)
            if lane is not None and lane.rests_until_s == until_s:
                self._shorten(lane)
                self._ids.difference_update(due.delivery_id for due in lane.known)
                lane.known.clear()
                lane.short = True
                self._go_on(number, lane)

    def wake(self, now_s: float) -> None:
        """Let the lanes go on whose rest is over."""
        while self._resting and self._resting[0][0] <= now_s:
            until_s, number = heapq.heappop(self._resting)
            lane = self._lanes.get(number)
            if lane is not None and lane.rests_until_s == until_s:
                self._go_on(number, lane)

    def reset(self, busy: Iterable[int]) -> None:
        """Forget everything but the heads that are on their way: the database is to be read anew."""
        kept = {number: self._lanes[number] for number in busy if number in self._lanes}
        self._lanes = kept
        for lane in kept.values():
            self._shorten(lane)
            lane.short = True
        self._ids = {due.delivery_id for lane in kept.values() for due in lane.known}
        self._ready.clear()
        self._resting.clear()
        self._unread.clear()

    def _admit(self, due: Due) -> None:
        lane = self._lanes.get(due.lane)
        if lane is None:
            lane = self._lanes[due.lane] = Lane()
            self._append(lane, due)
            self._settle(due.lane, lane)
        elif lane.known and due.delivery_id < lane.known[-1].delivery_id:
            self._shorten(lane)  # a transaction that began earlier has committed later
            lane.short = True
        elif lane.short or len(lane.known) >= self._lane_max:
            lane.short = True
        else:
            self._append(lane, due)

    def _append(self, lane: Lane, due: Due) -> None:
        lane.known.append(due)
        self._ids.add(due.delivery_id)

    def _shorten(self, lane: Lane) -> None:
        """Forget what follows the head: it is found again when the lane is read."""
        while len(lane.known) > 1:
            self._ids.discard(lane.known.pop().delivery_id)
            lane.short = True

    def _pop(self) -> int:
        index = self._pick(len(self._ready))
        if index:
            self._ready.rotate(-index)
        return self._ready.popleft()

    def _settle(self, number: int, lane: Lane) -> None:
        if lane.known and lane.known[0].due_s:
            self._rest(number, lane, lane.known[0].due_s)
        else:
            self._go_on(number, lane)

    def _rest(self, number: int, lane: Lane, until_s: float) -> None:
        lane.rests_until_s = until_s
        heapq.heappush(self._resting, (until_s, number))

    def _go_on(self, number: int, lane: Lane) -> None:
        lane.rests_until_s = 0.0
        if lane.known:
            self._ready.append(number)
        elif lane.short:
            self._unread.add(number)
        else:
            del self._lanes[number]
