"""What becomes of a delivery, given what is known after an attempt. Pure: clock and chance come as arguments.

The table of `inboost.md`, "What an answer means", in its last column. An attempt that provably never left, and one that
the destination asked to be made later, is not charged to the delivery: it is the destination that rests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from outbox_worker.records import Action, Claim, OnDoubt, Outcome, Purpose, Standing, Verdict
from outbox_worker.rules.schedule import Timetable

MISSES_NEEDED = 2  # look-ups that must fail to find a delivery before it is believed not to be there
PUT_OFF_MAX = timedelta(minutes=1)  # between attempts that the destination puts off without saying until when


@dataclass(frozen=True, slots=True)
class Policy:
    """What the configuration says about trying again.

    `settle` is how long a request may still be acted upon after it began: the request time-out. A look-up before
    that would prove nothing.
    """

    timetable: Timetable
    settle: timedelta


class Situation(msgspec.Struct, frozen=True):
    """All that a verdict depends on."""

    claim: Claim
    outcome: Outcome
    on_doubt: OnDoubt
    begun_at: datetime
    now: datetime
    chance: float
    reason: str = ""
    waits: bool = False  # with UNSENDABLE: a correction of the client can mend it
    retry_after: datetime | None = None  # when the destination asked to be tried again


def decide(situation: Situation, policy: Policy) -> Verdict:
    """Return the verdict on an attempt."""
    return _RULES[situation.outcome](situation, policy)


_ACKNOWLEDGED = Verdict(Action.ACKNOWLEDGE, standing=Standing.WELL)


def _acknowledge(situation: Situation, policy: Policy) -> Verdict:
    return _ACKNOWLEDGED


def _not_sent(situation: Situation, policy: Policy) -> Verdict:
    return Verdict(
        _again(situation.claim),
        situation.now + policy.timetable.wait(1, situation.chance),
        standing=Standing.ILL,
        reason=situation.reason,
    )


def _try_later(situation: Situation, policy: Policy) -> Verdict:
    # Not charged, yet growing: one delivery that is put off for ever must not be asked about every second for ever.
    wait = min(policy.timetable.wait(situation.claim.number, situation.chance), PUT_OFF_MAX)
    return Verdict(
        _again(situation.claim),
        situation.retry_after or situation.now + wait,
        standing=Standing.ILL,
        rest_s=max((situation.retry_after - situation.now).total_seconds(), 0.0) if situation.retry_after else 0.0,
        reason=situation.reason,
    )


def _close(situation: Situation, policy: Policy) -> Verdict:
    return Verdict(_again(situation.claim), situation.now, standing=Standing.CLOSED, reason=situation.reason)


def _wait_for_client(situation: Situation, policy: Policy) -> Verdict:
    return Verdict(Action.WAIT_FOR_CLIENT, standing=Standing.WELL, reason=situation.reason)


def _reject(situation: Situation, policy: Policy) -> Verdict:
    return Verdict(Action.DEAD_LETTER, counts=True, standing=Standing.WELL, reason=situation.reason)


def _unsendable(situation: Situation, policy: Policy) -> Verdict:
    if situation.claim.purpose is Purpose.INQUIRE:
        return _hold(situation, "in doubt, and cannot be looked up", Standing.UNSAID)
    action = Action.WAIT_FOR_CLIENT if situation.waits else Action.DEAD_LETTER
    return Verdict(action, counts=True, reason=situation.reason)


def _doubt(situation: Situation, policy: Policy) -> Verdict:
    if situation.on_doubt is OnDoubt.LOOKUP:
        # Never later than the settle time from now: the clock may have been set since, and a claim that was taken over
        # bears the time of another clock.
        due_at = min(max(situation.begun_at + policy.settle, situation.now), situation.now + policy.settle)
        return Verdict(Action.INQUIRE, due_at, counts=True, standing=Standing.ILL, reason=situation.reason)
    if situation.on_doubt is OnDoubt.RESEND:
        return _charged(situation, policy, Action.RETRY)
    return _hold(situation, "in doubt, and nobody can be asked")


def _not_found(situation: Situation, policy: Policy) -> Verdict:
    if situation.claim.misses + 1 < MISSES_NEEDED:
        return Verdict(
            Action.INQUIRE, situation.now + policy.settle, standing=Standing.WELL, reason="not found by one look-up"
        )
    return Verdict(Action.RETRY, situation.now, standing=Standing.WELL, reason="not found: sent again")


def _no_finding(situation: Situation, policy: Policy) -> Verdict:
    return _charged(situation, policy, Action.INQUIRE)


def _charged(situation: Situation, policy: Policy, action: Action) -> Verdict:
    """Try again by the timetable; when that is spent, hold: the delivery is in doubt and nobody is left to ask."""
    try_number = situation.claim.tries + 1
    if policy.timetable.is_spent(try_number):
        return _hold(situation, f"in doubt after {try_number} tries")
    due_at = situation.now + policy.timetable.wait(try_number, situation.chance)
    return Verdict(action, due_at, counts=True, standing=Standing.ILL, reason=situation.reason)


def _hold(situation: Situation, why: str, standing: Standing = Standing.ILL) -> Verdict:
    # Ill, for a hook that hangs must be left alone: each further request to it is one more for a person to resolve.
    return Verdict(Action.HOLD, counts=True, standing=standing, reason=f"{why}: {situation.reason}")


def _again(claim: Claim) -> Action:
    return Action.INQUIRE if claim.purpose is Purpose.INQUIRE else Action.RETRY


_RULES: dict[Outcome, Callable[[Situation, Policy], Verdict]] = {
    Outcome.ACCEPTED: _acknowledge,
    Outcome.DUPLICATE: _acknowledge,
    Outcome.FOUND: _acknowledge,
    Outcome.NOT_SENT: _not_sent,
    Outcome.TRY_LATER: _try_later,
    Outcome.CREDENTIALS: _close,
    Outcome.MISDIRECTED: _close,
    Outcome.UNKNOWN_CLIENT: _wait_for_client,
    Outcome.REJECTED: _reject,
    Outcome.UNSENDABLE: _unsendable,
    Outcome.IN_DOUBT: _doubt,
    Outcome.NOT_FOUND: _not_found,
    Outcome.NO_FINDING: _no_finding,
}
