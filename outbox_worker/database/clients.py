"""Clients of InBoost against customers of accounting: staged, matched set-wise, stored.

    differing ──▶ those that are not as they were stored: one probe of an index each, and nothing is written
    stage, known ──▶ what is known of each of them, in one statement
    store ──▶ integration.add_customer, integration.change_customer, the links, what could not be stored

All that writes is called in one transaction for some hundred clients at most. What it holds of accounting's: the rows
that add_customer and change_customer write, until it commits. So that no user of accounting can be the victim of a
deadlock with us, none of it waits for a lock for longer than `LOCK_MS_MAX`, and of its four or five statements none
takes longer than `STATEMENT_MS_MAX`, all together less than PostgreSQL's deadlock_timeout of a second: whoever waits
for us has us gone before anybody looks for a deadlock. One customer alone may take longer: one row closes no circle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from psycopg import Connection as Driver
from sqlalchemy import Connection, Row, TextClause, exc, text

from outbox_worker.database import directory, unstored
from outbox_worker.database.mapping_keys import MappingKeys
from outbox_worker.errors import Unrecordable
from outbox_worker.rules.clients import Client
from outbox_worker.rules.matching import Create, Customer, Known, Link, Store, Unstored

LOCK_MS_MAX = 100
STATEMENT_MS_MAX = 200
_REFUSALS = (
    "21",
    "22",
    "23",
    "P0",
    "40",
    "55P03",
    "57014",
)  # SQLSTATEs that a smaller batch, or a later run, may not meet

# What is written over has been read before. Where somebody has changed it since, the change is refused (40001): what a
# person has just typed is not overwritten by what was decided without knowing it.
_BEGIN = text("set transaction isolation level repeatable read")
_STAGE = text("""
create temporary table if not exists client_stage (
    position integer, client_key text, client_id text, phone text, first_name text, last_name text, birth_date date,
    source text, specialty text, updated_at timestamptz, digest bytea, remark text
) on commit delete rows
""")
_COPY = "copy pg_temp.client_stage from stdin"

# A scalar look-up for each row: no plan but the index's, whatever the statistics.
_DIFFERING = text("""
select given.position
from unnest(cast(:keys as text[]), cast(:client_ids as text[]), cast(:phones as text[]), cast(:digests as bytea[]))
    with ordinality given (client_key, client_id, phone, digest, position)
where (case when given.client_id is not null
            then (select client.digest from outbox.client where client.client_id = given.client_id)
            else (select client.digest from outbox.client where client.phone = given.phone) end)
      is distinct from given.digest
  and (select unstored.digest from outbox.unstored_client unstored where unstored.client_key = given.client_key)
      is distinct from given.digest
order by given.position
""")

_KNOWN = """
select stage.position,
       by_id.customer_id, by_id.client_id, by_id.phone,
       by_phone.customer_id, by_phone.client_id, by_phone.phone,
       of_customer.customer_id, of_customer.client_id, of_customer.phone,
       found.customer_ids, decided.customer_id is not null,
       customer.customer_id::text, customer.phone::text, customer.first_name::text, customer.last_name::text,
       case when customer.birth_date between '0001-01-01' and '9999-12-31' then customer.birth_date::date end,
       customer.source::text, customer.specialty::text,
       case when customer.changed_at between '0001-01-03' and '9999-12-29' then customer.changed_at end
