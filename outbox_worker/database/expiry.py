"""Lots of bonuses that will expire, and of which nobody was told yet; the telling, recorded.

Everything of a notice is one transaction: the lots are noted as told, and the event with the frozen list is recorded. A
crash before it commits leaves nothing, and the notice is made again; after it, there is nothing left to tell.

Locks: the keys of the lots in outbox.told_lot, in their order, then that of the event. Who makes a notice of the same
lots at the same time waits here, and then finds them told. Nothing of accounting's is locked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import msgspec
from sqlalchemy import Connection, text

from outbox_worker.errors import ConfigurationError, SchemaMismatch
from outbox_worker.rules.expiry import Horizon, Lot

KIND = "bonus_expiry"

_PRESENT = text("select to_regclass('integration.bonus_lot') is not null")

# The date is compared as it is in the view, so that accounting's index can find it.
_UNTOLD = text("""
select lot.bonus_lot_id::text, lot.expires_on::date, lot.phone::text
from integration.bonus_lot lot
where lot.expires_on >= :today and lot.expires_on < :expires_before and lot.remaining > 0
  and not exists (select from outbox.told_lot told where told.bonus_lot_id = lot.bonus_lot_id::text collate "C")
order by lot.expires_on, lot.bonus_lot_id
""")

_TELL = text("""
insert into outbox.told_lot (bonus_lot_id, event_id, expires_on)
select lot.bonus_lot_id, :event_id, lot.expires_on
from unnest(cast(:bonus_lot_ids as text[]), cast(:dates as date[])) lot (bonus_lot_id, expires_on)
order by lot.bonus_lot_id collate "C"
on conflict do nothing
returning bonus_lot_id
""")

_IS_SENT = text("select exists (select from outbox.route it where it.kind = 'bonus_expiry' and it.enabled)")

_IS_RECORDED = text("select exists (select from outbox.event event where event.event_id = :event_id)")

# A list that was normalised when it was recorded is sent as it is: to read 100,000 numbers again takes two seconds,
# which the relay's loop does not have.
_RECORD = text("""
select outbox.record_event(
    'bonus_expiry', :source_id, null,
    json_build_object('expires_before', cast(:expires_before as date), 'normalised', true,
                      'phones', cast(:phones as json)),
    clock_timestamp())
""")

_RECORDED = text("""
select (event.payload->>'expires_before')::date, event.payload->'phones',
       exists (select from outbox.delivery delivery where delivery.event_id = event.event_id),
       exists (select from outbox.act act where act.event_id = event.event_id and act.act = 'discard')
from outbox.event event
where event.event_id = :event_id and event.kind = 'bonus_expiry'
""")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A notice that was recorded; `is_open`: it is still to be sent; `is_discarded`: a person gave it up."""

    expires_before: date
    phones: list[str]
    is_open: bool
    is_discarded: bool


def recorded(connection: Connection, event_id: str) -> Recorded | None:
    """Return a notice, None if there is none of that name."""
    row = connection.execute(_RECORDED, {"event_id": event_id}).one_or_none()
    return None if row is None else Recorded(*row)


def untold(connection: Connection, horizon: Horizon) -> list[Lot]:
    """Return the lots that expire within the horizon, with something left of them, and of which nobody was told."""
    if not connection.scalar(_PRESENT):
        raise SchemaMismatch(
            "schema integration lacks view bonus_lot: nobody knows what expires. Give your mapping the view that "
            "sql/accounting/reference_mapping.sql has, or switch the notice off: [rounds.expiry_notice] enabled = false"
        )
    parameters = {"today": horizon.today, "expires_before": horizon.expires_before}
    return [Lot(*row) for row in connection.execute(_UNTOLD, parameters)]


def is_recorded(connection: Connection, source_id: str) -> bool:
    """Tell whether there is such a notice."""
    return bool(connection.scalar(_IS_RECORDED, {"event_id": f"{KIND}:{source_id}"}))


def tell(connection: Connection, source_id: str, lots: Sequence[Lot]) -> set[str]:
    """Note that these lots are told by an event, and return those that were not told by another meanwhile."""
    parameters = {
        "event_id": f"{KIND}:{source_id}",
        "bonus_lot_ids": [lot.bonus_lot_id for lot in lots],
        "dates": [lot.expires_on for lot in lots],
    }
    return set(connection.scalars(_TELL, parameters))


def record(connection: Connection, source_id: str, expires_before: date, phones: Sequence[str]) -> bool:
    """Record the notice by the one door; return whether it is new.

    Raises ConfigurationError where the workers do not send it: nobody would be told, and the lots would count as told.
    """
    if not connection.scalar(_IS_SENT):
        raise ConfigurationError(
            "the workers' settings switch expiry_webhook off, so that nobody would be told; switch it on "
            "([inboost.operations.expiry_webhook] enabled), restart the workers, and try again"
        )
    encoded = msgspec.json.encode(list(phones)).decode()
    parameters = {"source_id": source_id, "expires_before": expires_before, "phones": encoded}
    return bool(connection.scalar(_RECORD, parameters))
