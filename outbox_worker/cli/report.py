"""What came of a settling command: for a person, for a script, and as an exit status."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from outbox_worker.cli import output
from outbox_worker.database.deliveries import Delivery
from outbox_worker.database.settling import Settled
from outbox_worker.errors import BeingSent, NothingMatched

SHOWN = 20  # deliveries named one by one on the screen

DONE = {"confirm": "confirmed", "resend": "to be sent again", "requeue": "requeued", "discard": "discarded"}


@dataclass(slots=True)
class Report:
    """Each delivery with its outcome; `not_found` are events that were named and have no such delivery."""

    act: str
    dry_run: bool
    outcomes: list[tuple[Delivery, str]] = field(default_factory=list)
    not_found: list[str] = field(default_factory=list)
    released_count: int = 0

    def add(self, settled: Settled) -> None:
        """Take in what came of one transaction."""
        self.outcomes += [(it, "done") for it in settled.done]
        self.outcomes += [(it, "being_sent") for it in settled.busy]
        self.outcomes += [(it, "changed") for it in settled.changed]
        self.released_count += settled.released_count

    def of(self, outcome: str) -> list[Delivery]:
        """Return the deliveries that this became of."""
        return [it for it, what in self.outcomes if what == outcome]

    def show(self) -> None:
        """Write it for people."""
        said = {
            "done": DONE[self.act],
            "would_be_done": f"would be {DONE[self.act]}",
            "being_sent": "is being sent, left alone",
            "changed": "has changed meanwhile, left alone",
        }
        for delivery, outcome in self.outcomes[:SHOWN]:
            output.show(f"{delivery.event_id} {delivery.operation}: {said[outcome]}")
        if len(self.outcomes) > SHOWN:
            counts = (f"{len(self.of(outcome)):,} {words}" for outcome, words in said.items() if self.of(outcome))
            output.show(f"… in all: {', '.join(counts)}")
        if self.released_count:
            output.show(f"{output.counted(self.released_count, 'delivery', 'deliveries')} that waited behind: released")

    def as_data(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "act": self.act,
            "dry_run": self.dry_run,
            "released_count": self.released_count,
            "not_found": self.not_found,
            "deliveries": [
                {
                    "event_id": it.event_id,
                    "operation": it.operation,
                    "destination": it.destination,
                    "customer_id": it.customer_id,
                    "state": it.state,
                    "outcome": outcome,
                }
                for it, outcome in self.outcomes
            ],
        }

    def raise_for_status(self) -> None:
        """Raise NothingMatched or BeingSent unless all that was asked for was done."""
        if self.not_found or not self.outcomes:
            named = ", ".join(self.not_found) or "what was asked for"
            raise NothingMatched(f"nothing to {self.act} of {named}; `outbox-worker events show EVENT` tells why")
        if busy := self.of("being_sent"):
            count = output.counted(len(busy), "delivery is", "deliveries are")
            raise BeingSent(f"{count} being sent at this moment, and left alone. Give the command again soon.")
        if len(self.of("changed")) == len(self.outcomes):
            raise NothingMatched("somebody else was faster: nothing of it is as it was")
