"""The relay: one thread, one connection, one loop.

    while running:
        conclude what is over, claim what there is room for, look for more      one transaction, one round trip: a turn
        send what was claimed                                                   many in flight, no threads
        wait for an answer, the doorbell, a timer, or a stop                    one selector

The turn does not wait for the database any more than a request waits for InBoost: while one turn is under way,
transfers go on, and what they bring is for the next turn.

A claim is committed before its request leaves, and only what will leave at once is claimed; so a crash leaves in doubt
exactly what may have been sent. No HTTP while a transaction is open. A round sends a part of what was claimed, so that
PostgreSQL is at the next turn while the rest leaves; with many requests on their way one turn serves many answers.

When the database is lost, nothing new is sent; what is in flight is awaited, and its conclusions are kept until they
can be written. Whatever was read before is read again. A turn that the database undid for another session's sake (a
deadlock) is no loss: the same turn is made again.
"""

from __future__ import annotations

import hashlib
import selectors
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import inf
from time import monotonic

from outbox_worker.database.outbox import Outbox
from outbox_worker.database.turns import Answer, Turn
from outbox_worker.errors import DatabaseUnavailable, TurnUndone, Unsendable
from outbox_worker.inboost.profile import Profile
from outbox_worker.inboost.wire import Wire
from outbox_worker.records import Claim, Conclusion
from outbox_worker.runtime.backlog import Backlog
from outbox_worker.runtime.connection import Connection
from outbox_worker.runtime.doorbell import Doorbell
from outbox_worker.runtime.journal import Journal
from outbox_worker.runtime.judge import Flight, Judge

TAKE_OVER_AFTER_S = 1.0  # beyond the request time-out
WAIT_MAX_S = 10.0  # the loop shows that it is alive at least so often
SURVEY_EVERY_S = 2.0  # at most; with nothing else to ask, it waits for the slow poll, and for this much longer at most:
SURVEY_PATIENCE_S = 4.0  # a claim is overdue after the request time-out, and until then nothing is missed
SETTLE_AFTER_LOSS_S = 2.0  # after a lost connection, others may be about to conclude what is theirs
TURN_MAX_S = 70.0  # beyond the statement time-out: the server hangs, or the way to it was cut without a word
STOP_WITHOUT_DATABASE_S = 5.0  # how long a stop waits for a database to write its last conclusions to
UNDONE_MAX = 5  # times in a row that a turn is made again at once; then it is as if the database were lost
STOP_LOOK_S = 0.5  # how often a stop looks whether it waits in vain
SEND_MAX = 32  # requests that one round sends: meanwhile answers to earlier ones come, and a turn is under way
GATHER_MAX = 32  # with more requests on their way than this, a turn waits for as many conclusions,
GATHER_S = 0.004  # or until the one before began so long ago: a transaction for each answer is a burden on accounting


