"""What the body of each operation must hold: the sandbox refuses what InBoost's interface does not describe.

Unknown fields are let through, for an adopter's InBoost may know more. Amounts must be JSON numbers, instants RFC 3339
with an offset, phones E.164.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from outbox_worker.demo.sandbox.operations import E164

EventId = Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
Phone = Annotated[str, msgspec.Meta(pattern=f"^{E164.pattern}$")]
Amount = int | float
Instant = Annotated[datetime, msgspec.Meta(tz=True)]
ClientFields = dict[str, Any]


class Body(msgspec.Struct, frozen=True, rename="camel"):
    """What all bodies of deliveries have in common."""

    event_id: EventId


class Balance(Body, frozen=True):
    """Of `set_bonus_balance`."""

    balance: Amount
    changed_at: Instant


class Line(msgspec.Struct, frozen=True):
    """Of a purchase; accounting systems know more or less of it."""

    sku: str | int | None = None
    name: str | None = None
    quantity: Amount | None = None
    price: Amount | None = None
    amount: Amount | None = None


class Purchase(Body, frozen=True):
    """Of `add_purchase`."""

    purchase_id: str | int
    purchased_at: Instant
    total: Amount
    lines: list[Line]
    currency: str | None = None
    bonus_accrued: Amount | None = None
    bonus_redeemed: Amount | None = None


class BonusMovement(Body, frozen=True):
    """Of the two hooks that carry a code."""

    event: Literal["bonus_accrual", "bonus_redemption"]
    occurred_at: Instant
    phone: Phone
    code: str | int
    amount: Amount
    balance: Amount | None = None


class PurchaseNotice(Body, frozen=True):
    """Of `purchase_webhook`."""

    event: Literal["purchase"]
    occurred_at: Instant
    phone: Phone
    purchase_id: str | int
    total: Amount
    currency: str | None = None


class ExpiryNotice(Body, frozen=True):
    """Of `expiry_webhook`."""

    event: Literal["bonus_expiry"]
    occurred_at: Instant
    expires_before: str
    phones: list[Phone]


class AnyNotice(Body, frozen=True):
    """Of a hook whose id the sandbox has no name for."""

    phone: Phone | None = None


class NewClient(msgspec.Struct, frozen=True, rename="camel"):
    """Of `add_client`: every field but the phone can be missing or anything."""

    user_phone_number: Phone


DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    operation: msgspec.json.Decoder(body)
    for operation, body in {
        "set_bonus_balance": Balance,
        "add_purchase": Purchase,
        "accrual_webhook": BonusMovement,
        "redemption_webhook": BonusMovement,
        "purchase_webhook": PurchaseNotice,
        "expiry_webhook": ExpiryNotice,
        "webhook": AnyNotice,
        "add_client": NewClient,
        "update_client": ClientFields,
    }.items()
}


class Reading(msgspec.Struct, frozen=True):
    """What a body was found to hold. `mistake` is empty when the body is as the operation wants it."""

    event_id: str | None = None
    phone: str | None = None
    mistake: str = ""


NOTHING = Reading()


def read_body(operation: str, body: bytes) -> Reading:
    """Check a body against its operation; an operation without a body reads as nothing."""
    decoder = DECODERS.get(operation)
    if decoder is None:
        return NOTHING
    try:
        body.decode()  # msgspec does not look at the characters of fields that it skips
        value = decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Reading(mistake=str(error))
    return Reading(getattr(value, "event_id", None), getattr(value, "phone", None))


def on_one_line(body: bytes) -> msgspec.Raw:
    """Keep a checked body letter by letter, without its line breaks: the ledger file is read by lines."""
    return msgspec.Raw(msgspec.json.format(body, indent=-1) if b"\n" in body else body)