from pg_temp.client_stage stage
left join lateral (select * from outbox.client where client.client_id = stage.client_id limit 1) by_id on true
left join lateral (select * from outbox.client where client.phone = stage.phone limit 1) by_phone on true
left join lateral (
    select array_agg(it.customer_id order by it.customer_id) as customer_ids
    from outbox.customer_phone it where it.phone = stage.phone
) found on true
left join lateral (
    select it.decided_customer_id as customer_id
    from outbox.unstored_client it where it.client_key = stage.client_key and it.decision = 'customer' limit 1
) decided on true
cross join lateral (
    select coalesce(decided.customer_id, by_id.customer_id, by_phone.customer_id,
                    case when cardinality(found.customer_ids) = 1 then found.customer_ids[1] end) as customer_id
) meant
left join lateral (
    select * from outbox.client where client.customer_id = meant.customer_id limit 1
) of_customer on true
left join lateral (
    select * from integration.customer where customer.customer_id = cast(meant.customer_id as {customer}) limit 1
) customer on true
order by stage.position
"""

_BOUNDS = text(
    f"select set_config('lock_timeout', '{LOCK_MS_MAX}ms', true), set_config('statement_timeout', :limit, true)"
)

_ADD = text("""
select stage.position,
       integration.add_customer(stage.phone, stage.first_name, stage.last_name, stage.birth_date, stage.source,
                                stage.specialty)
from (select * from pg_temp.client_stage where position = any (:positions) order by position) stage
""")
_CHANGE = text("""
select integration.change_customer(change.customer_id, change.phone, change.first_name, change.last_name,
                                   change.birth_date, change.source, change.specialty)
from (
    select *
    from unnest(cast(:customer_ids as text[]), cast(:phone as text[]), cast(:first_name as text[]),
                cast(:last_name as text[]), cast(:birth_date as date[]), cast(:source as text[]),
                cast(:specialty as text[]))
        given (customer_id, phone, first_name, last_name, birth_date, source, specialty)
    order by given.customer_id
) change
""")
# The links that a person's decision ends: this client's with another customer.
_UNLINK = text("""
delete from outbox.client client
using unnest(cast(:positions as integer[]), cast(:customer_ids as text[])) given (position, customer_id)
join pg_temp.client_stage stage using (position)
where (client.client_id = stage.client_id or client.phone = stage.phone) and client.customer_id <> given.customer_id
""")
# Another client than before is a new link, which has had nothing yet.
_LINK = text("""
insert into outbox.client as client (customer_id, client_id, phone, digest, updated_at, remark)
select given.customer_id, stage.client_id, stage.phone, stage.digest, stage.updated_at, stage.remark
from unnest(cast(:positions as integer[]), cast(:customer_ids as text[])) given (position, customer_id)
join pg_temp.client_stage stage using (position)
order by given.customer_id
on conflict (customer_id) do update
set client_id = coalesce(excluded.client_id, client.client_id), phone = excluded.phone, digest = excluded.digest,
    updated_at = excluded.updated_at, remark = excluded.remark, stored_at = clock_timestamp(), released_at = null,
    linked_at = case when excluded.client_id <> client.client_id then clock_timestamp() else client.linked_at end,
    history_sent_at = case when excluded.client_id <> client.client_id then null else client.history_sent_at end,
    balance_sent_at = case when excluded.client_id <> client.client_id then null else client.balance_sent_at end
