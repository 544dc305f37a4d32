"""The doorbell's rules, with a clock of the test's own."""

from __future__ import annotations

import pytest

from outbox_worker.database.turns import Answer, Turn
from outbox_worker.runtime.doorbell import Doorbell

POLL_S, SILENT_POLL_S = 30.0, 0.1


@pytest.fixture
def doorbell() -> Doorbell:
    return Doorbell(POLL_S, SILENT_POLL_S)


def go(doorbell: Doorbell, now_s: float, *, rang: bool = False, idle: bool = True, lock: bool = True) -> Turn:
    """Make one turn: plan it and, if it looks, heed it. The lock is granted or not; nothing new is found."""
    turn = Turn()
    if doorbell.plan(turn, now_s, rang=rang, idle=idle):
        doorbell.heed(turn, Answer(armed=turn.arm and lock), now_s, idle=idle)
    return turn


def looks(doorbell: Doorbell, now_s: float, *, rang: bool = False, idle: bool = True) -> bool:
    return doorbell.plan(Turn(), now_s, rang=rang, idle=idle)


def test_it_is_armed_only_when_there_is_nothing_to_do(doorbell: Doorbell) -> None:
    assert not go(doorbell, 0, idle=False).arm
    assert go(doorbell, 0).arm and doorbell.armed
    assert not go(doorbell, 0.1).arm, "it has the lock already"


def test_armed_it_looks_when_it_rings_or_when_the_poll_is_due_and_not_before(doorbell: Doorbell) -> None:
    go(doorbell, 0)
    assert doorbell.next_look_s() == POLL_S
    assert not looks(doorbell, 1)
    assert looks(doorbell, 1, rang=True)
    assert looks(doorbell, POLL_S)


def test_a_ring_lets_the_lock_go_and_a_ring_for_nothing_asks_for_a_full_look(doorbell: Doorbell) -> None:
    go(doorbell, 0)
    turn = Turn()
    assert doorbell.plan(turn, 1, rang=True, idle=True) and turn.disarm
    assert doorbell.heed(turn, Answer(), 1, idle=True), "what rang has an id from far back"
    assert not doorbell.armed
    turn = Turn()
    assert doorbell.plan(turn, 2, rang=True, idle=True)
    assert not doorbell.heed(turn, Answer(), 2, idle=False), "it has brought something"


def test_refused_it_looks_again_soon_at_growing_waits(doorbell: Doorbell) -> None:
    now_s, waits = 0.0, []
    for _ in range(8):
        assert go(doorbell, now_s, lock=False).arm
        waits.append(round(doorbell.next_look_s() - now_s, 3))
        now_s = doorbell.next_look_s()
    assert waits == [0.002, 0.004, 0.008, 0.016, 0.02, 0.02, 0.02, 0.02]


def test_refused_for_long_it_asks_for_a_full_look_before_it_sleeps(doorbell: Doorbell) -> None:
    go(doorbell, 10, lock=False)
    go(doorbell, 11, lock=False)
    turn = Turn()
    doorbell.plan(turn, 13, rang=False, idle=True)
    assert doorbell.heed(turn, Answer(armed=True), 13, idle=True), "a writer was under way for so long"


def test_refused_again_and_again_it_asks_whether_another_sleeps_and_sleeps_beside_it(doorbell: Doorbell) -> None:
    for number in range(8):
        assert not doorbell.suspects_company()
        go(doorbell, number, lock=False)
    assert doorbell.suspects_company()
    doorbell.sleep_beside(8)
    assert not looks(doorbell, 8.5)
    assert looks(doorbell, 8.5, rang=True), "every writer rings, and that wakes this one too"
    go(doorbell, 9, lock=False)
    assert doorbell.suspects_company(), "it asks again after each such sleep"


def test_where_the_bell_is_silent_it_polls_and_never_arms(doorbell: Doorbell) -> None:
    doorbell.works = False
    assert not go(doorbell, 0).arm
    assert doorbell.next_look_s() == SILENT_POLL_S


def test_work_is_looked_for_in_every_turn_whatever_the_poll(doorbell: Doorbell) -> None:
    go(doorbell, 0)
    assert looks(doorbell, 0.001, idle=False)


def test_with_its_connection_the_lock_is_lost(doorbell: Doorbell) -> None:
    go(doorbell, 0)
    doorbell.forget()
    assert not doorbell.armed
    assert go(doorbell, 0.1).arm
