"""Tells the log and the metrics what happened: every fact once, here.

The log has one wide line per attempt. What is an everyday outcome is told at level info, what a person may want to know
at warning, what needs a person at error.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Any

from outbox_worker import metrics
from outbox_worker.database.turns import DestinationNote
from outbox_worker.errors import DatabaseUnavailable, TurnRefused, TurnUndone
from outbox_worker.logs import Level, WideLog
from outbox_worker.records import Action, Conclusion, Outcome

# prometheus_client looks a label set up anew each time, at the price of a log line; the sets are few.
_attempts = cache(metrics.attempts.labels)

LEVELS: dict[Action, Level] = {
    Action.ACKNOWLEDGE: "info",
    Action.RETRY: "warning",
    Action.INQUIRE: "warning",
    Action.WAIT_FOR_CLIENT: "warning",
    Action.HOLD: "error",
    Action.DEAD_LETTER: "error",
}


class Journal:
    """Writes to structlog and to the Prometheus registry. `worker` names this process in every line."""

    def __init__(self, worker: str) -> None:
        self._log = WideLog("outbox_worker.relay", worker=worker)
        self._database_is_lost = False

    def concluded(self, conclusion: Conclusion, now: datetime) -> None:
        """One attempt: one line, one count."""
        claim, verdict, exchange = conclusion.claim, conclusion.verdict, conclusion.exchange
        _attempts(claim.operation, claim.purpose, conclusion.outcome, verdict.action).inc()
        line: dict[str, Any] = {
            "event_id": claim.event_id,
            "operation": claim.operation,
            "destination": claim.destination,
            "number": claim.number,
            "purpose": claim.purpose,
            "outcome": conclusion.outcome,
            "verdict": verdict.action,
        }
        if exchange is not None:
            metrics.request_seconds.observe(claim.operation, exchange.took_us / 1e6)
            line["status"] = exchange.status
            line["evidence"] = exchange.evidence
            line["took_us"] = exchange.took_us
        if verdict.action is Action.ACKNOWLEDGE:
            lag_s = (now - claim.recorded_at).total_seconds()
            metrics.delivered_seconds.observe(claim.operation, lag_s)
            line["lag_ms"] = round(lag_s * 1000, 1)
        if verdict.reason:
            line["reason"] = verdict.reason
        if verdict.due_at is not None:
            line["due_in_s"] = round(conclusion.due_in_s, 3)
        level: Level = "warning" if conclusion.outcome is Outcome.DUPLICATE else LEVELS[verdict.action]
        self._log.write(level, "attempt", line, now)

    def round_over(self) -> None:
        """Nothing more happens for now: let the lines out."""
        self._log.flush()

    def overtaken(self, conclusion: Conclusion) -> None:
        """A conclusion that came too late."""
        claim = conclusion.claim
        metrics.overtaken.labels(claim.operation).inc()
        self._say(
            "warning",
            "overtaken",
            event_id=claim.event_id,
            operation=claim.operation,
            number=claim.number,
            outcome=conclusion.outcome,
            reason="the claim is not ours any more: concluded before, or taken over; nothing was changed",
        )

    def noted(self, note: DestinationNote) -> None:
        """A destination that fails, is well again, or had to be paused."""
        if note.pause_reason is not None:
            metrics.destination_pauses.labels(note.destination).inc()
            self._say("error", "destination paused", destination=note.destination, reason=note.pause_reason)
        elif note.well:
            self._say("info", "destination well again", destination=note.destination)
        else:
            rest_s = round(max(note.rest_s, note.backoff_s), 3)
            self._say("warning", "destination failed", destination=note.destination, rest_s=rest_s)

    def woken(self, cause: str) -> None:
        """The idle relay looks for work."""
        metrics.wake_ups.labels(cause).inc()

    def unclaimed(self, number: int) -> None:
        """So many deliveries were to be claimed and were not."""
        metrics.claim_conflicts.inc(number)

    def database_lost(self, error: DatabaseUnavailable) -> None:
        """The connection is gone, or still cannot be had."""
        metrics.database_losses.inc()
        metrics.database_up.set(0)
        level: Level = "info" if self._database_is_lost else "error"
        self._say(level, "database lost", error=str(error), remedy="nothing: the worker connects again by itself")
        self._database_is_lost = True

    def turn_refused(self, error: TurnRefused) -> None:
        """The database has something against what it was asked, and nothing of it was done."""
        metrics.turns_refused.inc()
        self._say(
            "error",
            "turn refused",
            error=str(error),
            remedy="see what the error names (a right, a trigger, a column); the worker tries again, and restarts",
        )

    def turn_undone(self, error: TurnUndone) -> None:
        """The database undid a turn, mostly to break a deadlock; the worker makes it again."""
        metrics.turns_undone.inc()
        self._say("warning", "turn undone", error=str(error), remedy="nothing: the worker makes it again by itself")

    def database_back(self) -> None:
        """The connection is there."""
        metrics.database_up.set(1)
        if self._database_is_lost:
            self._say("info", "database back")
        self._database_is_lost = False

    def _say(self, level: Level, event: str, **line: Any) -> None:
        self._log.write(level, event, line, datetime.now(UTC))
