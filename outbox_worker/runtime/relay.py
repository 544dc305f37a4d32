"""The relay: one thread, one connection, one loop.

    while running:
        conclude what is over, claim what there is room for, look for more      one transaction, one round trip
        send what was claimed                                                   many in flight, no threads
        wait for an answer, the doorbell, a timer, or a stop                    one selector

A claim is committed before its request leaves, and only what will leave at once is claimed; so a crash leaves in doubt
exactly what may have been sent. No HTTP while a transaction is open.

When the database is lost, nothing new is sent; what is in flight is awaited, and its conclusions are kept until they
can be written. Whatever was read before is read again.
"""

from __future__ import annotations

import hashlib
import selectors
from datetime import UTC, datetime, timedelta
from math import inf
from random import random
from time import monotonic
from typing import Protocol

import psycopg

from outbox_worker.database.outbox import Outbox
from outbox_worker.database.turns import Answer, DestinationNote, Turn
from outbox_worker.errors import Unsendable
from outbox_worker.inboost.profile import Profile
from outbox_worker.inboost.wire import Wire
from outbox_worker.records import Claim, Conclusion
from outbox_worker.rules.schedule import Timetable
from outbox_worker.runtime.backlog import Backlog
from outbox_worker.runtime.doorbell import Doorbell
from outbox_worker.runtime.judge import Flight, Judge

TAKE_OVER_AFTER_S = 1.0  # beyond the request time-out
SURVEY_EVERY_S = 2.0
SETTLE_AFTER_LOSS_S = 2.0  # after a lost connection, others may be about to conclude what is theirs
STOP_WITHOUT_DATABASE_S = 5.0  # how long a stop waits for a database to write its last conclusions to


class Journal(Protocol):
    """Where everything that happens is told of, once: the log and the metrics."""

    def concluded(self, conclusion: Conclusion, now: datetime) -> None:
        """An attempt is over."""

    def overtaken(self, conclusion: Conclusion) -> None:
        """A conclusion came too late: somebody had taken the claim over."""

    def noted(self, note: DestinationNote) -> None:
        """Something was written down of a destination."""

    def database_lost(self, error: psycopg.Error) -> None:
        """The connection is gone."""

    def database_back(self) -> None:
        """It is there again."""


