"""When the relay may sleep, and what wakes it. The writers' half is `sql/install/ring_doorbell.sql`.

    awake ──nothing to do: take the lock, look once more──▶ armed ──it rings: let the lock go, look──▶ awake

Armed, every writer rings. Awake, no writer does, and the relay looks in every round. The lock is refused while a writer
is under way that has not rung: the relay then looks again soon, at growing waits. It is also refused while another
relay sleeps with it: then every writer rings, and that wakes this one too. Armed or not, a slow poll is the safety net.
"""

from __future__ import annotations

from outbox_worker.database.turns import Answer, Turn

REFUSED_FIRST_S = 0.001
REFUSED_LONGEST_S = 0.02
REFUSED_LONG_S = 2.0  # a writer under way for so long may have ids far behind what was seen
SUSPICION = 8  # refusals in a row, after which another sleeper is looked for
BESIDE_S = 1.0  # poll of a relay that sleeps beside another


class Doorbell:
    """The state of the bell, and when to look without it."""

    def __init__(self, poll_s: float, silent_poll_s: float) -> None:
        self.armed = False
        self._woken = False  # the turn under way is the answer to a ring
        self.works = True  # false where transactions can be prepared: the writers' half is silent there
        self._poll_s = poll_s
        self._silent_poll_s = silent_poll_s
        self._refusals = 0
        self._refused_since_s: float | None = None
        self._look_at_s = 0.0

    def forget(self) -> None:
        """The connection was lost, and the lock with it."""
        self.armed = self._woken = False
        self._refusals, self._refused_since_s, self._look_at_s = 0, None, 0.0

    def plan(self, turn: Turn, now_s: float, *, rang: bool, idle: bool) -> bool:
        """Ask for the lock, or let it go, in this turn; return whether the turn is to look for deliveries."""
        self._woken = rang
        if self._woken:
            turn.disarm = self.armed
            return True
        if now_s < self._look_at_s and idle:
            return False
        turn.arm = idle and not self.armed and self.works
        return True

    def heed(self, turn: Turn, answer: Answer, now_s: float, *, idle: bool) -> bool:
        """Take note of how a turn that looked ended; return whether a full look is due before sleeping."""
        if turn.disarm:
            self.armed = False
        if turn.arm:
            return self._heed_arming(answer.armed, now_s)
        self._look_at_s = now_s + self._wait_s() if idle and (self.armed or not self.works) else 0.0
        return self._woken and idle

    def suspects_company(self) -> bool:
        """Tell whether it is worth asking if another relay sleeps with the lock."""
        return self._refusals > 0 and self._refusals % SUSPICION == 0

    def sleep_beside(self, now_s: float) -> None:
        """Another relay sleeps with the lock, so that writers ring: sleep too, and ask again at the next refusal."""
        self._refusals = SUSPICION - 1
        self._look_at_s = now_s + BESIDE_S

    def next_look_s(self) -> float:
        """Return when to look again even if nothing rings."""
        return self._look_at_s

    def _heed_arming(self, armed: bool, now_s: float) -> bool:
        self.armed = armed
        if not armed:
            self._refusals += 1
            self._refused_since_s = self._refused_since_s or now_s
            self._look_at_s = now_s + min(REFUSED_FIRST_S * 2 ** min(self._refusals, 10), REFUSED_LONGEST_S)
            return False
        refused_long = self._refused_since_s is not None and now_s - self._refused_since_s > REFUSED_LONG_S
        self._refusals, self._refused_since_s = 0, None
        self._look_at_s = now_s + self._poll_s
        return refused_long

    def _wait_s(self) -> float:
        return self._poll_s if self.works else self._silent_poll_s
