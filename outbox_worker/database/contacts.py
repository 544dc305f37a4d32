"""Contacts of customers, as people look at them and change them: show, link, unlink, erase.

Each change is a function of schema identity that goes on alone, and one act, in one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
from psycopg import errors
from sqlalchemy import BigInteger, Connection, Text, bindparam, cast, exc, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY

from outbox_worker.database import acts, tables
from outbox_worker.database.acts import Deed, Instruction
from outbox_worker.errors import BeingSent, NothingMatched
from outbox_worker.rules.phones import normalise

_ERASURE = 122550254464893  # the doorbell's key and five
_BEGIN_ERASURE = text(f"select pg_advisory_xact_lock({_ERASURE})")
_FOR_AS_LONG_AS_IT_TAKES = text("set local lock_timeout = 0")
_HOLD_OFF_ERASURE = text(f"select pg_advisory_lock_shared({_ERASURE})")
_ALLOW_ERASURE = text(f"select pg_advisory_unlock_shared({_ERASURE})")

TAIL = 7  # digits at the end of a phone, the same in every spelling: by them the database looks, by its rules Python


@dataclass(frozen=True, slots=True)
class Contact:
    """A contact as it is stored. `linked_id` is None for a primary, `deleted_at` for a living one."""

    contact_id: int
    email: str | None
    phone_number: str | None
    phone_normal: str | None
    linked_id: int | None
    created_at: datetime
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class Traces:
    """What the outbox has of a person: events all about that person, and events with a list that the person is on."""

    event_ids: tuple[str, ...]
    shared_ids: tuple[str, ...]
    phones: tuple[str, ...]  # in every spelling that was met


def cluster(
    connection: Connection,
    *,
    contact_id: int | None = None,
    email: str | None = None,
    phone: str | None = None,
    region: str,
) -> list[Contact]:
    """Return all contacts of the customer who has this one, the primary first, then by age; deleted ones too."""
    it = tables.contact.c
    if contact_id is not None:
        meant = it.contact_id == contact_id
    elif email is not None:
        meant = it.email_key == func.identity.email_key(func.identity.given(email))
    else:
        meant = it.phone_key == (normalise(phone, region) or (phone or "").strip())
    living_first = select(it.primary_id).where(meant).order_by(it.deleted_at.desc().nulls_first()).limit(1)
    columns = (
        it.contact_id, it.email, it.phone_number, it.phone_normal, it.linked_id, it.created_at, it.deleted_at,
    )  # fmt: skip
    query = select(*columns).where(it.primary_id == living_first.scalar_subquery())
    ordered = query.order_by(it.linked_id.isnot(None), it.created_at, it.contact_id)
    return [Contact(*row) for row in connection.execute(ordered)]


def link(connection: Connection, one: int, other: int, instruction: Instruction) -> None:
    """Make one customer of two. Raises NothingMatched unless both are living contacts."""
    _call(connection, func.identity.link(one, other))
    _record(connection, instruction, "link", [one, other])


def unlink(connection: Connection, contact_id: int, instruction: Instruction) -> None:
    """Take a contact out of its cluster. Raises NothingMatched when it cannot leave."""
    _call(connection, func.identity.unlink(contact_id))
    _record(connection, instruction, "unlink", [contact_id])


def begin_erasure(connection: Connection) -> None:
    """Wait until no worker has orders in its hands that it identifies; none takes any until the transaction ends.

    To come before the look at what there is: what a worker has read and not identified yet would be known anew
    afterwards. Locks: this one, identity's, deliveries, as nobody who holds one of the others asks for it.
    """
    connection.execute(_BEGIN_ERASURE)


def hold_off_erasure(connection: Connection) -> None:
    """Wait until nobody is being erased, however long; nobody is until `allow_erasure`, or the end of the session."""
    connection.execute(_FOR_AS_LONG_AS_IT_TAKES)
    connection.execute(_HOLD_OFF_ERASURE)


def allow_erasure(connection: Connection) -> None:
    """Unsay `hold_off_erasure`."""
    connection.execute(_ALLOW_ERASURE)


def erase(connection: Connection, contacts: Sequence[Contact], traces: Traces, instruction: Instruction) -> int:
    """Forget a customer: contacts, and what the outbox has of them. Return how many duties were dropped.

    `begin_erasure` comes first, in the same transaction.
    Raises BeingSent when something is on its way; then nothing is changed once the transaction is rolled back.
    """
    primary = next(it.linked_id or it.contact_id for it in contacts)
    _call(connection, func.identity.erase(primary))
    arrays = [cast(list(it), ARRAY(Text)) for it in (traces.event_ids, traces.shared_ids, traces.phones)]
    dropped_count = _call(connection, func.outbox.erase_events(*arrays))
    _call(connection, func.outbox.erase_clients(cast([it for it in traces.phones if it.startswith("+")], ARRAY(Text))))
    _record(connection, instruction, "erase", [it.contact_id for it in contacts])
    return dropped_count


_NAMED = text(
    r"""
    select e.event_id, e.payload ->> 'phone', e.payload ->> 'contact_phone', e.payload ->> 'contact_email', p.phones
    from outbox.event e
    left join lateral (
        select array_agg(it) as phones
        from json_array_elements_text(
            case when json_typeof(e.payload -> 'phones') = 'array' then e.payload -> 'phones' end) it
        where right(regexp_replace(it, '\D', '', 'g'), :tail) = any (:tails)
    ) p on true
    where json_typeof(e.payload) = 'object' and (
        right(regexp_replace(e.payload ->> 'phone', '\D', '', 'g'), :tail) = any (:tails)
        or right(regexp_replace(e.payload ->> 'contact_phone', '\D', '', 'g'), :tail) = any (:tails)
        or lower(e.payload ->> 'contact_email') = any (:emails)
        or p.phones is not null)
    """
).bindparams(bindparam("tails", type_=ARRAY(Text)), bindparam("emails", type_=ARRAY(Text)))
_ADDRESSED = text(
    "select event_id from outbox.addressee where contact_id = any (:contact_ids) or phone = any (:phones)"
).bindparams(bindparam("contact_ids", type_=ARRAY(BigInteger)), bindparam("phones", type_=ARRAY(Text)))


def traces(connection: Connection, contacts: Sequence[Contact], region: str) -> Traces:
    """Find what the outbox has of a customer. Reads all events once: for an act that is rare."""
    phones = {_key(it.phone_number, region) for it in contacts} - {""}
    emails = {it.email.lower() for it in contacts if it.email}
    tails = {"".join(filter(str.isdigit, it))[-TAIL:] for it in phones} - {""}
    given = {"tail": TAIL, "tails": sorted(tails), "emails": sorted(emails)}
    own, shared, spellings = set(), set(), set(phones)
    for event_id, *named, listed in connection.execute(_NAMED, given):
        *spelled, email = named
        ours = [it for it in listed or () if _key(it, region) in phones]
        if any(_key(it, region) in phones for it in spelled) or (email or "").lower() in emails:
            own.add(event_id)
        elif ours:
            shared.add(event_id)
            spellings.update(ours)
    orders = {"contact_ids": [it.contact_id for it in contacts], "phones": sorted(phones)}
    own.update(connection.scalars(_ADDRESSED, orders))
    return Traces(tuple(sorted(own)), tuple(sorted(shared - own)), tuple(sorted(spellings)))


def customers_of(connection: Connection, event_ids: Sequence[str]) -> list[str]:
    """Return the customers of accounting whose events these are."""
    it = tables.event.c
    found = select(it.customer_id).where(it.event_id.in_(event_ids), it.customer_id.isnot(None)).distinct()
    return [row.customer_id for row in connection.execute(found.order_by(it.customer_id))]


def _key(phone: str | None, region: str) -> str:
    return normalise(phone, region) or (phone or "").strip()


def _record(connection: Connection, instruction: Instruction, act: str, contact_ids: Sequence[int]) -> None:
    detail = msgspec.json.encode({"contact_ids": contact_ids}).decode()
    acts.record(connection, instruction, [Deed(act, detail=detail)])


def _call(connection: Connection, function: object) -> int:
    try:
        return connection.execute(select(function)).scalar_one() or 0  # type: ignore[call-overload]
    except exc.DBAPIError as error:
        words = str(error.orig).partition("\n")[0]
        if isinstance(error.orig, errors.NoDataFound | errors.ObjectNotInPrerequisiteState):
            raise NothingMatched(words) from None
        if isinstance(error.orig, errors.ObjectInUse):
            raise BeingSent(f"{words}; nothing was changed. Give the command again soon.") from None
        raise