class Relay:
    """Delivers until told to stop. `run` is the loop; `run_once` makes one bounded round."""

    def __init__(
        self,
        outbox: Outbox,
        wire: Wire[Flight],
        profile: Profile,
        backlog: Backlog,
        judge: Judge,
        doorbell: Doorbell,
        selector: selectors.BaseSelector,
        journal: Journal,
        *,
        request_timeout_s: float,
    ) -> None:
        self._outbox = outbox
        self._wire = wire
        self._profile = profile
        self._backlog = backlog
        self._judge = judge
        self._doorbell = doorbell
        self._selector = selector
        self._journal = journal
        self._request_timeout_s = request_timeout_s
        self._reconnects = Timetable(first=timedelta(milliseconds=100), longest=timedelta(seconds=3))
        self._connected = False
        self._connect_at_s = 0.0
        self._connect_tries = 0
        self._over: list[Conclusion] = []  # concluded, not yet written down
        self._in_flight: set[int] = set()  # lanes
        self._survey_at_s = 0.0  # when to look for the claims of other workers
        self._take_over_at_s = inf  # when the oldest of them is overdue
        self._stop_at_s = inf
        self._deadline_s = 0.0  # of what was claimed last
        self._connected_at_s = 0.0
        self._was_lost = False
        self.progress_s = monotonic()

    def run(self) -> None:
        """Deliver until `stop`; then finish what is in flight and write it down."""
        while not self._is_finished():
            self.run_once()
        self._outbox.close()
        self._wire.close()

    def stop(self) -> None:
        """Claim nothing more."""
        self._stop_at_s = min(self._stop_at_s, monotonic())

    @property
    def is_ready(self) -> bool:
        """Whether the database is there."""
        return self._connected

    def run_once(self) -> None:
        """Make one round: what is over, a turn with the database, what was claimed, a wait."""
        self._conclude_finished()
        try:
            for claim in self._turn():
                self._send(claim)
        except psycopg.OperationalError as error:
            self._lose(error)
        self._wait()
        self.progress_s = monotonic()

    def _conclude_finished(self) -> None:
        for flight, exchange in self._wire.finished():
            self._conclude(self._judge.answered(flight, exchange))

    def _conclude(self, conclusion: Conclusion) -> None:
        self._in_flight.discard(conclusion.claim.lane)
        self._backlog.move_on(conclusion, monotonic())
        self._journal.concluded(conclusion, datetime.now(UTC))
        self._over.append(conclusion)

    def _turn(self) -> list[Claim]:
        """Make a turn with the database, if there is a reason; return what is to be sent now."""
        began_s = monotonic()
        if not self._is_connected(began_s):
            return []
        self._take_over(began_s)
        turn = Turn(conclusions=self._over, survey=began_s >= self._survey_at_s)
        idle = self._backlog.is_idle(began_s)
        look = not self._is_stopping and self._doorbell.plan(turn, began_s, idle=idle)
        self._backlog.plan(turn, began_s, claim=not self._is_stopping, look=look)
        if not turn:
            return []
        answer = self._outbox.turn(turn)
        new = self._take_in(turn, answer, began_s)
        if look and self._doorbell.heed(turn, answer, monotonic(), idle=idle and not new):
            self._backlog.look_again()
        if self._doorbell.suspects_company() and self._outbox.somebody_sleeps():
            self._doorbell.sleep_beside(monotonic())
        return answer.claims

    def _take_in(self, turn: Turn, answer: Answer, began_s: float) -> bool:
        """Take the answer to a turn in; return whether it brought anything new to do."""
        now_s = monotonic()
        self._over = []
        self._deadline_s = began_s + self._request_timeout_s
        self._in_flight.update(claim.lane for claim in answer.claims)
        if turn.survey:
            self._survey_at_s = now_s + SURVEY_EVERY_S
            self._take_over_at_s = self._when_overdue(answer.oldest_foreign_claim_s, now_s)
        for conclusion in answer.overtaken:
            self._journal.overtaken(conclusion)
        for note in turn.notes:
            self._journal.noted(note)
        return self._backlog.take_in(turn, answer, began_s, now_s)

    def _send(self, claim: Claim) -> None:
        now = datetime.now(UTC)
        try:
            request = self._profile.request(claim, now)
            flight = Flight(claim, hashlib.sha256(request.body).digest(), now)
            self._wire.start(request, flight, self._deadline_s)
        except Unsendable as error:
            self._conclude(self._judge.unsendable(claim, error))

    def _wait(self) -> None:
        self._wire.run_timers()  # what was started leaves here
        for key, mask in self._selector.select(self._timeout_s(monotonic())):
            key.data(key.fd, mask)
        self._wire.run_timers()

    def _timeout_s(self, now_s: float) -> float | None:
        """Return how long there is nothing to do, None if for ever."""
        wire_s = self._wire.timeout()
        due_s = now_s + wire_s if wire_s is not None else inf
        if not self._connected:
            due_s = min(due_s, self._connect_at_s)
        elif self._over or (self._is_stopping and not self._in_flight):
            return 0.0
        elif not self._is_stopping:
            due_s = min(due_s, self._when_something_is_due(now_s))
        return None if due_s == inf else max(due_s - now_s, 0.0)

    def _when_something_is_due(self, now_s: float) -> float:
        if self._doorbell.rang or not self._backlog.is_idle(now_s):
            return now_s
        return min(
            self._doorbell.next_look_s(), self._backlog.next_wake_s(now_s), self._survey_at_s, self._take_over_at_s
        )

    def _take_over(self, now_s: float) -> None:
        """Conclude the attempts of workers that are gone: they are in doubt."""
        if now_s < self._take_over_at_s or self._is_stopping:
            return
        self._take_over_at_s, self._survey_at_s = inf, now_s
        for claim, claimed_at in self._outbox.take_over(self._request_timeout_s + TAKE_OVER_AFTER_S):
            conclusion = self._judge.gone(claim, claimed_at)
            self._journal.concluded(conclusion, datetime.now(UTC))
            self._over.append(conclusion)

    def _when_overdue(self, age_s: float | None, now_s: float) -> float:
        if age_s is None:
            return inf
        overdue_s = now_s + self._request_timeout_s + TAKE_OVER_AFTER_S - age_s
        return max(overdue_s, self._connected_at_s + SETTLE_AFTER_LOSS_S if self._was_lost else 0.0)

    # The connection to the database: had, lost, had again.

    def _is_connected(self, now_s: float) -> bool:
        if not self._connected and now_s >= self._connect_at_s:
            self._connect(now_s)
        return self._connected

    def _connect(self, now_s: float) -> None:
        unwritten = {conclusion.claim.lane for conclusion in self._over}
        self._outbox.connect(self._in_flight | unwritten)
        self._outbox.enable_routes()
        self._doorbell.works = self._outbox.can_ring()
        self._selector.register(self._outbox, selectors.EVENT_READ, self._hear)
        self._connected, self._connected_at_s, self._connect_tries = True, now_s, 0
        self._journal.database_back()

    def _hear(self, descriptor: int, mask: int) -> None:
        try:
            self._doorbell.rang |= self._outbox.rang()
        except psycopg.OperationalError as error:
            self._lose(error)

    def _lose(self, error: psycopg.Error) -> None:
        if self._connected:
            self._selector.unregister(self._outbox)
            self._backlog.forget(self._in_flight)
            self._doorbell.forget()
            self._was_lost = True
        self._connected = False
        self._outbox.close()
        self._connect_tries += 1
        wait = self._reconnects.wait(self._connect_tries, random())  # noqa: S311  # spreads, guards nothing
        self._connect_at_s = monotonic() + wait.total_seconds()
        self._journal.database_lost(error)

    @property
    def _is_stopping(self) -> bool:
        return self._stop_at_s < inf

    def _is_finished(self) -> bool:
        if not self._is_stopping or self._in_flight:
            return False
        gave_up = not self._connected and monotonic() > self._stop_at_s + STOP_WITHOUT_DATABASE_S
        return not self._over or gave_up
