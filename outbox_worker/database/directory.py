"""The directory of accounting's phones in E.164, by which clients are matched: outbox.customer_phone.

SQL cannot read phones. So what has changed since the last time is found by one walk through both tables, read here, and
written back. The walk is made by a cursor that outlives its transaction: no transaction lasts as long as the reading.
A customer that is gone from accounting takes its link along: its client is one without a customer again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, text

BATCH = 5_000

_DECLARE = text("""
declare changed_phone cursor with hold for
select customer.customer_id, known.customer_id, customer.spelled
from (
    select it.customer_id::text collate "C" as customer_id, it.phone::text as spelled from integration.customer it
) customer
full join outbox.customer_phone known on known.customer_id = customer.customer_id
where known.customer_id is null or customer.customer_id is null or known.spelled is distinct from customer.spelled
""")
_FETCH = text(f"fetch {BATCH} from changed_phone")
_CLOSE = text("close changed_phone")

_PUT = text("""
insert into outbox.customer_phone as known (customer_id, spelled, phone)
select given.customer_id, given.spelled, given.phone
from unnest(cast(:customer_ids as text[]), cast(:spelled as text[]), cast(:phones as text[]))
    given (customer_id, spelled, phone)
order by given.customer_id
on conflict (customer_id) do update set spelled = excluded.spelled, phone = excluded.phone
""")
_ADD = text("""
insert into outbox.customer_phone (customer_id, spelled, phone)
select distinct on (given.customer_id) given.customer_id, given.spelled, given.phone
from unnest(cast(:customer_ids as text[]), cast(:spelled as text[]), cast(:phones as text[]))
    given (customer_id, spelled, phone)
order by given.customer_id
on conflict do nothing
""")
_FORGET = text("""
with gone as (delete from outbox.customer_phone where customer_id = any (:customer_ids) returning customer_id)
delete from outbox.client client using gone where client.customer_id = gone.customer_id
""")
_COUNT = text("select count(*) from outbox.customer_phone")

Normalise = Callable[[str], str | None]


def open_changes(connection: Connection) -> None:
    """Look for what has changed; `take_changes` goes through it."""
    connection.execute(_DECLARE)


def take_changes(connection: Connection, normalise: Normalise) -> int:
    """Take in the next changes, and return how many they were: 0 when there is none left."""
    rows = connection.execute(_FETCH).all()
    there = [(here, spelled) for here, _, spelled in rows if here is not None]
    if gone := [known for here, known, _ in rows if here is None]:
        connection.execute(_FORGET, {"customer_ids": gone})
    if there:
        put(connection, [it[0] for it in there], [it[1] for it in there], [it[1] and normalise(it[1]) for it in there])
    if not rows:
        connection.execute(_CLOSE)
    return len(rows)


def put(
    connection: Connection, customer_ids: Sequence[str], spelled: Sequence[str | None], phones: Sequence[str | None]
) -> None:
    """Write phones down, `phones` being the spelled ones in E.164."""
    given = {"customer_ids": list(customer_ids), "spelled": list(spelled), "phones": [it or None for it in phones]}
    connection.execute(_PUT, given)


def add(
    connection: Connection, customer_ids: Sequence[str], spelled: Sequence[str | None], phones: Sequence[str | None]
) -> None:
    """Write phones down of customers that are not in the directory yet, as `put` does."""
    connection.execute(_ADD, {"customer_ids": list(customer_ids), "spelled": list(spelled), "phones": list(phones)})


def count(connection: Connection) -> int:
    """Return how many customers accounting has, as far as the directory knows."""
    return connection.scalar(_COUNT) or 0
