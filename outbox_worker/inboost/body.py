"""Bodies: an event's payload under InBoost's names, every value the very text that PostgreSQL wrote.

    payload ──read──▶ {our name: JSON text} ──Mapping──▶ body

Values are never parsed and written again, so 12.50 stays 12.50, and the same event makes the same bytes at every
attempt and in every worker. What leaves is what is mapped and nothing else: a payload may hold more than InBoost should
see.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from outbox_worker.errors import Unsendable
from outbox_worker.inboost.operations import INSTANTS, NUMBERS, Field

Values = dict[str, msgspec.Raw]

_decode_object = msgspec.json.Decoder(Values).decode
_decode_objects = msgspec.json.Decoder(list[Values]).decode
_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

TRUE = msgspec.Raw(b"true")
_NULL = b"null"
_NUMBER_STARTS = frozenset(b"-0123456789")
_STARTS = frozenset(range(256))
_INSTANT = re.compile(rb'"\d{4,}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)"')

# msgspec's errors quote what they stumbled over, and a payload holds phone numbers: their words go no further.
_UNREADABLE = (msgspec.MsgspecError, RecursionError, ValueError)


class BodyMap:
    """A field mapping, made ready once and used for every delivery."""

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self.sources = frozenset(field.source for field in fields.values() if field.source)
        # Tuples, because this is gone through for every line of every purchase.
        self._entries = tuple(
            (
                _encode(wire) + b":",
                field.source,
                _NUMBER_STARTS if field.source in NUMBERS else _STARTS,
                field,
                BodyMap(field.each) if field.each is not None else None,
            )
            for wire, field in fields.items()
        )

    def __call__(self, values: Values) -> bytes:
        """Return the object as JSON. Raises Unsendable, naming the value that is missing or wrong."""
        members = []
        for label, source, starts, field, each in self._entries:
            value = values.get(source)
            if value is None or field.constant is not None:
                if (text := _instead(field)) is None:
                    continue
            elif (text := bytes(value)) == _NULL:
                text = _instead_of_null(field)
            elif text[0] not in starts:
                raise Unsendable(f"{source} is not a number")
            elif each is not None:
                text = each.list_of(source, text)
            elif source in INSTANTS and not _INSTANT.fullmatch(text):
                raise Unsendable(f"{source} is not an instant with an offset; the mapping must give a timestamptz")
            members.append(label + text)
        return b"{" + b",".join(members) + b"}"

    def list_of(self, source: str, text: bytes) -> bytes:
        """Map every object of a list."""
        try:
            items = _decode_objects(text)
        except _UNREADABLE:
            raise Unsendable(f"{source} is not a list of objects") from None
        return b"[" + b",".join([self(item) for item in items]) + b"]"


def _instead(field: Field) -> bytes | None:
    """Return what stands for a value that the event does not give."""
    if field.constant is None and field.required:
        raise Unsendable(f"the event has no {field.source}")
    return field.constant


def _instead_of_null(field: Field) -> bytes:
    """Return what stands for a null: json_agg over no rows is null, and means a list of none."""
    if field.each is not None:
        return b"[]"
    if field.required:
        raise Unsendable(f"{field.source} is null")
    return _NULL


def read(payload: str) -> Values:
    """Return the members of a payload. Raises Unsendable when it is no JSON object."""
    try:
        return _decode_object(payload)
    except _UNREADABLE:
        raise Unsendable("the event's payload is not a JSON object") from None


def text_of(value: msgspec.Raw | None) -> str | None:
    """Return a JSON string or whole number as text: accounting systems keep phones and document numbers as either."""
    found = read_any(value)
    return str(found) if isinstance(found, str | int) and not isinstance(found, bool) else None


def read_any(value: msgspec.Raw | None) -> object:
    """Return the value as Python has it, None where it is missing or beyond reading."""
    try:
        return None if value is None else _decode_any(value)
    except _UNREADABLE:  # an integer of thousands of digits, lists in lists in lists
        return None


def raw(value: object) -> msgspec.Raw:
    """Return a value of ours as it goes into a body."""
    return msgspec.Raw(_encode(value))


def instant(moment: datetime) -> msgspec.Raw:
    """Return an instant in RFC 3339; in UTC, because a session's zone must not make two attempts differ."""
    in_utc = moment.astimezone(UTC) if moment.utcoffset() else moment
    return msgspec.Raw(_encode(in_utc).replace(b"Z", b"+00:00"))  # as PostgreSQL writes those of the payload
