"""From where to look: forward always, a little back often, from the beginning seldom."""

from __future__ import annotations

from math import inf

from outbox_worker.rules.reading import FULL_EVERY_S, RECENT_EVERY_S, RECENT_S, SHARE, Reading


def look(reading: Reading, now_s: float, last_id: int | None, *, complete: bool = True, took_s: float = 0.0) -> int:
    after = reading.begin(now_s)
    reading.end(after, last_id, complete=complete, took_s=took_s, now_s=now_s)
    return after


def settled(now_s: float = 100.0, position: int = 50) -> Reading:
    reading = Reading()
    look(reading, now_s, position)
    return reading


def test_the_first_look_is_a_full_one() -> None:
    assert Reading().begin(0.0) == 0


def test_a_full_look_that_does_not_come_to_the_end_goes_on_where_it_stopped() -> None:
    reading = Reading()
    reading.position = 30
    assert look(reading, 1.0, 10, complete=False) == 0
    assert look(reading, 1.0, 20, complete=False) == 10
    assert look(reading, 1.0, 30, complete=False) == 20
    assert look(reading, 1.0, 31) == 30


def test_looks_go_forward_from_the_highest_id_seen() -> None:
    reading = settled()
    look(reading, 100.1, 60)
    assert reading.begin(100.1 + RECENT_EVERY_S / 2) == 60


def test_what_committed_late_is_looked_for_where_the_position_was_two_seconds_ago() -> None:
    reading = settled(now_s=100.0, position=50)
    for step in range(1, 60):
        look(reading, 100.0 + step * 0.06, 50 + step)
    after = reading.begin(100.0 + 60 * 0.06)
    assert 50 < after < 50 + 59
    assert after <= 50 + (60 * 0.06 - RECENT_S) / 0.06 + 1


def test_a_full_look_comes_every_few_seconds() -> None:
    reading = settled(now_s=100.0)
    assert reading.begin(100.0 + FULL_EVERY_S - 0.1) > 0
    assert reading.begin(100.0 + FULL_EVERY_S) == 0


def test_a_full_look_that_takes_long_comes_less_often() -> None:
    reading = Reading()
    look(reading, 100.0, 50, took_s=1.0)
    assert reading.begin(100.0 + SHARE - 0.1) > 0
    assert reading.begin(100.0 + SHARE) == 0


def test_a_full_look_can_be_asked_for() -> None:
    reading = settled()
    reading.ask_full()
    assert reading.begin(100.1) == 0


def test_an_empty_look_moves_nothing() -> None:
    reading = settled(position=50)
    look(reading, 100.1, None)
    assert reading.position == 50


def test_the_last_look_before_sleeping_is_a_full_one() -> None:
    reading = settled(now_s=100.0)
    assert reading.begin(100.01) > 0
    assert reading.begin(100.02, before_sleep=True) == 0


def test_a_full_look_that_cannot_be_afforded_before_sleeping_is_owed_and_made_later() -> None:
    reading = Reading()
    look(reading, 100.0, 50, took_s=0.1)
    assert reading.owed_s == inf
    assert reading.begin(101.0, before_sleep=True) > 0
    assert reading.owed_s == 100.0 + SHARE * 0.1
    reading.end(50, None, complete=True, took_s=0.0, now_s=101.0)
    assert reading.begin(reading.owed_s) == 0
    assert reading.owed_s == inf
