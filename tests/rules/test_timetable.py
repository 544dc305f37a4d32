"""When a round is due: by the interval, by the clock on the wall, after what failed."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox_worker.rules.timetable import Daily, Every, due_at, duration

KYIV = ZoneInfo("Europe/Kyiv")
ZONES = [KYIV, ZoneInfo("America/New_York"), ZoneInfo("Pacific/Apia"), ZoneInfo("Australia/Lord_Howe"), ZoneInfo("UTC")]
instants = st.integers(0, 25 * 365 * 86_400).map(lambda it: datetime(2005, 1, 1, tzinfo=UTC) + timedelta(seconds=it))
dailies = st.builds(Daily, st.times().map(lambda it: it.replace(microsecond=0)), st.sampled_from(ZONES))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_an_interval_runs_from_the_beginning_of_one_run_to_that_of_the_next() -> None:
    every = Every(timedelta(minutes=15))
    assert every.latest(at("2026-01-01 10:07")) == at("2026-01-01 10:07")
    assert every.after(at("2026-01-01 10:07")) == at("2026-01-01 10:22")
    assert every.done_at_first(at("2026-01-01 10:07")) is None


@pytest.mark.parametrize(
    ("day", "local", "utc"),
    [
        ("2026-03-28", time(3, 30), "2026-03-28 01:30"),
        ("2026-03-29", time(3, 30), "2026-03-29 01:30"),  # there is no 3:30: clocks go from 3:00 to 4:00
        ("2026-03-30", time(3, 30), "2026-03-30 00:30"),
        ("2026-10-25", time(3, 30), "2026-10-25 00:30"),  # it is 3:30 twice
        ("2026-10-26", time(3, 30), "2026-10-26 01:30"),
        ("2026-03-29", time(10), "2026-03-29 07:00"),
        ("2026-10-25", time(10), "2026-10-25 08:00"),
    ],
)
def test_where_clocks_change_a_day_has_its_time_once(day: str, local: time, utc: str) -> None:
    daily = Daily(local, KYIV)
    evening = datetime.combine(date.fromisoformat(day), time(22), KYIV)
    assert daily.latest(evening) == at(utc)
    assert daily.after(at(utc) - timedelta(seconds=1)) == at(utc)
    assert daily.day_of(at(utc)) == date.fromisoformat(day)


@given(dailies, instants)
def test_the_next_time_comes_later_within_two_days_and_nothing_lies_between(daily: Daily, now: datetime) -> None:
    latest = daily.latest(now)
    following = daily.after(latest)
    assert latest <= now < following
    assert daily.after(now) == following
    assert timedelta(0) < following - latest <= timedelta(days=2, hours=1)
    assert daily.latest(following) == following


@given(dailies, instants, st.integers(1, 400))
def test_days_that_were_missed_are_made_up_for_once(daily: Daily, done_for: datetime, days: int) -> None:
    now = done_for + timedelta(days=days)
    run_for = daily.latest(now)
    assert daily.after(run_for) > now


def test_a_daily_round_that_was_never_run_waits_for_its_first_time() -> None:
    daily, now = Daily(time(10), KYIV), at("2026-01-01 21:00")
    done = daily.done_at_first(now)
    assert due_at(daily, done_for=done, began_at=None, try_count=0) == at("2026-01-02 08:00")


def test_what_was_never_done_is_due_at_once() -> None:
    assert due_at(Every(timedelta(minutes=15)), done_for=None, began_at=None, try_count=0) is None


def test_what_failed_is_tried_again_at_growing_waits_up_to_an_hour() -> None:
    began = at("2026-01-01 10:00")
    daily, done_for = Daily(time(10), KYIV), at("2025-12-31 08:00")
    waits = [due_at(daily, done_for=done_for, began_at=began, try_count=count) for count in (1, 2, 3, 7, 50)]
    minutes = [(due - began).total_seconds() / 60 for due in waits if due]
    assert minutes == [1, 2, 4, 60, 60]


def test_what_failed_before_its_time_waits_for_its_time() -> None:
    every, done_for = Every(timedelta(minutes=30)), at("2026-01-01 10:00")
    due = due_at(every, done_for=done_for, began_at=at("2026-01-01 10:05"), try_count=1)
    assert due == at("2026-01-01 10:30")


@pytest.mark.parametrize(
    ("text", "found"),
    [("90s", timedelta(seconds=90)), ("15m", timedelta(minutes=15)), ("2h", timedelta(hours=2)), ("7d", timedelta(7))],
)
def test_a_duration_is_a_number_with_its_unit(text: str, found: timedelta) -> None:
    assert duration(text) == found


@pytest.mark.parametrize("text", ["", "15", "m", "1.5h", "15 m", "-1m", "1y", "1m30s", "9999999s"])
def test_anything_else_is_no_duration(text: str) -> None:
    assert duration(text) is None
