"""What would be sent for an event by the present configuration; never the token, nor the whole address of a hook."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from outbox_worker.cli.masking import Screen, encoded
from outbox_worker.errors import Unsendable
from outbox_worker.inboost.operations import API
from outbox_worker.inboost.profile import Profile
from outbox_worker.records import Claim, Purpose, Request


@dataclass(frozen=True, slots=True)
class Preview:
    """A request, or why there is none (`waits`: a correction of the client can mend it)."""

    operation: str
    destination: str
    request: Request | None
    unsendable: str | None = None
    waits: bool = False

    @property
    def digest(self) -> str | None:
        """SHA-256 of the body, as the journal keeps it, in hexadecimal digits."""
        return None if self.request is None else hashlib.sha256(self.request.body).hexdigest()

    def address(self, screen: Screen) -> str:
        """Return where it goes; of a hook only its host, for the rest is its secret."""
        if self.request is None:
            return ""
        if self.destination == API:
            return screen.text(self.request.url)
        parts = urlsplit(self.request.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/… ({self.destination})"

    def line(self, screen: Screen) -> str:
        """Return it in one line, without its body."""
        if self.request is None:
            return ""
        return f"{self.request.method} {self.address(screen)}, {len(self.request.body):,} B"

    def body(self, screen: Screen) -> str:
        """Return the body, or why there is nothing to send."""
        if self.request is None:
            return f"nothing can be sent now: {self.unsendable}"
        return encoded(screen.value(self.request.body.decode())) if self.request.body else ""

    def as_data(self, screen: Screen) -> dict[str, Any]:
        """Return it for JSON."""
        if self.request is None:
            return {"unsendable": self.unsendable, "waits": self.waits}
        body = self.request.body.decode()
        return {
            "method": self.request.method,
            "address": self.address(screen),
            "body": screen.value(body) if body else None,
            "digest": self.digest,
        }


def preview(
    profile: Profile,
    operation: str,
    destination: str,
    *,
    event_id: str,
    payload: str,
    occurred_at: datetime,
    recorded_at: datetime,
    phone: str | None = None,
) -> Preview:
    """Render the request that would send an event now; `phone` is the one that was chosen for its contact data."""
    claim = Claim(
        claim_id=0,
        lane=0,
        delivery_id=0,
        number=1,
        purpose=Purpose.SEND,
        event_id=event_id,
        operation=operation,
        destination=destination,
        payload=payload,
        occurred_at=occurred_at,
        recorded_at=recorded_at,
        tries=0,
        misses=0,
        phone=phone,
    )
    try:
        return Preview(operation, destination, profile.request(claim, datetime.now(UTC)))
    except Unsendable as error:
        return Preview(operation, destination, None, str(error), error.waits)
