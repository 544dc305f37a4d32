"""How much may go to a destination now."""

from __future__ import annotations

from math import inf

from outbox_worker.rules.destination import Destination
from outbox_worker.rules.lanes import Due, Lanes


def destination(slots: int = 4, total_max: int = 100) -> Destination:
    return Destination("api", slots=slots, failures_max=3, lanes=Lanes(total_max=total_max))


def test_no_more_are_in_flight_than_there_are_slots() -> None:
    it = destination(slots=4)
    it.in_flight = 3
    assert it.room(0.0) == 1
    it.in_flight = 5
    assert it.room(0.0) == 0


def test_nothing_goes_to_a_paused_or_resting_destination() -> None:
    it = destination()
    it.rests_until_s = 10.0
    assert (it.room(9.9), it.room(10.0)) == (0, 4)
    it.paused = True
    assert it.room(10.0) == 0
    assert it.next_wake_s(10.0) == inf


def test_a_destination_that_fails_again_and_again_is_probed_by_one_request_at_a_time() -> None:
    it = destination()
    it.failure_count = 3
    assert it.room(0.0) == 1
    it.in_flight = 1
    assert it.room(0.0) == 0


def test_it_reads_ahead_while_less_than_half_of_what_may_be_known_is_known() -> None:
    it = destination(total_max=10)
    assert it.look_max(100) == 10
    it.lanes.admit(Due(number, number, 0.0) for number in range(1, 7))
    assert it.look_max(100) == 0


def test_it_reads_no_further_ahead_than_for_some_full_houses_so_that_it_does_not_read_what_others_deliver() -> None:
    it = destination(slots=2, total_max=1000)
    it.lanes.admit(Due(number, lane=number, due_s=0.0) for number in range(1, 8))
    assert it.look_max(100) == 100
    it.lanes.admit([Due(8, lane=8, due_s=0.0)])
    assert it.look_max(100) == 0
    it.lanes.take(1)
    assert it.look_max(100) == 100


def test_there_is_no_work_where_there_is_no_room() -> None:
    it = destination(slots=1)
    it.lanes.admit([Due(1, 1, 0.0)])
    assert it.has_work(0.0)
    it.in_flight = 1
    assert not it.has_work(0.0)
