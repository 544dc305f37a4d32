"""Rows as the world would have left them: events by the one door, deliveries and attempts as the relay writes them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg

WORKER = UUID("0b0b0b0b-0000-4000-8000-000000000001")
PHONE = "+380501234567"
PURCHASE = (
    '{"purchase_id": "%s", "purchased_at": "2026-03-01T12:00:00+02:00", "phone": "+380501234567", "total": 1234.50,'
    ' "currency": "UAH", "bonus_accrued": 12.30, "bonus_redeemed": 0.00, "lines": [{"sku": "A-1", "name": "Tea",'
    ' "quantity": 2.000, "price": 617.25, "amount": 1234.50}]}'
)


class Rows:
    """Writes and reads rows of one database; each call is a transaction of its own."""

    def __init__(self, session: psycopg.Connection[Any]) -> None:
        self._session = session

    def purchase(
        self, number: int | str, customer: str | None = "7", *, payload: str | None = None, historic: bool = False
    ) -> str:
        """Record a purchase, and return its event id."""
        said = PURCHASE % number if payload is None else payload
        self.do(
            "select outbox.record_event('purchase', %s, %s, %s::json, now(), %s)", str(number), customer, said, historic
        )
        return f"purchase:{number}"

    def claimed(self, event_id: str, operation: str = "add_purchase", purpose: str = "send") -> None:
        """Let a worker have claimed a delivery."""
        self.do(
            "insert into outbox.claim (lane, delivery_id, number, purpose, worker)"
            " select lane, delivery_id, attempt_count + 1, %s, %s from outbox.delivery"
            " where event_id = %s and operation = %s",
            purpose,
            WORKER,
            event_id,
            operation,
        )

    def delivered(self, event_id: str, operation: str = "add_purchase", excerpt: str = '{"ok":true}') -> None:
        self.attempt(event_id, operation, "accepted", "acknowledge", status=200, excerpt=excerpt)
        self.do("delete from outbox.delivery where event_id = %s and operation = %s", event_id, operation)

    def held(self, event_id: str, operation: str = "purchase_webhook") -> None:
        reason = "in doubt, and nobody can be asked: Operation timed out"
        self.attempt(event_id, operation, "in_doubt", "hold", evidence="no_answer", reason=reason)
        self.move(event_id, operation, "held", reason)

    def in_doubt(self, event_id: str, operation: str = "add_purchase", due_in_s: float = 600) -> None:
        self.attempt(event_id, operation, "in_doubt", "inquire", evidence="no_answer", reason="Empty reply from server")
        self.move(event_id, operation, "in_doubt", "Empty reply from server", due_in_s)

    def dead(self, event_id: str, operation: str = "add_purchase", excerpt: str = '{"error":"bad_total"}') -> None:
        self.attempt(event_id, operation, "rejected", "dead_letter", status=422, reason="answered 422", excerpt=excerpt)
        self.move(event_id, operation, "dead", "answered 422")

    def waiting(self, event_id: str, operation: str = "add_purchase") -> None:
        self.attempt(event_id, operation, "unknown_client", "wait_for_client", status=404, reason="answered 404")
        self.move(event_id, operation, "waiting", "answered 404")

    def retried(self, event_id: str, operation: str = "add_purchase", due_in_s: float = 600) -> None:
        self.attempt(event_id, operation, "try_later", "retry", status=503, reason="answered 503")
        self.move(event_id, operation, "pending", "answered 503", due_in_s)

    def following(self, event_id: str, operation: str = "add_purchase", behind: str = "is dead") -> None:
        """Let the relay have made a delivery wait behind another."""
        self.do(
            "update outbox.delivery set state = 'waiting', reason = %s where event_id = %s and operation = %s",
            f"behind a delivery that {behind}",
            event_id,
            operation,
        )

    def attempt(
        self,
        event_id: str,
        operation: str,
        outcome: str,
        verdict: str,
        *,
        status: int | None = None,
        evidence: str = "answered",
        reason: str | None = None,
        excerpt: str | None = None,
        purpose: str = "send",
        digest: str | None = None,
    ) -> None:
        """Write the next attempt into the journal, and end its claim."""
        self.do(
            "insert into outbox.attempt (event_id, operation, number, purpose, worker, begun_at, took_us, outcome,"
            " evidence, status, verdict, reason, digest, excerpt)"
            " select event_id, operation, attempt_count + 1, %s, %s, clock_timestamp(), 12345, %s, %s, %s, %s, %s,"
            " decode(%s, 'hex'), %s from outbox.delivery where event_id = %s and operation = %s",
            *(purpose, WORKER, outcome, evidence, status, verdict, reason, digest, excerpt, event_id, operation),
        )
        self.do(
            "delete from outbox.claim using outbox.delivery where claim.lane = delivery.lane"
            " and claim.delivery_id = delivery.delivery_id and event_id = %s and operation = %s",
            event_id,
            operation,
        )

    def move(self, event_id: str, operation: str, state: str, reason: str | None, due_in_s: float = 0) -> None:
        """Bring a delivery into a state, as the conclusion of an attempt does."""
        self.do(
            "update outbox.delivery set state = %s, reason = %s, attempt_count = attempt_count + 1,"
            " try_count = try_count + 1, due_at = clock_timestamp() + make_interval(secs => %s)"
            " where event_id = %s and operation = %s",
            *(state, reason, due_in_s, event_id, operation),
        )

    def of(self, event_id: str, operation: str = "add_purchase") -> dict[str, Any]:
        """Return a delivery's row, empty when there is none."""
        cursor = self._session.execute(
            "select state, reason, attempt_count, try_count, miss_count, due_at <= clock_timestamp() as is_due"
            " from outbox.delivery where event_id = %s and operation = %s",
            [event_id, operation],
        )
        row = cursor.fetchone()
        return {} if row is None else dict(zip([it.name for it in cursor.description or ()], row, strict=True))

    def state(self, event_id: str, operation: str = "add_purchase") -> str | None:
        return self.of(event_id, operation).get("state")

    def acts(self) -> list[tuple[Any, ...]]:
        """Return what people did."""
        return self.all("select act, event_id, operation, destination, actor, reason from outbox.act order by act_id")

    def all(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self._session.execute(statement, parameters).fetchall()

    def do(self, statement: str, *parameters: Any) -> None:
        self._session.execute(statement, parameters)
