"""What people ask about customers: both sides of one, what could not be stored, and their decisions about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, text

from outbox_worker.database import acts
from outbox_worker.database.acts import Deed, Instruction
from outbox_worker.database.mapping_keys import MappingKeys
from outbox_worker.database.sync_figures import UNSTORED
from outbox_worker.rules.clients import Client
from outbox_worker.rules.matching import CONFLICTS


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """A client's link with a customer, and what it has had."""

    customer_id: str
    client_id: str | None
    phone: str
    updated_at: datetime | None
    remark: str | None
    linked_at: datetime
    stored_at: datetime
    history_sent_at: datetime | None
    balance_sent_at: datetime | None
    released_at: datetime | None


@dataclass(frozen=True, slots=True)
class CustomerStatus:
    """A customer as accounting has it, with its link; `phone_e164` is what clients are matched by."""

    customer_id: str
    phone: str | None
    phone_e164: str | None
    email: str | None
    first_name: str | None
    last_name: str | None
    birth_date: date | None
    source: str | None
    specialty: str | None
    changed_at: datetime | None
    link: LinkStatus | None


@dataclass(frozen=True, slots=True)
class Kept:
    """A client that could not be stored. `decided_customer_id` with the decision `customer`."""

    number: int
    kind: str
    reason: str
    customer_ids: list[str]
    found_at: datetime
    decision: str | None
    decided_customer_id: str | None
    client: Client | None  # None of an item that was no object


_IDS = text("""
select customer_id from outbox.customer_phone where phone = :phone
union
select customer_id from outbox.client where phone = :phone
union
select customer_id from outbox.customer_phone where customer_id = :word
union
select customer_id from outbox.client where client_id = :word
order by 1
""")
_CUSTOMERS = """
select customer.customer_id::text, customer.phone::text, known.phone, customer.email::text, customer.first_name::text,
       customer.last_name::text,
       case when customer.birth_date between '0001-01-01' and '9999-12-31' then customer.birth_date::date end,
       customer.source::text, customer.specialty::text,
       case when customer.changed_at between '0001-01-03' and '9999-12-29' then customer.changed_at end,
       client.customer_id, client.client_id, client.phone, client.updated_at, client.remark, client.linked_at,
       client.stored_at, client.history_sent_at, client.balance_sent_at, client.released_at
from unnest(cast(:customer_ids as text[])) given (customer_id)
join integration.customer customer on customer.customer_id = cast(given.customer_id as {customer})
left join outbox.customer_phone known on known.customer_id = given.customer_id
left join outbox.client client on client.customer_id = given.customer_id
order by given.customer_id
"""
_KEPT = """
select unstored_client_id, kind, reason, customer_ids, found_at, decision, decided_customer_id, document::text
from outbox.unstored_client
"""
_LIST = text(
    _KEPT
    + " where kind = any (:kinds) and (:everything or decision is null) order by unstored_client_id limit :count_max"
)
_FIND = text(_KEPT + " where unstored_client_id = :number for update")
_OF_PHONE = text(_KEPT + " where phone = :phone or client_key = 'id:' || :word order by unstored_client_id")
_COUNTS = text(UNSTORED)
_IS_CUSTOMER = text("select exists (select from outbox.customer_phone where customer_id = :customer_id)")
_DECIDE = text("""
update outbox.unstored_client
set decision = :decision, decided_customer_id = :customer_id, decided_at = clock_timestamp()
where unstored_client_id = :number
""")


def find(connection: Connection, keys: MappingKeys, word: str, phone: str | None) -> list[CustomerStatus]:
    """Return the customers of a phone in E.164, or of an id of accounting's or of InBoost's."""
    customer_ids = list(connection.scalars(_IDS, {"word": word, "phone": phone}))
    return of_ids(connection, keys, customer_ids) if customer_ids else []


def of_ids(connection: Connection, keys: MappingKeys, customer_ids: Sequence[str]) -> list[CustomerStatus]:
    """Return customers by accounting's ids, those that there are."""
    statement = text(_CUSTOMERS.format(customer=keys.customer))
    return [_customer(tuple(row)) for row in connection.execute(statement, {"customer_ids": list(customer_ids)})]


def kept_of(connection: Connection, word: str, phone: str | None) -> list[Kept]:
    """Return what is kept of a client, by its phone or by InBoost's id."""
    return [_kept(tuple(row)) for row in connection.execute(_OF_PHONE, {"word": word, "phone": phone})]


def kept(connection: Connection, *, conflicts_only: bool, everything: bool, count_max: int) -> list[Kept]:
    """Return what could not be stored, the oldest first; `everything`: also what has been decided."""
    kinds = [*CONFLICTS] if conflicts_only else [*CONFLICTS, "no_phone", "unreadable", "refused"]
    given = {"kinds": kinds, "everything": everything, "count_max": count_max}
    return [_kept(tuple(row)) for row in connection.execute(_LIST, given)]


def kept_counts(connection: Connection) -> dict[str, int]:
    """Count what could not be stored and nobody has decided, by kind."""
    return {row[0]: row[1] for row in connection.execute(_COUNTS)}


def take(connection: Connection, number: int) -> Kept | None:
    """Return one, locked until the transaction ends; None where it is gone."""
    row = connection.execute(_FIND, {"number": number}).first()
    return None if row is None else _kept(tuple(row))


def is_customer(connection: Connection, customer_id: str) -> bool:
    """Tell whether accounting has this customer."""
    return bool(connection.scalar(_IS_CUSTOMER, {"customer_id": customer_id}))


def decide(connection: Connection, it: Kept, customer_id: str | None, instruction: Instruction) -> None:
    """Write down for which customer a person has decided, or to let it be; the next try stores it so."""
    decision = "ignore" if customer_id is None else "customer"
    given = {"number": it.number, "decision": decision, "customer_id": customer_id}
    connection.execute(_DECIDE, given)
    detail = {"number": it.number, "kind": it.kind, "decision": decision, "customer_id": customer_id}
    acts.record(connection, instruction, [Deed("resolve", detail=msgspec.json.encode(detail).decode())])


def _customer(values: Sequence[Any]) -> CustomerStatus:
    link = None if values[10] is None else LinkStatus(*values[10:])
    return CustomerStatus(*(*values[:10], link))


def _kept(values: Sequence[Any]) -> Kept:
    client = None if values[1] == "unreadable" else msgspec.json.decode(values[7], type=Client)
    return Kept(*(*values[:7], client))
