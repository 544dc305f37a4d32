"""What is recorded and delivered in every benchmark: events of one size, dealt out to the same number of customers."""

from __future__ import annotations

import json
from dataclasses import dataclass

PAYLOAD_BYTES = 400
CUSTOMERS = 2000
MARK = r"MARK(\d{9})"  # in each payload: by it a receiver knows which event a request is about


@dataclass(frozen=True, slots=True)
class Event:
    """A bonus accrual, numbered from 1; its customer is one of CUSTOMERS in turn, unless one is named."""

    number: int
    customer_number: int | None = None

    @property
    def customer(self) -> str:
        return str(self.number % CUSTOMERS if self.customer_number is None else self.customer_number)

    @property
    def payload(self) -> str:
        """JSON of PAYLOAD_BYTES bytes."""
        fields = {
            "phone": f"+38050{1_000_000 + int(self.customer)}",
            "code": f"MARK{self.number:09}",
            "amount": 12.5,
            "balance": 100.25,
        }
        room = PAYLOAD_BYTES - len(json.dumps(fields))
        return json.dumps(fields | {"code": fields["code"] + "x" * room})


def events(count: int, first: int = 1) -> list[Event]:
    """Return so many events, numbered from `first`."""
    return [Event(number) for number in range(first, first + count)]
