"""What InBoost would know, and what each operation does to it. No network and no clock: instants come as arguments.

    call ──check──▶ refusal, or an effect ──apply──▶ state ──▶ ledger (and its file) ──▶ answer

A restart applies the effects of the ledger file to an empty state: there is one way to change it.
"""

from __future__ import annotations

import base64
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from outbox_worker.demo.sandbox.bodies import NOTHING, Reading, on_one_line
from outbox_worker.demo.sandbox.clients import Clients, Place, instant_us
from outbox_worker.demo.sandbox.ledger import Effect, Ledger, SeenRequest
from outbox_worker.demo.sandbox.ledger_file import LedgerFile, Registration
from outbox_worker.demo.sandbox.operations import E164, EVENTFUL, OPERATIONS

PAGE_DEFAULT, PAGE_MAX = 100, 1_000


class Answer(msgspec.Struct, frozen=True):
    """What is answered, before a fault spoils it."""

    status: int
    body: Any  # anything that JSON can hold
    headers: dict[str, str] = {}


class Call(msgspec.Struct, frozen=True):
    """A request whose body was read. Its ledger row knows the operation, the phone and the event id."""

    request: SeenRequest
    body: bytes = b""
    query: Mapping[str, str] = {}
    reading: Reading = NOTHING


class Cursor(msgspec.Struct, frozen=True):
    """What an opaque cursor hides. `age` is the run of cursors that it belongs to."""

    age: str
    since_us: int
    after: Place


DONE = Answer(200, {"ok": True})
UNKNOWN_CLIENT = Answer(404, {"error": "unknown_client"})
DUPLICATE = Answer(409, {"error": "duplicate_event"})


def mistake(word: str, sentence: str) -> Answer:
    """Refuse a request that is not as the interface has it."""
    return Answer(400, {"error": word, "message": sentence})


