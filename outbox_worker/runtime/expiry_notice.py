"""The expiry notice: once a day, one event with the phones of all whose bonuses will expire soon.

    lots not told of ──phones in E.164, each once──▶ noted as told, and recorded as one event      one transaction

A day has one notice: its source id is the date in the shop's zone, and when the round is repeated after a crash it
finds the event, or finds nothing to tell. What a person sends beside it has the date and a number. A day that was
missed is made up for by the next notice: whose lots were not told is still to be told, until they have expired.
One that a person discarded is made anew when a person says so, by `send_again`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from outbox_worker.database import acts
from outbox_worker.database import expiry as database
from outbox_worker.database.acts import Deed, Instruction
from outbox_worker.database.engine import engine, explained, transaction
from outbox_worker.database.reconciliation import clock
from outbox_worker.errors import NotDiscarded, NothingMatched, OutboxWorkerError
from outbox_worker.rules.expiry import Horizon, Notice, notice
from outbox_worker.runtime.rounds import Ticking

STATEMENT_S_MAX = 600.0  # the lots of a customer are added up from all entries


@dataclass(frozen=True, slots=True)
class Told:
    """A notice as it was recorded, or would be; `event_id` is None where nobody is to be told."""

    event_id: str | None
    horizon: Horizon
    notice: Notice


@dataclass(frozen=True, slots=True)
class ExpiryNotice:
    """Makes notices. Lots count that expire today, or up to `horizon_days` later, by the calendar of the zone."""

    conninfo: str
    zone: ZoneInfo
    horizon_days: int
    region: str

    def __call__(self, ticking: Ticking) -> Mapping[str, int]:
        """Make the notice of this day, unless it has one: the round."""
        day = self._day_of(ticking.began_at)
        with self._transaction() as connection:
            if database.is_recorded(connection, str(day)):
                return {"event_count": 0}
            ticking.go_on()
            told = self._tell(connection, day, str(day))
            ticking.go_on()  # the last moment to think better of it
        return {
            "event_count": int(told.event_id is not None),
            "phone_count": len(told.notice.phones),
            "lot_count": len(told.notice.lots),
            "unusable_phone_count": len(told.notice.unusable_lots),
        }

    def preview(self) -> Told:
        """Return the notice that would be made now, and change nothing."""
        with self._transaction() as connection:
            day = self._day_of(clock(connection))
            found = self._find(connection, day)
            source_id = _free_source_id(connection, day)
        return Told(f"{database.KIND}:{source_id}" if found.phones else None, self._horizon(day), found)

    def send(self, instruction: Instruction) -> Told:
        """Make a notice now because a person says so, beside that of the day if there is one."""
        with self._transaction() as connection:
            day = self._day_of(clock(connection))
            told = self._tell(connection, day, _free_source_id(connection, day))
            if told.event_id is not None:
                acts.record(connection, instruction, [Deed("record", event_id=told.event_id)])
        return told

    def preview_again(self, event_id: str) -> Told:
        """Return what `send_again` would record, and change nothing. Raises as it does."""
        with self._transaction() as connection:
            return self._again(connection, event_id)

    def send_again(self, instruction: Instruction, event_id: str) -> Told:
        """Make a notice anew that a person had discarded, with the same frozen list.

        Its name is that of the discarded one, so that it is made anew once. Raises NothingMatched where there is no
        notice of that name, or none that would reach anybody; ConfigurationError where it was not discarded.
        """
        with self._transaction() as connection:
            told = self._again(connection, event_id)
            _, _, source_id = str(told.event_id).partition(":")
            if not database.record(connection, source_id, told.horizon.expires_before, told.notice.phones):
                raise NothingMatched(f"{event_id} was told again already, by {told.event_id}: see `events show`")
            detail = msgspec.json.encode({"again": event_id}).decode()
            acts.record(connection, instruction, [Deed("record", event_id=told.event_id, detail=detail)])
        return told

    def _again(self, connection: Any, event_id: str) -> Told:
        found, today = database.recorded(connection, event_id), self._day_of(clock(connection))
        if found is None:
            raise NothingMatched(f"there is no notice {event_id}; `outbox-worker events list --kind bonus_expiry`")
        if not found.is_discarded or found.is_open:
            raise NotDiscarded(
                f"{event_id} was not discarded: it was delivered, or is still to be; `outbox-worker events show "
                f"{event_id}` tells. A dead letter is sent again by `outbox-worker dead-letters requeue {event_id}`"
            )
        if not found.phones or found.expires_before <= today:
            raise NothingMatched(f"what {event_id} tells of has expired, or nobody is left in it")
        return Told(f"{event_id}-again", Horizon(today, found.expires_before), Notice([], found.phones, []))

    def _tell(self, connection: Any, day: date, source_id: str) -> Told:
        horizon, found = self._horizon(day), self._find(connection, day)
        if found.lots:
            ours = database.tell(connection, source_id, found.lots)
            found = found if len(ours) == len(found.lots) else found.only(ours, self.region)
        if not found.phones:
            return Told(None, horizon, found)
        if not database.record(connection, source_id, horizon.expires_before, found.phones):
            raise OutboxWorkerError(f"{database.KIND}:{source_id} was recorded by another at this moment; try again")
        return Told(f"{database.KIND}:{source_id}", horizon, found)

    def _find(self, connection: Any, day: date) -> Notice:
        return notice(database.untold(connection, self._horizon(day)), self.region)

    def _horizon(self, day: date) -> Horizon:
        return Horizon.from_days(day, self.horizon_days)

    def _day_of(self, instant: datetime) -> date:
        return instant.astimezone(self.zone).date()

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        made = engine(self.conninfo, application_name="outbox-worker expiry", statement_timeout_s=STATEMENT_S_MAX)
        with explained(), transaction(made) as connection:
            yield connection


def _free_source_id(connection: Any, day: date) -> str:
    """Name another notice of the day; its own name is left to the round."""
    names = (f"{day}-{number}" for number in count(2))
    return next(name for name in names if not database.is_recorded(connection, name))
