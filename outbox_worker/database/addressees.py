"""Orders with contact data, as outbox.addressee has them: found, identified, closed. `addressing` lets them go on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Text, TextClause, and_, bindparam, exc, or_, select, text, tuple_
from sqlalchemy.dialects.postgresql import ARRAY

from outbox_worker.database import acts, lanes, tables
from outbox_worker.database.acts import Deed, Instruction
from outbox_worker.database.deliveries import Delivery, described
from outbox_worker.database.mapping_keys import MappingKeys
from outbox_worker.errors import Unrecordable
from outbox_worker.rules.asking import Ask

TO_BE_IDENTIFIED = "to be identified"  # the reasons of what waits; sql/install/await_identity.sql has this one
NO_PHONE = "no phone of the buyer is known yet"
_WITHOUT = Instruction("outbox-worker", "waited for a phone until it was older than the window of history")
_NO_CLIENT = Instruction("outbox-worker", "waited for its client until it was older than the window of history")


@dataclass(frozen=True, slots=True)
class Order:
    """An event with contact data, as it was recorded. `contact_id` is None while it is not identified."""

    event_id: str
    customer_id: str | None
    email: str | None
    phone: str | None
    customer_phone: str | None  # as accounting spells it
    contact_id: int | None = None


@dataclass(frozen=True, slots=True)
class Addressee:
    """Whom a delivery goes to, as a person is told."""

    event_id: str
    operation: str
    identified_at: datetime | None
    contact_id: int | None
    phone: str | None
    chosen_as: str | None
    chosen_at: datetime | None


_ORDER = """
select it.event_id, event.customer_id, event.payload ->> 'contact_email', event.payload ->> 'contact_phone',
       event.payload ->> 'phone', it.contact_id
from it join outbox.event event on event.event_id = it.event_id
"""
# In order of recording, so that a person's first contact is the primary. Read by the index that holds these alone.
_UNIDENTIFIED = text(f"""
with it as (
    select event_id, contact_id, min(delivery_id) as delivery_id
    from (
        select event_id, contact_id, delivery_id from outbox.addressee
        where identified_at is null order by delivery_id limit :count_max
    ) oldest
    group by event_id, contact_id
)
{_ORDER} order by it.delivery_id
""")  # noqa: S608  # all of it is ours
# Whose delivery has ended meanwhile is taken off the list.
_WITHOUT_PHONE = text(f"""
with ended as (
    update outbox.addressee addressee set chosen_as = 'never'
    where addressee.identified_at is not null and addressee.phone is null and addressee.chosen_as is null
      and not exists (
          select from outbox.delivery delivery
          where delivery.lane = addressee.lane and delivery.delivery_id = addressee.delivery_id)
), it as (
    select distinct addressee.event_id, addressee.contact_id
    from outbox.addressee addressee
    join outbox.delivery delivery on delivery.lane = addressee.lane and delivery.delivery_id = addressee.delivery_id
    where addressee.identified_at is not null and addressee.phone is null and addressee.chosen_as is null
      and delivery.state = 'waiting'
)
{_ORDER}
""")  # noqa: S608  # all of it is ours
# Those that have a phone and wait nevertheless: InBoost does not know it.
_UNKNOWN = text(f"""
with it as (
    select distinct addressee.event_id, addressee.contact_id
    from outbox.delivery delivery
    join outbox.addressee addressee
        on addressee.event_id = delivery.event_id and addressee.operation = delivery.operation
    where delivery.state = 'waiting' and delivery.reason not like :follows and addressee.phone is not null
)
{_ORDER}
""")  # noqa: S608  # all of it is ours

_ASKS = [bindparam(name, type_=ARRAY(Text)) for name in ("emails", "phones", "phone_normals")]
# One call and one transaction each: see sql/install/identity_identify.sql.
_IDENTIFY = text("select identity.identify(:email, :phone, :phone_normal)")
_KNOWN = text("""
select place from identity.known(:emails, :phones, :phone_normals) where answer is not null
""").bindparams(*_ASKS)
_CONTACTS_OF = text("""
select coalesce(
    (select contact_id from identity.contact
     where email_key = given.email_key and phone_key = given.phone_key and deleted_at is null limit 1),
    (select contact_id from identity.contact where phone_key = given.phone_key and deleted_at is null limit 1),
    (select contact_id from identity.contact where email_key = given.email_key and deleted_at is null limit 1))
from (
    select identity.email_key(identity.given(ask.email)) as email_key,
           coalesce(identity.given(ask.phone_normal), identity.given(ask.phone)) as phone_key, ask.place
    from unnest(:emails, :phones, :phone_normals) with ordinality ask (email, phone, phone_normal, place)
    offset 0
) given
order by given.place
""").bindparams(*_ASKS)
_CUSTOMERS = """
select customer.customer_id::text, customer.email::text, customer.phone::text
from integration.customer customer
where customer.customer_id = any (cast(:customer_ids as {key}[])) and customer.email is not null
  and customer.phone is not null
