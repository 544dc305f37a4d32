"""The phone that an order goes to, and its way on.

    address: a phone is chosen, what waited goes on     one transaction
    promising: of what waits, what may go on now

What a crash leaves, line by line, from the sale on:
    before identify commits         nothing: the order is still to be identified
    after it, before `address`      a contact more; the order is identified again, which then brings nothing new
    before `address` commits        the same: addressees and deliveries change in one transaction, or not at all
    after it                        the deliveries are pending with their phone written down; the relay finds them

So nothing is released twice: only what still waits is, and its row is locked. Nothing is sent under two phones:
`address` gives a phone to waiting deliveries only, and of what waits InBoost has done nothing.

Locks: the deliveries that wait in these lanes, in order (`lanes.hold_waiting`), then rows of outbox.addressee. Nobody
else changes the latter but another worker's identification, which comes by the same deliveries first.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, BIGINT

from outbox_worker.database import acts, directory, lanes
from outbox_worker.database.addressees import NO_PHONE, Order


@dataclass(frozen=True, slots=True)
class Addressed:
    """A delivery that was given its addressee. `chosen_as` is None where no phone is known yet."""

    event_id: str
    operation: str
    contact_id: int | None
    chosen_as: str | None
    goes_on: bool  # or waits on, if chosen_as is None; else it was not waiting any more


_GIVEN = (
    bindparam("event_ids", type_=ARRAY(Text)),
    bindparam("contact_ids", type_=ARRAY(BIGINT)),
    bindparam("customer_phones", type_=ARRAY(Text)),
)
# The phone under which InBoost knows the person: that of the customer's own client, or of the client that was linked
# first among the phones of the contact's cluster. If it knows none: accounting's of the customer; where accounting has
# no customer, that to which a customer's order with this contact went; the primary's, or the oldest there is.
# `owner` names the lane: the customer who goes by this phone, so that a person's orders with and without a customer are
# in order; where accounting has no such customer, the phone itself.
_CHOSEN = """
with asked as materialized (
    select it.event_id, it.contact_id, it.customer_phone, event.customer_id
    from unnest(:event_ids, :contact_ids, :customer_phones) as it (event_id, contact_id, customer_phone)
    join outbox.event event on event.event_id = it.event_id
), chosen as materialized (
    select asked.*, coalesce(own.phone, linked.phone, asked.customer_phone, ordered.phone, known.phone) as phone,
           case when own.phone is not null then 'client' when linked.phone is not null then 'linked'
                when asked.customer_phone is not null then 'customer' when ordered.phone is not null then 'ordered'
                when known.phone is not null then 'contact' end as chosen_as
    from asked
    left join outbox.client own on own.customer_id = asked.customer_id
    left join identity.contact with_order on with_order.contact_id = asked.contact_id
    left join lateral (
        select client.phone
        from identity.contact contact join outbox.client client on client.phone = contact.phone_key
        where contact.primary_id = with_order.primary_id and contact.deleted_at is null
        order by client.linked_at, client.customer_id
        limit 1
    ) linked on own.phone is null
    left join lateral (
        select it.phone
        from identity.contact contact join outbox.addressee it on it.contact_id = contact.contact_id
        where contact.primary_id = with_order.primary_id and it.customer_id is not null and it.phone is not null
        order by it.chosen_at desc, it.event_id
        limit 1
    ) ordered on asked.customer_id is null
    left join lateral (
        select contact.phone_normal as phone
        from identity.contact contact
        where contact.primary_id = with_order.primary_id and contact.deleted_at is null
          and contact.phone_normal is not null
        order by contact.linked_id is not null, contact.created_at, contact.contact_id
        limit 1
    ) known on true
)
"""
_PROMISING = text(f"""
{_CHOSEN}
select distinct chosen.event_id
from chosen
join outbox.addressee addressee on addressee.event_id = chosen.event_id
join outbox.delivery delivery on delivery.lane = addressee.lane and delivery.delivery_id = addressee.delivery_id
where delivery.state = 'waiting' and delivery.reason not like :follows
  and (chosen.phone is distinct from addressee.phone
       or exists (
           select from outbox.client client
           where client.phone = chosen.phone and client.linked_at > addressee.chosen_at))
