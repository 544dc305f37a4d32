"""From what was seen of an attempt to what is to be written down of it: classify, decide, put together."""

from __future__ import annotations

from datetime import datetime
from random import random

import msgspec

from outbox_worker.errors import Unsendable
from outbox_worker.inboost.profile import Profile
from outbox_worker.logs import blot
from outbox_worker.records import Claim, Conclusion, Exchange, Outcome
from outbox_worker.rules.outcome import classify, retry_after
from outbox_worker.rules.verdict import Policy, Situation, decide


class Flight(msgspec.Struct, frozen=True):
    """A request on its way."""

    claim: Claim
    digest: bytes  # SHA-256 of its body
    begun_at: datetime


class Judge:
    """Concludes attempts. This is where chance is drawn for the rules.

    Of an answer at most `excerpt_max` bytes are kept.
    """

    def __init__(self, profile: Profile, policy: Policy, excerpt_max: int) -> None:
        self._profile = profile
        self._policy = policy
        self._excerpt_max = excerpt_max

    def answered(self, flight: Flight, exchange: Exchange, now: datetime) -> Conclusion:
        """Conclude an attempt by what was seen on the wire until `now`."""
        claim = flight.claim
        outcome = classify(exchange, claim.purpose, self._profile.operations[claim.operation].meanings)
        situation = self._situation(claim, outcome, flight.begun_at, now, _reason(outcome, exchange), exchange)
        return self._conclusion(situation, exchange, flight.digest)

    def unsendable(self, claim: Claim, error: Unsendable, now: datetime) -> Conclusion:
        """Conclude an attempt for which there is nothing to send."""
        situation = self._situation(claim, Outcome.UNSENDABLE, now, now, str(error), waits=error.waits)
        return self._conclusion(situation)

    def gone(self, claim: Claim, claimed_at: datetime, now: datetime) -> Conclusion:
        """Conclude the attempt of a worker that is gone: it may have been sent, and may have been acted upon."""
        outcome = Outcome.NO_FINDING if claim.purpose == "inquire" else Outcome.IN_DOUBT
        return self._conclusion(
            self._situation(
                claim, outcome, claimed_at, now, "the worker that claimed it is gone, or was stopped for too long"
            )
        )

    def _situation(
        self,
        claim: Claim,
        outcome: Outcome,
        begun_at: datetime,
        now: datetime,
        reason: str,
        exchange: Exchange | None = None,
        *,
        waits: bool = False,
    ) -> Situation:
        return Situation(
            claim=claim,
            outcome=outcome,
            on_doubt=self._profile.operations[claim.operation].on_doubt,
            begun_at=begun_at,
            now=now,
            chance=random(),  # noqa: S311  # spreads retries, guards nothing
            reason=reason,
            waits=waits,
            retry_after=retry_after(exchange.retry_after, now) if exchange else None,
        )

    def _conclusion(
        self, situation: Situation, exchange: Exchange | None = None, digest: bytes | None = None
    ) -> Conclusion:
        verdict = decide(situation, self._policy)
        due_in_s = (verdict.due_at - situation.now).total_seconds() if verdict.due_at else 0.0
        return Conclusion(
            situation.claim,
            situation.outcome,
            verdict,
            exchange,
            digest,
            self._excerpt(exchange),
            max(due_in_s, 0.0),
        )

    def _excerpt(self, exchange: Exchange | None) -> str | None:
        if exchange is None or not exchange.body:
            return None
        text = exchange.body[: self._excerpt_max].decode("utf-8", "replace").replace("\x00", "\ufffd")
        return blot(text)  # some answers repeat what they were sent, a token among it


def _reason(outcome: Outcome, exchange: Exchange) -> str:
    if outcome is Outcome.ACCEPTED:
        return ""
    if exchange.status is not None:
        return f"answered {exchange.status}" + (f" ({exchange.error})" if exchange.error else "")
    return exchange.error or exchange.evidence
