"""The relay's connection to its database: had, lost, had again.

    down ──`comes_up`: a thread opens it beside the loop──▶ up ──`lose`──▶ down, for a pause that grows

What is to be done about what was under way is for the relay to say; here is only whether there is a connection, since
when, and when the next is tried.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from math import inf
from random import random
from time import monotonic
from typing import Any

from outbox_worker.database.outbox import Outbox
from outbox_worker.errors import DatabaseUnavailable, TurnRefused
from outbox_worker.rules.schedule import Timetable
from outbox_worker.runtime.journal import Journal
from outbox_worker.runtime.opening import Opening

REFUSALS_MAX = 10  # turns that the database refuses, after which the process ends: what is wrong may be its own state
REFUSALS_APART_S = 60.0  # a refusal so long after the one before is the first again


class Connection:
    """Keeps the outbox connected. `hear` is called when there is something to read; `known` are our claims' ids."""

    def __init__(
        self,
        outbox: Outbox,
        selector: selectors.BaseSelector,
        journal: Journal,
        *,
        hear: Callable[..., None],
        known: Callable[[], list[int]],
    ) -> None:
        self.is_up = False
        self.up_since_s = 0.0
        self.lost_at_s = -inf  # never
        self.try_at_s = 0.0
        self.given_up: TurnRefused | None = None  # the database refuses again and again what it is asked
        self._outbox = outbox
        self._selector = selector
        self._journal = journal
        self._hear = hear
        self._known = known
        self._pauses = Timetable(first=timedelta(milliseconds=100), longest=timedelta(seconds=3))
        self._descriptor = -1
        self._opening: Opening[Any] | None = None
        self._try_count = 0
        self._refusal_count = 0
        self._refused_at_s = -inf

    def comes_up(self, now_s: float) -> bool:
        """Try when it is time to; return whether it has just come up. Raises what kept it from being opened."""
        if not self.is_up and now_s >= self.try_at_s:
            self._opening = Opening(partial(self._outbox.open, self._known()), self._selector)
            self.try_at_s = inf
        if self._opening is None or not self._opening.is_over:
            return False
        opened, self._opening = self._opening, None
        self._take_up(opened.result(), now_s)
        return True

    def lose(self, error: DatabaseUnavailable) -> None:
        """Close it, or take note that it could not be had; try again after a while."""
        if self.is_up:
            self._selector.unregister(self._descriptor)
            self.lost_at_s = monotonic()
        self._outbox.close()
        self.is_up = False
        self._try_count += 1
        if isinstance(error, TurnRefused):
            self._count_refusal(error, monotonic())
        tries = max(self._try_count, self._refusal_count)
        pause = self._pauses.wait(tries, random())  # noqa: S311  # spreads, guards nothing
        self.try_at_s = monotonic() + pause.total_seconds()
        self._journal.database_lost(error)

    def close(self) -> None:
        """Have none, and try no more."""
        if self._opening is not None:
            self._opening.abandon()
        self._outbox.close()

    def _take_up(self, opened: Any, now_s: float) -> None:
        self._outbox.adopt(opened)
        self._descriptor = self._outbox.fileno()  # kept, for a lost connection cannot name it any more
        self._selector.register(self._descriptor, selectors.EVENT_READ, self._hear)
        self.is_up, self.up_since_s, self._try_count = True, now_s, 0
        self._journal.database_back()

    def _count_refusal(self, error: TurnRefused, now_s: float) -> None:
        """Give up after a while: a new process writes down what is in flight as in doubt, without what was refused."""
        if now_s > self._refused_at_s + REFUSALS_APART_S:
            self._refusal_count = 0
        self._refusal_count, self._refused_at_s = self._refusal_count + 1, now_s
        self._journal.turn_refused(error)
        if self._refusal_count >= REFUSALS_MAX:
            self.given_up = error