""").bindparams(*_GIVEN)  # noqa: S608  # all of it is ours
_LANES = text("""
select distinct addressee.lane
from outbox.addressee addressee
join outbox.delivery delivery on delivery.lane = addressee.lane and delivery.delivery_id = addressee.delivery_id
where addressee.event_id = any (:event_ids) and delivery.state = 'waiting'
""").bindparams(bindparam("event_ids", type_=ARRAY(Text)))
_ADDRESS = text(f"""
{_CHOSEN}, owned as materialized (
    select chosen.*, coalesce(
               chosen.customer_id,
               (select client.customer_id from outbox.client client where client.phone = chosen.phone),
               (select min(it.customer_id) from outbox.customer_phone it where it.phone = chosen.phone),
               chosen.phone, chosen.event_id) as owner
    from chosen
), moved as (
    update outbox.delivery delivery
    set lane = outbox.lane_of(delivery.destination, owned.owner),
        state = case when owned.phone is null then 'waiting' else 'pending' end,
        reason = case when owned.phone is null then :no_phone end
    from owned join outbox.addressee addressee on addressee.event_id = owned.event_id
    where delivery.lane = addressee.lane and delivery.delivery_id = addressee.delivery_id
      and delivery.state = 'waiting' and delivery.reason not like :follows
    returning delivery.event_id, delivery.operation, delivery.lane
)
update outbox.addressee addressee
set contact_id = owned.contact_id, identified_at = coalesce(addressee.identified_at, clock_timestamp()),
    lane = coalesce(moved.lane, it.lane),
    phone = case when moved.lane is null then it.phone else owned.phone end,
    chosen_as = case when moved.lane is null then it.chosen_as else owned.chosen_as end,
    chosen_at = case when moved.lane is null or owned.phone is null then it.chosen_at else clock_timestamp() end
from owned
join outbox.addressee it on it.event_id = owned.event_id
left join moved on moved.event_id = it.event_id and moved.operation = it.operation
where addressee.event_id = it.event_id and addressee.operation = it.operation
returning addressee.event_id, addressee.operation, addressee.contact_id, addressee.chosen_as, moved.lane is not null
""").bindparams(*_GIVEN)  # noqa: S608  # all of it is ours


def promising(connection: Connection, orders: Sequence[Order], customer_phones: Sequence[str | None]) -> set[str]:
    """Return the events of which another phone would be chosen now, or one that InBoost has come to know since."""
    given = _asked(orders, [it.contact_id for it in orders], customer_phones)
    return set(connection.scalars(_PROMISING, given | {"follows": lanes.FOLLOWS}))


def address(
    connection: Connection,
    orders: Sequence[Order],
    contact_ids: Sequence[int | None],
    customer_phones: Sequence[str | None],
    blocking: Collection[str],
) -> list[Addressed]:
    """Choose a phone for each order, and let its deliveries go on; `customer_phones` are accounting's, in E.164.

    What no phone is known for goes on waiting, in a lane of its own where it has no customer. What is not waiting any
    more, because a person released it, stays as it is.
    """
    event_ids = [it.event_id for it in orders]
    numbers = set(connection.scalars(_LANES, {"event_ids": event_ids}))
    lanes.hold_waiting(connection, numbers)
    known = [(it.customer_id, it.customer_phone, phone) for it, phone in zip(orders, customer_phones, strict=True)]
    if named := sorted({(it, spelled, phone) for it, spelled, phone in known if it is not None and phone is not None}):
        directory.add(connection, [it[0] for it in named], [it[1] for it in named], [it[2] for it in named])
    given = _asked(orders, contact_ids, customer_phones) | {"follows": lanes.FOLLOWS, "no_phone": NO_PHONE}
    addressed = [Addressed(*row) for row in connection.execute(_ADDRESS, given)]
    if numbers:
        lanes.release_followers(connection, numbers, blocking)
        acts.wake_relay(connection)
    return addressed


def _asked(
    orders: Sequence[Order], contact_ids: Sequence[int | None], customer_phones: Sequence[str | None]
) -> dict[str, object]:
    event_ids = [it.event_id for it in orders]
    return {"event_ids": event_ids, "contact_ids": list(contact_ids), "customer_phones": list(customer_phones)}