@dataclass(frozen=True, slots=True)
class Asked:
    """A turn under way: when it began, and what was true then."""

    turn: Turn
    began_s: float
    idle: bool  # nothing that was known could be done
    looks: bool
    undone_count: int = 0


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
        self._connection = Connection(outbox, selector, journal, hear=self._hear, known=self._known_claims)
        self._answered = False  # a turn, since connecting
        self._caught_up = False  # with what dead workers left, once
        self._over: list[Conclusion] = []  # concluded, not yet written down
        self._in_flight: dict[int, int] = {}  # lanes and their claims
        self._unsent: deque[tuple[Claim, float]] = deque()  # of these, what is about to be sent, and its deadline
        self._survey_at_s = 0.0  # when to look for the claims of other workers
        self._take_over_at_s = inf  # when the oldest of them is overdue
        self._stop_at_s = inf
        self._asked: Asked | None = None  # the turn under way
        self._began_s = 0.0  # when the last turn began
        self._at_ring: Turn | None = None  # what is asked first when it rings
        self._brought_by_ring = False  # something new
        self.progress_s = monotonic()

    def run(self, after_round: Callable[[], None] = lambda: None) -> None:
        """Deliver until `stop`; then finish what is in flight and write it down."""
        while not self._is_finished():
            self.run_once()
            after_round()
        self._journal.round_over()
        self._connection.close()
        self._wire.close()

    def stop(self) -> None:
        """Claim nothing more."""
        self._stop_at_s = min(self._stop_at_s, monotonic())

    def adopt(self, profile: Profile, judge: Judge) -> None:
        """Send and judge by these from now on. To be called between two rounds."""
        self._profile, self._judge = profile, judge

    @property
    def is_ready(self) -> bool:
        """Whether the database answers turns, and what dead workers had left at the start is taken over."""
        return self._connection.is_up and self._answered and self._caught_up

    @property
    def is_idle(self) -> bool:
        """Whether the database has said what waits, and nothing that is known could be done now."""
        return self.is_ready and not self._in_flight and self._backlog.is_idle(monotonic())

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stop_at_s < inf

    def run_once(self) -> None:
        """Make one round: what is over, a turn with the database, a wait for whatever comes first.

        Raises TurnRefused when the database has refused again and again what it is asked, SchemaMismatch when the
        schema is not ours.
        """
        if self._connection.given_up is not None:
            raise self._connection.given_up
        try:
            self._conclude_finished()
            self._begin_turn(monotonic())
        except DatabaseUnavailable as error:
            self._lose(error)
        self._send_claimed()
        self._journal.round_over()
        self._prepare_for_ring(monotonic())
        self._wait()
        self.progress_s = monotonic()

    # What happened → what to do → to be written down.

    def _conclude_finished(self) -> None:
        now, now_s = datetime.now(UTC), monotonic()
        for flight, exchange in self._wire.finished():
            self._conclude(self._judge.answered(flight, exchange, now), now, now_s)

    def _conclude(self, conclusion: Conclusion, now: datetime, now_s: float) -> None:
        self._in_flight.pop(conclusion.claim.lane, None)
        self._backlog.move_on(conclusion, now_s)
        self._journal.concluded(conclusion, now)
        self._over.append(conclusion)

    # A turn with the database.

    def _begin_turn(self, now_s: float) -> None:
        if self._asked is not None and now_s > self._asked.began_s + TURN_MAX_S:
            raise DatabaseUnavailable(f"no answer for {TURN_MAX_S:.0f} s")
        if self._asked is not None or not self._is_connected(now_s) or self._is_gathering(now_s):
            return
        self._take_over(now_s)
        turn = Turn(conclusions=self._over, survey_but=self._known_lanes() if now_s >= self._survey_at_s else None)
        idle = self._backlog.is_idle(now_s)
        looks = not self.is_stopping and self._doorbell.plan(turn, now_s, rang=self._outbox.rang, idle=idle)
        expects_nothing = idle and self._doorbell.armed and not self._outbox.rang  # the slow poll, a safety net
        self._backlog.plan(turn, now_s, claim=not self.is_stopping, look=looks, claim_found=not expects_nothing)
        if not turn:
            return
        if looks and (self._outbox.rang or (idle and not turn.arm)):
            self._journal.woken("doorbell" if self._outbox.rang else "poll")
        self._over, self._outbox.rang = [], False
        self._begin(Asked(turn, now_s, idle, looks))
        self._hear()

    def _begin(self, asked: Asked) -> None:
        self._at_ring = None  # it would be of an older day
        self._asked, self._began_s = asked, asked.began_s
        self._outbox.begin(asked.turn)

    def _prepare_for_ring(self, now_s: float) -> None:
        """Write down before falling asleep what is asked first when it rings: what is new is claimed by then."""
        if self._at_ring is None and self._asked is None and self._doorbell.armed and self._backlog.is_idle(now_s):
            self._at_ring = Turn(at_ring=True, fresh=self._backlog.fresh(now_s))
            self._outbox.prepare(self._at_ring)

    def _heed_ring(self) -> None:
        """Claim what is new at once. The ring is not answered by this: the next turn looks as it would have without."""
        may_claim = self._at_ring is not None and self._at_ring.fresh and self._asked is None and not self.is_stopping
        if self._outbox.rang and self._at_ring is not None and may_claim:
            self._begin(Asked(self._at_ring, monotonic(), idle=True, looks=False))

    def _is_gathering(self, now_s: float) -> bool:
        """Tell whether a turn is to wait for more that is over, as more soon will be."""
        is_busy = len(self._in_flight) > GATHER_MAX > len(self._over)
        return is_busy and now_s < self._began_s + GATHER_S

    def _hear(self, *_event: int) -> None:
        """Read what the database says: the answer to the turn, a ring, or nothing more, ever."""
        try:
            answer = self._outbox.answer()
            if answer is not None and self._asked is not None:
                asked, self._asked = self._asked, None
                self._take_in(asked, answer, monotonic())
            self._heed_ring()
        except TurnUndone as error:
            self._ask_again(error)
        except DatabaseUnavailable as error:
            self._lose(error)

    def _ask_again(self, error: TurnUndone) -> None:
        """Make an undone turn again: all that it says still holds. Every deadlock has waited before it is found."""
        if self._asked is None or self._asked.undone_count >= UNDONE_MAX:
            return self._lose(error)
        self._journal.turn_undone(error)
        self._asked = replace(self._asked, began_s=monotonic(), undone_count=self._asked.undone_count + 1)
        try:
            self._outbox.begin_again(self._asked.turn)
        except DatabaseUnavailable as lost:
            self._lose(lost)

    def _take_in(self, asked: Asked, answer: Answer, now_s: float) -> None:
        turn = asked.turn
        self._answered = True
        self._in_flight.update((claim.lane, claim.claim_id) for claim in answer.claims)
        new = self._backlog.take_in(turn, answer, asked.began_s, now_s)
        if self._backlog.unclaimed_count:
            self._journal.unclaimed(self._backlog.unclaimed_count)
        deadline_s = asked.began_s + self._request_timeout_s
        self._unsent.extend((claim, deadline_s) for claim in answer.claims)
        if len(self._over) < GATHER_MAX:  # or the next turn goes first, and they leave while PostgreSQL is at it
            self._send_claimed()
        if turn.at_ring:
            self._brought_by_ring = bool(answer.claims)
        if asked.looks:
            brought, self._brought_by_ring = new or self._brought_by_ring, False
            if self._doorbell.heed(turn, answer, now_s, idle=asked.idle and not brought):
                self._backlog.look_again()
        if turn.survey_but is not None:
            self._plan_take_over(answer.oldest_foreign_claim_s, now_s)
        for conclusion in answer.overtaken:
            self._journal.overtaken(conclusion)
        for note in turn.notes:
            self._journal.noted(note)
        if self._doorbell.suspects_company() and self._outbox.somebody_sleeps():
            self._doorbell.sleep_beside(now_s)

    def _send_claimed(self) -> None:
        now = datetime.now(UTC)
        for _ in range(min(len(self._unsent), SEND_MAX)):
            self._send(*self._unsent.popleft(), now)

    def _send(self, claim: Claim, deadline_s: float, now: datetime) -> None:
        try:
            request = self._profile.request(claim, now)
            flight = Flight(claim, hashlib.sha256(request.body).digest(), now)
            self._wire.start(request, flight, deadline_s)
        except Unsendable as error:
            self._conclude(self._judge.unsendable(claim, error, now), now, monotonic())

    # Whatever comes first.

    def _wait(self) -> None:
        self._wire.run_timers()  # what was started leaves here
        for key, mask in self._selector.select(self._timeout_s(monotonic())):
            key.data(key.fd, mask)
        self._wire.run_timers()

    def _timeout_s(self, now_s: float) -> float:
        """Return how long there is nothing to do."""
        if self._unsent or self._is_finished():
            return 0.0
        wire_s, wait_s = self._wire.timeout(), STOP_LOOK_S if self.is_stopping else WAIT_MAX_S
        due_s = now_s + (wait_s if wire_s is None else min(wire_s, wait_s))
        if not self._connection.is_up:
            due_s = min(due_s, self._connection.try_at_s)
        elif self._asked is None:
            turn_s = self._began_s + GATHER_S if self._is_gathering(now_s) else self._when_a_turn_is_due(now_s)
            due_s = min(due_s, turn_s)
        return max(due_s - now_s, 0.0)

    def _when_a_turn_is_due(self, now_s: float) -> float:
        if self._over:
            return now_s
        if self.is_stopping:
            return inf  # whatever is in flight comes first
        if self._outbox.rang or not self._backlog.is_idle(now_s):
            return now_s
        return min(
            self._doorbell.next_look_s(),
            self._backlog.next_wake_s(now_s),
            self._survey_at_s + min(SURVEY_PATIENCE_S, self._request_timeout_s / 2),
            self._take_over_at_s,
        )

    # Workers that are gone.

    def _take_over(self, now_s: float) -> None:
        """Conclude the attempts of workers that are gone: they are in doubt."""
        if now_s < self._take_over_at_s or self.is_stopping:
            return
        self._take_over_at_s = inf
        overdue = self._outbox.take_over(self._request_timeout_s + TAKE_OVER_AFTER_S, self._known_lanes())
        if overdue:
            self._survey_at_s = now_s  # there may be more
        now = datetime.now(UTC)
        for claim, claimed_at in overdue:
            conclusion = self._judge.gone(claim, claimed_at, now)
            self._journal.concluded(conclusion, now)
            self._over.append(conclusion)

    def _plan_take_over(self, age_s: float | None, now_s: float) -> None:
        self._survey_at_s = now_s + SURVEY_EVERY_S
        self._take_over_at_s = inf
        if age_s is not None:
            overdue_s = now_s + self._request_timeout_s + TAKE_OVER_AFTER_S - age_s
            was_lost = self._connection.lost_at_s > 0
            self._take_over_at_s = max(overdue_s, self._connection.up_since_s + SETTLE_AFTER_LOSS_S if was_lost else 0)
        self._caught_up = self._caught_up or self._take_over_at_s > now_s

    def _known_lanes(self) -> list[int]:
        """Return the lanes of the claims that this worker knows of: on their way, or over and not yet written down."""
        return [*self._in_flight, *(conclusion.claim.lane for conclusion in self._over)]

    # The connection to the database.

    def _is_connected(self, now_s: float) -> bool:
        if self._connection.comes_up(now_s):
            self._doorbell.works = self._outbox.can_ring()
        return self._connection.is_up

    def _known_claims(self) -> list[int]:
        return [*self._in_flight.values(), *(conclusion.claim.claim_id for conclusion in self._over)]

    def _lose(self, error: DatabaseUnavailable) -> None:
        """Keep what is over for later; forget what was read."""
        if self._asked is not None:
            self._over = self._asked.turn.conclusions + self._over
            self._asked = None
        for claim, _ in self._unsent:  # the next connection releases them, as claims that nobody knows of
            del self._in_flight[claim.lane]
            self._backlog.abandon(claim)
        self._unsent.clear()
        self._at_ring, self._brought_by_ring = None, False
        self._backlog.forget(set(self._in_flight))
        self._doorbell.forget()
        self._answered = False
        self._connection.lose(error)

    def _is_finished(self) -> bool:
        if not self.is_stopping or self._in_flight:
            return False
        return self._waits_in_vain() or not (self._over or self._asked)

    def _waits_in_vain(self) -> bool:
        """Tell whether a stop has waited long enough for a database that does not answer."""
        if self._connection.is_up and self._asked is None:
            return False
        since_s = self._asked.began_s if self._asked else self._connection.lost_at_s
        return monotonic() > max(since_s, self._stop_at_s) + STOP_WITHOUT_DATABASE_S