"""
# An e-mail address that several customers have says nothing certain.
_BY_EMAIL = text("""
with wanted as materialized (
    select distinct contact.email_key
    from outbox.addressee addressee join identity.contact contact on contact.contact_id = addressee.contact_id
    where addressee.identified_at is not null and addressee.phone is null and addressee.chosen_as is null
      and contact.email_key is not null
)
select min(customer.customer_id::text), min(customer.email::text), min(customer.phone::text)
from integration.customer customer
join wanted on wanted.email_key = lower(btrim(customer.email::text))
where customer.phone is not null
group by wanted.email_key
having count(distinct customer.phone::text) = 1
""")


def unidentified(connection: Connection, count_max: int) -> list[Order]:
    """Return orders that are to be identified, in order of recording."""
    return _orders(connection, _UNIDENTIFIED, count_max=count_max)


def without_phone(connection: Connection) -> list[Order]:
    """Return orders that wait until a phone is known."""
    return _orders(connection, _WITHOUT_PHONE)


def unknown(connection: Connection) -> list[Order]:
    """Return orders that wait under a phone that InBoost does not know. Looks through all that is to be done."""
    return _orders(connection, _UNKNOWN, follows=lanes.FOLLOWS)


def identify(connection: Connection, ask: Ask) -> None:
    """Have it known that these belong together; the transaction is to be ended at once. Raises Unrecordable."""
    try:
        given = {"email": ask.email, "phone": ask.phone, "phone_normal": ask.phone_normal}
        connection.execute(_IDENTIFY, given)
    except (exc.DataError, exc.IntegrityError) as error:
        raise Unrecordable(str(error.orig).partition("\n")[0]) from None


def known(connection: Connection, asks: Sequence[Ask]) -> set[int]:
    """Return the places of those that bring nothing new."""
    return {place - 1 for place in connection.scalars(_KNOWN, _values(asks))}


def contacts_of(connection: Connection, asks: Sequence[Ask]) -> list[int | None]:
    """Return the contact that each order was made with, None where there is none such."""
    return list(connection.scalars(_CONTACTS_OF, _values(asks)))


def customers(connection: Connection, keys: MappingKeys, customer_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return e-mail address and phone of those of these customers who have both."""
    given = {"customer_ids": list(customer_ids)}
    rows = _of_accounting(connection, text(_CUSTOMERS.format(key=keys.customer)), given)
    return {row[0]: (row[1], row[2]) for row in rows}


def customers_by_email(connection: Connection) -> list[tuple[str, str, str]]:
    """Return id, e-mail address and phone of customers whose e-mail address an order has that lacks a phone.

    Walks through all customers.
    """
    return [(row[0], row[1], row[2]) for row in _of_accounting(connection, _BY_EMAIL, {})]


def expire(connection: Connection, since: datetime, blocking: Collection[str]) -> int:
    """Close what has waited for a phone, or without a customer for its client, since before the window of history.

    What counts is when it was recorded: an order that was entered late has not waited.
    """
    delivery, addressee = tables.delivery.c, tables.addressee.c
    is_old = (
        described()
        .add_columns(addressee.phone)
        .join(
            tables.addressee, and_(addressee.event_id == delivery.event_id, addressee.operation == delivery.operation)
        )
        .where(
            delivery.state == "waiting",
            delivery.reason.not_like(lanes.FOLLOWS),
            or_(addressee.phone.is_(None), addressee.customer_id.is_(None)),
            addressee.identified_at.is_not(None),
            tables.event.c.recorded_at < since,
        )
        .with_for_update(of=tables.delivery, skip_locked=True)
    )
    expired = [(Delivery(*row[:-1]), row[-1]) for row in connection.execute(is_old)]
    if expired:
        is_expired = tuple_(delivery.lane, delivery.delivery_id).in_([it.key for it, _ in expired])
        connection.execute(tables.delivery.delete().where(is_expired))
        for reason, of_phone in ((_WITHOUT, False), (_NO_CLIENT, True)):
            acts.record(connection, reason, [_deed(it) for it, phone in expired if (phone is not None) == of_phone])
        lanes.release_followers(connection, {it.lane for it, _ in expired}, blocking)
        acts.wake_relay(connection)
    return len(expired)


def of_events(connection: Connection, event_ids: Sequence[str]) -> list[Addressee]:
    """Return the addressees of these events' deliveries; there are none of events without contact data."""
    it = tables.addressee.c
    columns = (it.event_id, it.operation, it.identified_at, it.contact_id, it.phone, it.chosen_as, it.chosen_at)
    query = select(*columns).where(it.event_id.in_(event_ids)).order_by(it.event_id, it.operation)
    return [Addressee(*row) for row in connection.execute(query)]


def of_contacts(connection: Connection, contact_ids: Sequence[int], count_max: int) -> dict[int, list[str]]:
    """Return the newest events, at most so many, that were made with each of these contacts."""
    it = tables.addressee.c
    query = select(it.contact_id, it.event_id).where(it.contact_id.in_(contact_ids)).distinct()
    found: dict[int, list[str]] = {}
    for row in connection.execute(query.order_by(it.event_id.desc()).limit(count_max)):
        found.setdefault(row.contact_id, []).append(row.event_id)
    return found


def _orders(connection: Connection, statement: TextClause, **given: object) -> list[Order]:
    return [Order(*row) for row in connection.execute(statement, given)]


def _of_accounting(connection: Connection, statement: TextClause, given: Mapping[str, object]) -> Sequence[Any]:
    """Ask the mapping. What it cannot say is not known; orders are identified all the same."""
    try:
        return connection.execute(statement, given).all()
    except (exc.DataError, exc.ProgrammingError):
        connection.rollback()
        return []


def _values(asks: Sequence[Ask]) -> dict[str, list[str | None]]:
    return {
        "emails": [it.email for it in asks],
        "phones": [it.phone for it in asks],
        "phone_normals": [it.phone_normal for it in asks],
    }


def _deed(delivery: Delivery) -> Deed:
    before = {"state": delivery.state, "reason": delivery.reason, "attempt_count": delivery.attempt_count}
    detail = msgspec.json.encode(before).decode()
    return Deed("expire", delivery.event_id, delivery.operation, delivery.destination, detail)
