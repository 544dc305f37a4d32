"""Which customer of accounting a client of InBoost is, and what of it is to be stored there. Pure.

    client, what is known of it ──decide──▶ Create: accounting has nobody with this phone
                                        ├─▶ Store: this customer, with the fields that change
                                        └─▶ Unstored: a conflict, or nothing to know it by

A client is known by its phone, once it is linked by its id too. Where two could be meant, nobody guesses: a person
decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from enum import StrEnum

import msgspec

from outbox_worker.rules.clients import Client
from outbox_worker.rules.phones import normalise


class Winner(StrEnum):
    """Whose value is kept where both sides have one and they differ."""

    INBOOST = "inboost"
    ACCOUNTING = "accounting"
    NEWEST = "newest"


FIELDS = ("phone", "first_name", "last_name", "birth_date", "source", "specialty")
"""What both sides have, in the order of integration.change_customer."""

CONFLICTS = ("shared_phone", "second_client", "taken_phone")
"""The kinds of Unstored that a person decides."""

Value = str | date | None


class Customer(msgspec.Struct, frozen=True):
    """A customer as accounting has it; `phone` as somebody typed it."""

    customer_id: str
    phone: str | None
    first_name: str | None
    last_name: str | None
    birth_date: date | None
    source: str | None
    specialty: str | None
    changed_at: datetime | None


class Link(msgspec.Struct, frozen=True):
    """A client that is linked with a customer. InBoost may give clients no id."""

    customer_id: str
    client_id: str | None
    phone: str


class Known(msgspec.Struct, frozen=True):
    """What is known of a client: whom it is linked with, who has its phone, what a person decided.

    `customer` is the one that it would be stored in: the decided one, else the linked one, else the only one that has
    the phone. `of_customer` is that one's link, whoever it is with. `is_decided`: a person chose the customer.
    """

    by_id: Link | None = None
    by_phone: Link | None = None
    of_customer: Link | None = None
    customer_ids: tuple[str, ...] = ()
    customer: Customer | None = None
    is_decided: bool = False


class Create(msgspec.Struct, frozen=True):
    """Accounting has nobody with this phone."""


class Store(msgspec.Struct, frozen=True):
    """Link it with this customer, and change these fields. `replaces` a link of another client or customer."""

    customer_id: str
    changes: Mapping[str, Value]
    replaces: bool = False


class Unstored(msgspec.Struct, frozen=True):
    """It cannot be stored; who it may be."""

    kind: str
    reason: str
    customer_ids: tuple[str, ...] = ()


Decision = Create | Store | Unstored


def decide(client: Client, known: Known, winners: Mapping[str, Winner], region: str) -> Decision:
    """Say what becomes of a client."""
    if client.phone is None:
        return Unstored(
            "no_phone", "its phone is not certainly one valid number" if client.spelled else "it has no phone"
        )
    customer = known.customer
    if known.is_decided:
        if customer is None:
            return Unstored("refused", "the customer that a person decided for is not in accounting any more")
        return Store(customer.customer_id, changes(client, customer, winners, region), replaces=True)
    if conflict := _conflict(client, known):
        return conflict
    if customer is None:
        return Create()
    if known.by_id is None and known.by_phone is None and normalise(customer.phone, region) != client.phone:
        return Unstored(
            "refused", "accounting is changing this customer's phone at this moment", (customer.customer_id,)
        )
    return Store(customer.customer_id, changes(client, customer, winners, region))


def _conflict(client: Client, known: Known) -> Unstored | None:
    if known.by_id is not None:
        return _conflict_of_moved(client, known.by_id, known)
    if known.by_phone is not None:
        return _conflict_of_second(client, known.by_phone)
    if len(known.customer_ids) > 1:
        return Unstored("shared_phone", "several customers of accounting have its phone", known.customer_ids)
    if known.of_customer is not None:
        return Unstored(
            "second_client",
            "the customer with its phone is linked with another client",
            (known.of_customer.customer_id,),
        )
    return None


def _conflict_of_moved(client: Client, link: Link, known: Known) -> Unstored | None:
    """A client that is linked and has another phone now, which may be somebody else's."""
    if client.phone == link.phone:
        return None
    others = {known.by_phone.customer_id} if known.by_phone else set()
    others = (others | set(known.customer_ids)) - {link.customer_id}
    if not others:
        return None
    return Unstored("taken_phone", "its phone changed to one of another customer", (link.customer_id, *sorted(others)))


def _conflict_of_second(client: Client, link: Link) -> Unstored | None:
    if None in (client.client_id, link.client_id) or client.client_id == link.client_id:
        return None
    return Unstored("second_client", "another client of InBoost has its phone, and is linked", (link.customer_id,))


def changes(client: Client, customer: Customer, winners: Mapping[str, Winner], region: str) -> dict[str, Value]:
    """Return the fields of the customer that change, with their new values. An empty value never wipes a filled one."""
    is_newer = None not in (client.updated_at, customer.changed_at) and client.updated_at > customer.changed_at  # type: ignore[operator]
    found: dict[str, Value] = {}
    for name in FIELDS:
        theirs, ours = getattr(client, name), getattr(customer, name)
        if theirs is None or theirs == ours or (name == "phone" and normalise(ours, region) == theirs):
            continue
        winner = winners[name]
        if ours in (None, "") or winner is Winner.INBOOST or (winner is Winner.NEWEST and is_newer):
            found[name] = theirs
    return found
