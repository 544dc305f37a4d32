"""Clients of InBoost as they are read: every field but the phone can be missing, null, of another type, or nonsense.

What cannot be taken for what it should be is left out, and said in a remark; the client is stored without it. Only a
client without a usable phone cannot be stored, for nobody knows who it is.

    fields ──read──▶ Client ──identify──▶ Client with its phone in E.164

The two are apart because most clients have not changed, which their digest tells, and reading a phone costs twice as
much as all the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from hashlib import blake2b

import msgspec

from outbox_worker.rules.phones import normalise

TEXT_MAX = 200  # characters; a longer one is no name
SPELLING_MAX = 100
IDENTIFIER_MAX = 100
BIRTH_MIN = date(1900, 1, 1)

_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]+")  # what PostgreSQL refuses, and what no name holds
_BIRTH = re.compile(
    r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)(?:[T ].*)?|(?P<d>\d\d?)\.(?P<m>\d\d?)\.(?P<y>\d{4})", re.ASCII
)
_NO_BIRTH = frozenset({"0000-00-00", "0001-01-01"})  # how databases spell that there is none
_encode = msgspec.json.Encoder().encode


class Client(msgspec.Struct, frozen=True):
    """A client as InBoost has it. `phone` is E.164; None before `identify`, and where `spelled` is not one number."""

    client_id: str | None = None
    spelled: str | None = None
    phone: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    birth_date: date | None = None
    source: str | None = None
    specialty: str | None = None
    updated_at: datetime | None = None
    remarks: tuple[str, ...] = ()
    digest: bytes = b""

    @property
    def key(self) -> str:
        """What it is known by while it is not stored."""
        if self.client_id is not None:
            return f"id:{self.client_id}"
        return f"phone:{self.phone}" if self.phone is not None else f"digest:{self.digest.hex()}"


def read(fields: Mapping[str, object], today: date) -> Client:
    """Read a client from its fields under our names. Nobody was born after `today`."""
    remarks: list[str] = []
    client = Client(
        client_id=_word(fields.get("client_id"), IDENTIFIER_MAX),
        spelled=_word(fields.get("phone"), SPELLING_MAX),
        first_name=_text("first_name", fields.get("first_name"), remarks),
        last_name=_text("last_name", fields.get("last_name"), remarks),
        birth_date=_birth_date(fields.get("birth_date"), today, remarks),
        source=_text("source", fields.get("source"), remarks),
        specialty=_text("specialty", fields.get("specialty"), remarks),
        updated_at=instant(fields.get("updated_at")),
        remarks=tuple(remarks),
    )
    return msgspec.structs.replace(client, digest=_digest(client))


def identify(client: Client, region: str) -> Client:
    """Read the phone. `region` is the country of phones without a country code."""
    return msgspec.structs.replace(client, phone=normalise(client.spelled, region))


def instant(value: object) -> datetime | None:
    """Read an instant in RFC 3339; one without an offset is taken for UTC, anything else is None."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
        return found and (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _text(name: str, value: object, remarks: list[str]) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        remarks.append(f"{name} is no text")
        return None
    text = value if len(value) <= TEXT_MAX and value.isprintable() else _UNWRITABLE.sub(" ", value[: 10 * TEXT_MAX])
    text = " ".join(text.split())
    if len(value) > 10 * TEXT_MAX or len(text) > TEXT_MAX:
        remarks.append(f"{name} has {len(value):,} characters")
        return None
    return text or None


def _word(value: object, length_max: int) -> str | None:
    """Read what may come as a text or as a whole number."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    if isinstance(value, int) and abs(value) >= 10**length_max:
        return None
    text = str(value)
    if len(text) > length_max:
        return None
    return (text if text.isprintable() else _UNWRITABLE.sub(" ", text)).strip() or None


def _birth_date(value: object, today: date, remarks: list[str]) -> date | None:
    if value is None or value == "":
        return None
    found = _BIRTH.fullmatch(value.strip()) if isinstance(value, str) and len(value) <= TEXT_MAX else None
    if found is None:
        remarks.append("birth_date is no date")
        return None
    parts = found.group("year", "month", "day") if found["year"] else found.group("y", "m", "d")
    spelled = "{:0>4}-{:0>2}-{:0>2}".format(*parts)
    if spelled in _NO_BIRTH:
        return None
    try:
        born = date(*map(int, parts))
    except ValueError:
        born = None
    if born is None or not BIRTH_MIN <= born <= today:
        remarks.append(f"birth_date {spelled} is impossible")
        return None
    return born


def _digest(client: Client) -> bytes:
    """Tell clients apart by all but the instant: to be touched without a change is no change."""
    return blake2b(
        _encode(
            (
                client.client_id,
                client.spelled,
                client.first_name,
                client.last_name,
                client.birth_date,
                client.source,
                client.specialty,
                client.remarks,
            )
        ),
        digest_size=16,
    ).digest()
