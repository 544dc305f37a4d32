"""The clients that the sandbox knows, listed by the instant of their last change, page by page.

A page goes on after the last client of the page before (keyset), so a client that changes during a listing is listed
again further on and none is missed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from datetime import UTC, datetime
from typing import Any

Fields = dict[str, Any]
Place = tuple[int, int]  # microseconds of the last change, number of the client


class Client:
    """One client: its number, its fields as they came, its place in the listing."""

    __slots__ = ("fields", "number", "place")

    def __init__(self, number: int) -> None:
        self.number = number
        self.fields: Fields = {}
        self.place: Place | None = None  # none before the first change

    def shown(self) -> Fields:
        """Build what InBoost answers; `id` and `updatedAt` stand as they were given, if they were given."""
        changed_us = 0 if self.place is None else self.place[0]
        return {"id": self.number, "updatedAt": instant_text(changed_us)} | self.fields


class Clients:
    """All clients, by number, by phone, and in the order of their last change."""

    def __init__(self) -> None:
        self._clients: dict[int, Client] = {}
        self._by_phone: dict[str, Client] = {}
        self._order: list[Place] = []

    def __len__(self) -> int:
        return len(self._clients)

    def find(self, phone: str | None) -> Client | None:
        """Look a client up by its phone, letter by letter as it was registered."""
        return None if phone is None else self._by_phone.get(phone)

    def put(self, fields: Fields, at: float) -> Client:
        """Add a client, or merge `fields` into the one that has their `userPhoneNumber`. `at` is in Unix seconds."""
        phone = fields.get("userPhoneNumber")
        client = self.find(phone if isinstance(phone, str) else None) or self._added(phone)
        client.fields |= fields
        if "updatedAt" not in fields:
            client.fields.pop("updatedAt", None)
        self._move(client, _changed_us(fields, at))
        return client

    def page(self, since_us: int, after: Place | None, limit: int) -> tuple[list[Fields], Place | None]:
        """List at most `limit` clients changed at `since_us` or later; and the place to go on after, if any follow."""
        start = bisect_left(self._order, (since_us, 0)) if after is None else bisect_right(self._order, after)
        places = self._order[start : start + limit]
        more = start + limit < len(self._order)
        return [self._clients[number].shown() for _, number in places], places[-1] if more else None

    def _added(self, phone: object) -> Client:
        client = Client(len(self._clients) + 1)
        self._clients[client.number] = client
        if isinstance(phone, str):
            self._by_phone[phone] = client
        return client

    def _move(self, client: Client, changed_us: int) -> None:
        if client.place is not None:
            del self._order[bisect_left(self._order, client.place)]
        client.place = (changed_us, client.number)
        insort(self._order, client.place)


def _changed_us(fields: Fields, at: float) -> int:
    """Take the instant from `updatedAt` where a test gives one; InBoost's clock decides where it is unreadable."""
    given = instant_us(fields["updatedAt"]) if isinstance(fields.get("updatedAt"), str) else None
    return round(at * 1_000_000) if given is None else given


def instant_us(text: str) -> int | None:
    """Read an RFC 3339 instant as microseconds since 1970; None when it is none, or has no offset."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    if instant.tzinfo is None:
        return None
    since = instant - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def instant_text(us: int) -> str:
    """Write microseconds since 1970 as an RFC 3339 instant."""
    return datetime.fromtimestamp(us // 1_000_000, UTC).replace(microsecond=us % 1_000_000).isoformat()
