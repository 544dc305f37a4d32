"""The sandbox's control API from the outside: it is told who its clients are, and asked what it saw and did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
import requests
from requests.adapters import HTTPAdapter, Retry

from outbox_worker.demo.sandbox.ledger import Effect
from outbox_worker.errors import InBoostUnavailable

TIMEOUT_S = 30.0
PAGE = 10_000

Answer = TypeVar("Answer")


class Effects(msgspec.Struct):
    """A page of the ledger."""

    items: list[Effect]
    last: int
    more: bool
    forgotten: int


class Operation(msgspec.Struct):
    """Counts of one operation."""

    requests: int
    effects: int
    duplicates: int
    doubled_effects: int
    faults: dict[str, int]


class Overlap(msgspec.Struct):
    """Lanes that had more than one request in the sandbox at the same time."""

    lanes: int


class Summary(msgspec.Struct):
    """What the sandbox counted."""

    operations: dict[str, Operation]
    overlap: Overlap


class Client(msgspec.Struct):
    """All that the sandbox knows of one phone. Bodies are as they came."""

    balance: msgspec.Raw
    purchases: list[msgspec.Raw]


@dataclass(frozen=True, slots=True)
class Ledger:
    """All that a judge needs to know of what the sandbox saw and did."""

    effects: Sequence[Effect]
    doubled: Mapping[str, int] = field(default_factory=dict)  # by operation: effects of a known event id, as it counts
    overlapping_lanes: int = 0  # with more than one request in flight at a time
    balances: Mapping[str, Decimal | None] = field(default_factory=dict)  # at the end, by phone
    purchases: Mapping[str, frozenset[str]] = field(default_factory=dict)  # at the end, by phone: their ids


class Control:
    """Speaks to the sandbox at `url`. Raises InBoostUnavailable when it does not answer as it should."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy of the environment knows nothing of this sandbox
        # The fault `refuse` closes the one port, for us too.
        patience = Retry(total=20, backoff_factor=0.1, backoff_max=0.5)
        self._session.mount("http://", HTTPAdapter(max_retries=patience))

    def register(self, clients: Iterable[str | dict[str, str]]) -> None:
        """Make these clients of InBoost: phones, or fields as InBoost names them."""
        self._ask("POST", "clients", dict[str, int], msgspec.json.encode(list(clients)))

    def effects(self, after: int = 0) -> Iterator[Effect]:
        """Read the ledger's effects that follow a sequence number, page by page, to its end."""
        more = True
        while more:
            page = self._ask("GET", f"ledger/effects?after={after}&limit={PAGE}", Effects)
            if page.forgotten > after:
                raise InBoostUnavailable(
                    f"{self.url} has forgotten {page.forgotten} effects; nobody can judge any more"
                )
            yield from page.items
            after, more = page.last, page.more

    def summary(self) -> Summary:
        """Read what the sandbox counted."""
        return self._ask("GET", "summary", Summary)

    def client(self, phone: str) -> Client:
        """Read what became of one client."""
        return self._ask("GET", f"state/{phone}", Client)

    def ledger(self, phones: Iterable[str]) -> Ledger:
        """Read the whole ledger, and the final state of these clients."""
        summary = self.summary()
        clients = {phone: self.client(phone) for phone in phones}
        return Ledger(
            effects=list(self.effects()),
            doubled={name: counts.doubled_effects for name, counts in summary.operations.items()},
            overlapping_lanes=summary.overlap.lanes,
            balances={phone: (read_body(client.balance) or {}).get("balance") for phone, client in clients.items()},
            purchases={
                phone: frozenset(str((read_body(each) or {}).get("purchaseId")) for each in client.purchases)
                for phone, client in clients.items()
            },
        )

    def _ask(self, method: str, place: str, kind: type[Answer], body: bytes | None = None) -> Answer:
        try:
            answer = self._session.request(method, f"{self.url}/sandbox/{place}", data=body, timeout=TIMEOUT_S)
            answer.raise_for_status()
            return msgspec.json.decode(answer.content, type=kind)
        except (requests.RequestException, msgspec.DecodeError) as error:
            raise InBoostUnavailable(f"{self.url}/sandbox/{place} does not answer as it should: {error}") from None

    def close(self) -> None:
        """Give the connection up."""
        self._session.close()


def read_body(body: msgspec.Raw) -> dict[str, Any] | None:
    """Read a body; numbers keep the scale that they came with, and `null` is None."""
    value: dict[str, Any] | None = _BODY.decode(body)
    return value


_BODY = msgspec.json.Decoder(dict[str, Any] | None, float_hook=Decimal)
