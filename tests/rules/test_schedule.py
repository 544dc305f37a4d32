"""The retry timetable."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from outbox_worker.rules.schedule import Timetable


def test_waits_double_from_the_first_to_the_longest() -> None:
    timetable = Timetable(timedelta(seconds=1), 2, timedelta(seconds=10), 20)
    waits = [timetable.wait(number, chance=1.0).total_seconds() for number in range(1, 7)]
    assert waits == [1, 2, 4, 8, 10, 10]


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_drawn_between_half_of_its_step_and_the_whole(number: int, chance: float) -> None:
    timetable = Timetable()
    whole = timetable.wait(number, chance=1.0)
    assert whole / 2 <= timetable.wait(number, chance) <= whole <= timedelta(minutes=15)


def test_the_last_try_is_the_last() -> None:
    timetable = Timetable(tries_max=3)
    assert [timetable.is_spent(number) for number in (1, 2, 3, 4)] == [False, False, True, True]