returning xmax = 0
""")


@dataclass(frozen=True, slots=True)
class Stored:
    """What a transaction has stored: customers created and changed, links that are new."""

    created_count: int
    changed_count: int
    linked_count: int


def differing(connection: Connection, clients: Sequence[Client]) -> list[Client]:
    """Return those that are not as they were stored, or kept, the last time. Those without an id are identified."""
    given = {
        "keys": [it.key for it in clients],
        "client_ids": [it.client_id for it in clients],
        "phones": [it.phone for it in clients],
        "digests": [it.digest for it in clients],
    }
    return [clients[position - 1] for position in connection.scalars(_DIFFERING, given)]


def stage(connection: Connection, clients: Sequence[Client]) -> None:
    """Make clients known to the other statements of this transaction, by their position in the list. It comes first."""
    connection.execute(_BEGIN)
    connection.execute(_STAGE)
    driver = connection.connection.driver_connection
    assert isinstance(driver, Driver)  # noqa: S101  # always; SQLAlchemy cannot know it
    with driver.cursor() as cursor, cursor.copy(_COPY) as copy:
        for position, it in enumerate(clients):
            texts = (it.client_id, it.phone, it.first_name, it.last_name, it.birth_date, it.source, it.specialty)
            copy.write_row((position, it.key, *texts, it.updated_at, it.digest, "; ".join(it.remarks) or None))


def known(connection: Connection, keys: MappingKeys) -> list[Known]:
    """Return what is known of the staged clients, in their order."""
    return [_known(row) for row in connection.execute(_for_keys(_KNOWN, keys))]


def store(
    connection: Connection,
    clients: Sequence[Client],
    decided: Sequence[Create | Store | Unstored],
) -> Stored:
    """Store the staged clients as it was decided, or keep them with the reason why they cannot be stored.

    Raises Unrecordable where accounting or our tables refuse one of them, or somebody holds what it needs for too long;
    then the transaction can only be rolled back.
    """
    creates = [position for position, it in enumerate(decided) if isinstance(it, Create)]
    stores = {position: it for position, it in enumerate(decided) if isinstance(it, Store)}
    changed = [it for it in stores.values() if it.changes]
    try:
        if creates or changed:
            connection.execute(_BOUNDS, {"limit": f"{STATEMENT_MS_MAX}ms" if len(clients) > 1 else "5s"})
        created = _create(connection, creates, clients)
        _change(connection, changed)
        linked = created | {position: it.customer_id for position, it in stores.items()}
        linked_count = _link(connection, linked, [position for position, it in stores.items() if it.replaces])
        unstored.keep(connection, clients, {n: it for n, it in enumerate(decided) if isinstance(it, Unstored)})
        if linked:
            unstored.forget(connection, [clients[position] for position in linked])
    except exc.DBAPIError as error:
        raise _refused(error) from None
    return Stored(len(creates), len(changed), linked_count)


def _known(row: Row[Any]) -> Known:
    values = tuple(row)
    return Known(
        by_id=_link_of(values[1:4]),
        by_phone=_link_of(values[4:7]),
        of_customer=_link_of(values[7:10]),
        customer_ids=tuple(values[10] or ()),
        is_decided=values[11],
        customer=None if values[12] is None else Customer(*values[12:]),
    )


def _link_of(values: Sequence[Any]) -> Link | None:
    return None if values[0] is None else Link(*values)


def _create(connection: Connection, positions: Sequence[int], clients: Sequence[Client]) -> dict[int, str]:
    if not positions:
        return {}
    created: dict[int, str] = {row[0]: row[1] for row in connection.execute(_ADD, {"positions": positions})}
    if None in created.values():
        raise Unrecordable("integration.add_customer returned no id")
    phones = [clients[position].phone for position in created]
    directory.put(connection, list(created.values()), phones, phones)
    return created


def _change(connection: Connection, changed: Sequence[Store]) -> None:
    if not changed:
        return
    names = ("phone", "first_name", "last_name", "birth_date", "source", "specialty")
    values = {name: [it.changes.get(name) for it in changed] for name in names}
    connection.execute(_CHANGE, values | {"customer_ids": [it.customer_id for it in changed]})
    moved = {it.customer_id: it.changes["phone"] for it in changed if "phone" in it.changes}
    if moved:
        phones = [str(phone) for phone in moved.values()]
        directory.put(connection, list(moved), phones, phones)


def _link(connection: Connection, linked: Mapping[int, str], replacing: Sequence[int]) -> int:
    if not linked:
        return 0
    if replacing:
        given = {"positions": replacing, "customer_ids": [linked[position] for position in replacing]}
        connection.execute(_UNLINK, given)
    given = {"positions": list(linked), "customer_ids": list(linked.values())}
    return sum(connection.scalars(_LINK, given))


def _refused(error: exc.DBAPIError) -> Exception:
    sqlstate = getattr(error.orig, "sqlstate", None) or ""
    if not sqlstate.startswith(_REFUSALS):
        return error
    if sqlstate == "40001":
        return Unrecordable(
            "somebody changed the customer while the sync was at it; nothing to do: the next run decides anew"
        )
    words = str(error.orig).partition("\n")[0]
    return Unrecordable(f"{words} ({sqlstate})")


@lru_cache
def _for_keys(statement: str, keys: MappingKeys) -> TextClause:
    return text(statement.format(customer=keys.customer))
