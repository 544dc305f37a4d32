"""The list of clients, page by page: asked for, judged, read. Whatever InBoost answers ends in a sentence.

page ──▶ Page: clients, unreadable items, where the list goes on      ──▶ CursorExpired: begin again
     └─▶ InBoostUnavailable: no answer, or none that can be used
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from hashlib import blake2b

import msgspec

from outbox_worker.errors import ConfigurationError, InBoostUnavailable
from outbox_worker.inboost.client import Answer, Client
from outbox_worker.inboost.operations import Field
from outbox_worker.inboost.profile import Profile
from outbox_worker.records import Evidence, Exchange
from outbox_worker.rules import clients
from outbox_worker.rules.clients import Client as ListedClient

CURSOR_MAX = 8_000  # bytes: longer ones would not fit into the line of a request
EXPIRED = "cursor_expired"
EXCERPT_MAX = 200
DIGITS_MAX = 300

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_any = msgspec.json.Decoder().decode
_UNREADABLE = (msgspec.MsgspecError, RecursionError, ValueError)


class CursorExpired(Exception):
    """InBoost does not know the cursor any more."""


class UnreadableItem(msgspec.Struct, frozen=True):
    """An item of a page that is no object; the beginning of it."""

    digest: bytes
    excerpt: str


class Page(msgspec.Struct, frozen=True):
    """A page. `cursor` is None on the last one; `date` is InBoost's clock; the digest is that of the items."""

    clients: Sequence[ListedClient]
    unreadable: Sequence[UnreadableItem]
    cursor: str | None
    date: datetime | None
    digest: bytes


class Listing:
    """Asks for pages by the profile."""

    def __init__(self, client: Client, profile: Profile) -> None:
        self._client = client
        self._profile = profile
        self._reader = PageReader(profile.operations["list_clients"].fields)

    def page(self, since: datetime | None, cursor: str | None, size: int, today: date) -> Page:
        """Return the page at the cursor, or the first one of the clients updated at `since` or later.

        Raises CursorExpired, InBoostUnavailable for what cannot be read, ConfigurationError where InBoost refuses us.
        """
        values = {"updated_since": since and since.isoformat(), "limit": size, "cursor": cursor}
        answer = self._client.read(self._profile.call("list_clients", values))
        _require_page(answer.exchange, cursor)
        return self._reader.read(answer, today)


class PageReader:
    """Reads the body of a page by the field mapping of `list_clients`."""

    def __init__(self, fields: Mapping[str, Field]) -> None:
        wires = {field.source: wire for wire, field in fields.items()}
        self._items, self._cursor = wires.get("clients", ""), wires.get("cursor", "")
        each = fields[self._items].each if self._items else None
        self._fields = {field.source: wire for wire, field in (each or {}).items()}

    def read(self, answer: Answer, today: date) -> Page:
        """Return the page. Raises InBoostUnavailable for a body that is none."""
        try:
            members, items = self._split(answer.exchange.body)
        except (KeyError, *_UNREADABLE):
            raise InBoostUnavailable(
                f"InBoost's page of clients cannot be read: it is no JSON object with a list {self._items!r}. "
                "Does list_clients in [inboost.operations] match your portal's documentation?"
            ) from None
        read: list[ListedClient] = []
        unreadable: list[UnreadableItem] = []
        for item in items:
            found = self._client(item, today)
            if isinstance(found, ListedClient):
                read.append(found)
            else:
                unreadable.append(found)
        digest = blake2b(bytes(members[self._items]), digest_size=16).digest()
        return Page(read, unreadable, self._next(members), answer.date, digest)

    def _split(self, body: bytes) -> tuple[dict[str, msgspec.Raw], list[msgspec.Raw]]:
        """Part a page into its members and items; what one of them has that is no JSON fails no other."""
        try:
            members = _decode_object(body)
            return members, _decode_list(members[self._items])
        except _UNREADABLE:
            members = _decode_object(_mended(body))
            return members, _decode_list(members[self._items])

    def _client(self, item: msgspec.Raw, today: date) -> ListedClient | UnreadableItem:
        members = _decoded(item)
        if not isinstance(members, dict):
            raw = bytes(item)
            text = raw[: 4 * EXCERPT_MAX].decode("utf-8", "replace")[:EXCERPT_MAX]
            return UnreadableItem(blake2b(raw, digest_size=16).digest(), text)
        return clients.read({ours: members.get(wire) for ours, wire in self._fields.items()}, today)

    def _next(self, members: Mapping[str, msgspec.Raw]) -> str | None:
        """Return the cursor; a list may end by null, by an empty one, or by none."""
        try:
            cursor = _decode_any(members.get(self._cursor, b"null"))
        except _UNREADABLE:
            cursor = ()
        if cursor is None or cursor == "":
            return None
        text = str(cursor) if isinstance(cursor, str | int) and not isinstance(cursor, bool) else ""
        if not text or len(text) > CURSOR_MAX or not text.isprintable():
            raise InBoostUnavailable(
                f"InBoost's page of clients has a {self._cursor} that is none: it cannot be gone on with"
            )
        return text


def _decoded(item: msgspec.Raw) -> object:
    """Return an item as Python has it, None where it is beyond reading."""
    with suppress(*_UNREADABLE):
        return _decode_any(item)
    with suppress(*_UNREADABLE):
        return _decode_any(_mended(bytes(item)))
    return None


def _mended(body: bytes) -> bytes:
    """Write JSON that only the lenient take for JSON so that everybody does. Raises ValueError, RecursionError.

    Half a surrogate pair becomes a question mark; NaN, and numbers of hundreds of digits, become null.
    """
    lenient = json.loads(
        body.decode("utf-8", "replace"),
        parse_int=lambda digits: int(digits) if len(digits) <= DIGITS_MAX else None,
        parse_constant=lambda _: None,
    )
    return json.dumps(lenient, ensure_ascii=False).encode("utf-8", "replace")


def _require_page(exchange: Exchange, cursor: str | None) -> None:
    status = exchange.status
    if exchange.evidence is not Evidence.ANSWERED or status is None:
        raise InBoostUnavailable(
            f"InBoost's list of clients cannot be had: {exchange.error or exchange.evidence}. What was read is stored; "
            "the next run goes on there"
        )
    if cursor is not None and (status == 410 or (status == 400 and _says_expired(exchange.body))):
        raise CursorExpired
    if status in (401, 403):
        raise ConfigurationError(f"InBoost refuses the token ({status}): set [inboost] token anew")
    if status in (404, 405):
        raise ConfigurationError(
            f"InBoost has no list of clients there ({status}): check [inboost.operations.list_clients]"
        )
    if not 200 <= status < 300:
        raise InBoostUnavailable(
            f"InBoost answers {status} to list_clients. What was read is stored; the next run goes on there"
        )


def _says_expired(body: bytes) -> bool:
    try:
        said = _decode_any(body)
    except _UNREADABLE:
        return False
    return isinstance(said, dict) and said.get("error") == EXPIRED
