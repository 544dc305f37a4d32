"""What somebody asks of identify: a JSON body, read and checked. Pure.

    {"email": "mcfly@hillvalley.edu", "phoneNumber": "050 123-45-67"}      each may be missing, null, empty; not both

Whether a value counts as given is the database's to say (`sql/install/identity_given.sql`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from outbox_worker.errors import Unreadable
from outbox_worker.rules.phones import normalise

EMAIL_MAX = 254  # characters, the longest that mail can be sent to (RFC 5321); and what identity.contact takes
PHONE_MAX = 64
NUMBER_MAX = 10**15 - 1  # an international number has 15 digits at most (E.164)

_decode = msgspec.json.Decoder().decode


class Ask(msgspec.Struct, frozen=True):
    """Contact details as they were given, and the phone in E.164 where it is one."""

    email: str | None
    phone: str | None
    phone_normal: str | None


def read(body: bytes, region: str) -> Ask:
    """Read a body. Raises Unreadable, which names the field and never repeats its value.

    `region` is the ISO 3166 country whose numbers are written without a country code.
    """
    try:
        document = _decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise Unreadable("is not JSON in UTF-8") from None
    if type(document) is not dict:
        raise Unreadable("must be a JSON object with email, phoneNumber or both")
    email = _text(document, "email", EMAIL_MAX)
    phone = _phone(document)
    return Ask(email, phone, normalise(phone, region))


def _phone(document: dict[str, Any]) -> str | None:
    number = document.get("phoneNumber")
    if number is None or type(number) is str:
        return _text(document, "phoneNumber", PHONE_MAX)
    # Programs send it as a number, and to JSON 1.0 is the whole number 1; a bool is none.
    if type(number) is float and number.is_integer():
        number = int(number)
    if type(number) is not int or not 0 <= number <= NUMBER_MAX:
        raise Unreadable("must be a text, a whole number of at most 15 digits, or null", "phoneNumber")
    return str(number)


def _text(document: dict[str, Any], field: str, length_max: int) -> str | None:
    value = document.get(field)
    if value is None:
        return None
    if type(value) is not str:
        raise Unreadable("must be a text or null", field)
    if len(value) > length_max:
        raise Unreadable(f"must have at most {length_max} characters", field)
    if "\0" in value:
        raise Unreadable("must not hold the character NUL", field)
    return value
