"""When a round is due: every so often, or once a day at a local time. The clock comes as an argument.

A time that passed while nobody ran is made up for once, however many passed. A run that failed or crashed is tried
again at growing waits, and a time is done only when a run for it was brought to its end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from outbox_worker.rules.schedule import Timetable as Waits

TRIES = Waits(first=timedelta(minutes=1), longest=timedelta(hours=1))
"""The waits after runs that failed or crashed; no chance in them, so that everybody sees the same time."""

_DAY = timedelta(days=1)
_DURATION = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class Every:
    """Again and again: the interval runs from the beginning of one run to that of the next. At first, at once."""

    interval: timedelta

    def after(self, done_for: datetime) -> datetime:
        """Return the first time after one that is done."""
        return done_for + self.interval

    def latest(self, now: datetime) -> datetime:
        """Return the time that a run begun now is for."""
        return now

    def done_at_first(self, now: datetime) -> datetime | None:
        """Return what counts as done when the round was never run: nothing."""
        return None


@dataclass(frozen=True, slots=True)
class Daily:
    """Once a day, when clocks in a zone show `at`. At first, not before the next such time.

    On the day when clocks skip that time it is as long after midnight as on other days; on the day when they show it
    twice, it is the first of the two (PEP 495, fold=0).
    """

    at: time
    zone: ZoneInfo

    def after(self, done_for: datetime) -> datetime:
        """Return the first time after one that is done."""
        day = self.day_of(done_for) - _DAY
        while (found := self._on(day)) <= done_for:
            day += _DAY
        return found

    def latest(self, now: datetime) -> datetime:
        """Return the time that a run begun now is for: the last that has come."""
        day = self.day_of(now) + _DAY
        while (found := self._on(day)) > now:
            day -= _DAY
        return found

    def done_at_first(self, now: datetime) -> datetime | None:
        """Return what counts as done when the round was never run: what was due before anybody wanted it."""
        return self.latest(now)

    def day_of(self, instant: datetime) -> date:
        """Return the date that calendars in the zone show."""
        return instant.astimezone(self.zone).date()

    def _on(self, day: date) -> datetime:
        return datetime.combine(day, self.at, self.zone).astimezone(UTC)


Timetable = Every | Daily


def due_at(
    timetable: Timetable, *, done_for: datetime | None, began_at: datetime | None, try_count: int
) -> datetime | None:
    """Return when a round is due; None is at once, for it was never done.

    `try_count` runs have begun since one was brought to its end, the last of them at `began_at`.
    """
    planned = None if done_for is None else timetable.after(done_for)
    if not try_count or began_at is None:
        return planned
    again = began_at + TRIES.wait(try_count, chance=1)
    return again if planned is None else max(planned, again)


def duration(text: str) -> timedelta | None:
    """Read `90s`, `15m`, `2h` or `7d`; None is returned for anything else."""
    found = _DURATION.fullmatch(text)
    return timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else None