class State:
    """Clients, balances, purchases, the event ids that were taken, and the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        any_client: bool = False,
        deduplicated: Iterable[str] = EVENTFUL,
        file: LedgerFile | None,
    ) -> None:
        self.ledger = ledger
        self.clients = Clients()
        self.any_client = any_client
        self.deduplicated = frozenset(deduplicated)
        self.balances: dict[str, msgspec.Raw] = {}  # by phone, the whole body of the last change
        self.purchases: dict[str, dict[str, msgspec.Raw]] = defaultdict(dict)  # by phone and event id
        self._effect_counts: dict[tuple[str, str], dict[str, int]] = defaultdict(
            dict
        )  # by destination, operation; event id
        self._cursor_age = secrets.token_hex(4)
        self._file = file
        self._acts: dict[str, Callable[[Call, float, float], Answer]] = {
            "list_clients": self._list_clients,
            "find_client": self._find_client,
            "add_client": self._add_client,
            "update_client": self._update_client,
            "find_purchase": self._find_purchase,
            "unknown": self._no_such_place,
            **dict.fromkeys(EVENTFUL, self._deliver),
        }

    def act(self, call: Call, at: float, monotonic_s: float) -> Answer:
        """Do what the request asks for, and say what InBoost would answer."""
        if call.reading.mistake:
            return mistake("bad_body", call.reading.mistake)
        if call.request.phone is not None and not E164.fullmatch(call.request.phone):
            return mistake(
                "bad_phone", "A phone is written in E.164: a plus sign (%2B in a query), then 7 to 15 digits."
            )
        return self._acts[call.request.operation](call, at, monotonic_s)

    def restore(self) -> int:
        """Apply what a former life left in the ledger file, and count its effects."""
        for line in self._file.read_back() if self._file is not None else ():
            if isinstance(line, Registration):
                self.clients.put(line.fields, line.registered_at)
            else:
                # Its body is a view into the whole line, which would be kept alive by it.
                self._apply(msgspec.structs.replace(line, sequence=self.ledger.effects.last + 1, body=line.body.copy()))
        return self.ledger.effects.last

    def register(self, clients: Iterable[str | dict[str, Any]], at: float) -> int:
        """Make clients known by phone or by fields (a test may give any, even badly formed), and count all clients."""
        for client in clients:
            fields = {"userPhoneNumber": client} if isinstance(client, str) else client
            self.clients.put(fields, at)
            if self._file is not None:
                self._file.append(Registration(at, fields))
        return len(self.clients)

    def expire_cursors(self) -> None:
        """Let every cursor given out so far be answered 410."""
        self._cursor_age = secrets.token_hex(4)

    def of_phone(self, phone: str) -> dict[str, Any]:
        """Tell all that is known of one phone."""
        client = self.clients.find(phone)
        return {
            "client": client and client.shown(),
            "balance": self.balances.get(phone),
            "purchases": list(self.purchases.get(phone, {}).values()),
        }

    def totals(self) -> dict[str, int]:
        """Count what is known."""
        return {
            "clients": len(self.clients),
            "balances": len(self.balances),
            "purchases": sum(len(purchases) for purchases in self.purchases.values()),
        }

    # Reading

    def _list_clients(self, call: Call, _at: float, _monotonic_s: float) -> Answer:
        limit = call.query.get("limit", str(PAGE_DEFAULT))
        if not limit.isdecimal() or not 1 <= int(limit) <= PAGE_MAX:
            return mistake("bad_limit", f"`limit` is a number from 1 to {PAGE_MAX}.")
        if "cursor" in call.query:
            return self._listed_on(call.query["cursor"], int(limit))
        since_us = instant_us(call.query["updatedSince"]) if "updatedSince" in call.query else 0
        if since_us is None:
            return mistake(
                "bad_instant", "`updatedSince` is RFC 3339 with an offset; a plus sign is written %2B in a query."
            )
        return self._listed(since_us, None, int(limit))

    def _listed_on(self, text: str, limit: int) -> Answer:
        try:
            cursor = msgspec.json.decode(base64.urlsafe_b64decode(text), type=Cursor)
        except (ValueError, msgspec.DecodeError):
            return Answer(400, {"error": "cursor_expired"})
        if cursor.age != self._cursor_age:
            return Answer(410, {"error": "cursor_expired"})
        return self._listed(cursor.since_us, cursor.after, limit)

    def _listed(self, since_us: int, after: Place | None, limit: int) -> Answer:
        items, last = self.clients.page(since_us, after, limit)
        cursor = None if last is None else msgspec.json.encode(Cursor(self._cursor_age, since_us, last))
        return Answer(200, {"items": items, "nextCursor": cursor and base64.urlsafe_b64encode(cursor).decode()})

    def _find_client(self, call: Call, _at: float, _monotonic_s: float) -> Answer:
        client = self.clients.find(call.request.phone)
        if client is None and self.any_client:
            return Answer(200, {"items": [{"userPhoneNumber": call.request.phone}]})
        return Answer(200, {"items": [] if client is None else [client.shown()]})

    def _find_purchase(self, call: Call, _at: float, _monotonic_s: float) -> Answer:
        found = self.purchases.get(call.request.phone or "", {}).get(call.request.event_id or "")
        return Answer(404, {"error": "unknown_purchase"}) if found is None else Answer(200, found)

    def _no_such_place(self, call: Call, _at: float, _monotonic_s: float) -> Answer:
        return Answer(404, {"error": "no_such_operation", "operations": OPERATIONS[:-1]})

    # Acting

    def _add_client(self, call: Call, at: float, monotonic_s: float) -> Answer:
        phone = msgspec.json.decode(call.body)["userPhoneNumber"]
        if self.clients.find(phone) is not None:
            return Answer(409, {"error": "phone_taken"})
        call.request.phone = phone
        self._effect(call, at, monotonic_s)
        return Answer(201, {"id": len(self.clients)})

    def _update_client(self, call: Call, at: float, monotonic_s: float) -> Answer:
        if not self._knows(call.request.phone):
            return UNKNOWN_CLIENT
        self._effect(call, at, monotonic_s)
        return DONE

    def _deliver(self, call: Call, at: float, monotonic_s: float) -> Answer:
        request = call.request
        if request.operation in ("set_bonus_balance", "add_purchase") and not self._knows(request.phone):
            return UNKNOWN_CLIENT
        if request.operation in self.deduplicated and self._effect_count(request) > 0:
            self.ledger.refused_duplicate(request)
            # The interface has no 409 for a balance: to set it again is to set it.
            return DONE if request.operation == "set_bonus_balance" else DUPLICATE
        self._effect(call, at, monotonic_s)
        return Answer(201, {"ok": True}) if request.operation == "add_purchase" else DONE

    def _knows(self, phone: str | None) -> bool:
        return self.any_client or self.clients.find(phone) is not None

    def _effect_count(self, of: SeenRequest | Effect) -> int:
        return self._effect_counts[of.destination, of.operation].get(of.event_id or "", 0)

    def _effect(self, call: Call, at: float, monotonic_s: float) -> None:
        request = call.request
        effect = Effect(
            sequence=self.ledger.effects.last + 1,
            acted_at=at,
            acted_monotonic_s=monotonic_s,
            operation=request.operation,
            destination=request.destination,
            event_id=request.event_id,
            phone=request.phone,
            request=request.sequence,
            body=on_one_line(call.body),
        )
        if self._file is not None:
            self._file.append(effect)
        request.effect = effect.sequence
        self._apply(effect)

    def _apply(self, effect: Effect) -> None:
        before = self._effect_count(effect)
        if effect.event_id is not None:
            self._effect_counts[effect.destination, effect.operation][effect.event_id] = before + 1
        if effect.phone is not None:
            self._change(effect, effect.phone)
        self.ledger.acted(effect, again=before > 0)

    def _change(self, effect: Effect, phone: str) -> None:
        if effect.operation == "set_bonus_balance":
            self.balances[phone] = effect.body
        elif effect.operation == "add_purchase" and effect.event_id is not None:
            self.purchases[phone][effect.event_id] = effect.body
        elif effect.operation in ("add_client", "update_client"):
            # The path names the client: a body that names another phone does not move it.
            self.clients.put(msgspec.json.decode(effect.body) | {"userPhoneNumber": phone}, effect.acted_at)
