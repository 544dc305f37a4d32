"""The lanes in memory: order, bounds, and that nothing known is ever stuck."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from outbox_worker.rules.lanes import Due, Lanes


def due(delivery_id: int, lane: int = 1, due_s: float = 0.0) -> Due:
    return Due(delivery_id, lane, due_s)


def ids(taken: list[Due]) -> list[int]:
    return [it.delivery_id for it in taken]


def test_only_the_head_of_a_lane_is_taken_and_the_next_one_after_it_is_done() -> None:
    lanes = Lanes()
    lanes.admit([due(1), due(2), due(3, lane=2)])
    assert ids(lanes.take(9)) == [1, 3]
    assert lanes.take(9) == []
    lanes.done(1)
    assert ids(lanes.take(9)) == [2]


def test_what_is_known_already_is_not_new() -> None:
    lanes = Lanes()
    assert lanes.admit([due(1), due(2)]) == 2
    assert lanes.admit([due(1), due(2)]) == 0
    lanes.take(1)
    assert lanes.admit([due(1), due(2)]) == 0


def test_a_delivery_that_is_put_off_keeps_its_lane_waiting_and_no_other() -> None:
    lanes = Lanes()
    lanes.admit([due(1), due(2), due(3, lane=2), due(4, lane=2)])
    lanes.take(2)
    lanes.put_off(1, due_s=100.0)
    lanes.done(2)
    assert ids(lanes.take(9)) == [4]
    lanes.wake(99.9)
    assert lanes.take(9) == []
    assert lanes.next_wake_s == 100.0
    lanes.wake(100.0)
    assert ids(lanes.take(9)) == [1]


def test_a_delivery_read_as_due_later_rests_until_then() -> None:
    lanes = Lanes()
    lanes.admit([due(1, due_s=50.0), due(2)])
    assert lanes.take(9) == []
    lanes.wake(50.0)
    assert ids(lanes.take(9)) == [1]


def test_one_customer_with_very_many_takes_few_places() -> None:
    lanes = Lanes(lane_max=4, total_max=100)
    lanes.admit(due(number) for number in range(1, 1001))
    assert len(lanes) == 4
    assert lanes.room == 96


def test_a_lane_of_which_not_all_is_known_asks_to_be_read_when_it_has_run_out() -> None:
    lanes = Lanes(lane_max=1)
    lanes.admit([due(1), due(2), due(3)])
    lanes.take(1)
    lanes.done(1)
    assert lanes.unread(9) == [1]
    assert lanes.unread(9) == []
    lanes.reread(1, [due(2)], complete=False)
    assert ids(lanes.take(1)) == [2]
    lanes.done(1)
    assert lanes.unread(9) == [1]
    lanes.reread(1, [], complete=True)
    assert lanes.unread(9) == []
    assert len(lanes) == 0


def test_a_claim_that_was_lost_has_its_lane_read_again_after_a_while() -> None:
    lanes = Lanes()
    lanes.admit([due(1), due(2)])
    lanes.take(1)
    lanes.lose(1, until_s=5.0)
    assert len(lanes) == 0
    assert lanes.unread(9) == []
    lanes.wake(5.0)
    assert lanes.unread(9) == [1]


def test_what_rests_can_be_made_to_be_read_again_because_a_person_may_have_moved_it_forward() -> None:
    lanes = Lanes()
    lanes.admit([due(1), due(2)])
    lanes.take(1)
    lanes.put_off(1, due_s=900.0)
    lanes.doubt()
    assert lanes.unread(9) == [1]
    lanes.reread(1, [due(1), due(2)], complete=True)
    assert ids(lanes.take(9)) == [1]
    lanes.wake(900.0)
    assert lanes.take(9) == []


def test_an_earlier_delivery_that_committed_later_goes_before_what_is_not_on_its_way_yet() -> None:
    lanes = Lanes()
    lanes.admit([due(5), due(7)])
    lanes.take(1)
    lanes.admit([due(6)])  # drawn before 7, seen after it
    lanes.done(1)
    assert lanes.take(9) == []
    assert lanes.unread(9) == [1]
    lanes.reread(1, [due(6), due(7)], complete=True)
    assert ids(lanes.take(9)) == [6]


def test_what_was_claimed_as_it_was_found_keeps_its_lane_busy_whatever_was_known_of_it() -> None:
    lanes = Lanes()
    lanes.seize(due(5))
    lanes.admit([due(5), due(6), due(7, lane=2)])
    lanes.seize(due(7, lane=2))
    assert lanes.take(9) == []
    lanes.done(1)
    assert ids(lanes.take(9)) == [6]
    lanes.seize(due(4))  # committed after what was known, and claimed before it
    lanes.done(1)
    assert lanes.unread(9) == [1]


def test_a_lane_that_waits_for_its_client_is_forgotten() -> None:
    lanes = Lanes()
    lanes.admit([due(1), due(2)])
    lanes.take(1)
    lanes.drop(1)
    assert len(lanes) == 0
    assert lanes.take(9) == []
    assert lanes.admit([due(9)]) == 1


def test_after_a_lost_connection_only_what_is_on_its_way_is_known() -> None:
    lanes = Lanes()
    lanes.admit([due(1), due(2), due(3, lane=2), due(4, lane=3, due_s=9.0)])
    lanes.take(1)
    lanes.reset({1})
    assert len(lanes) == 1
    lanes.wake(10.0)
    assert lanes.take(9) == []
    lanes.done(1)
    assert lanes.unread(9) == [1]


def test_a_drawn_pick_takes_ready_lanes_in_any_order_and_each_once() -> None:
    lanes = Lanes(pick=lambda count: count - 1)
    lanes.admit(due(number, lane=number) for number in range(1, 6))
    taken = ids(lanes.take(5))
    assert taken[0] == 5
    assert sorted(taken) == [1, 2, 3, 4, 5]


class LanesAgainstTheDatabase(RuleBasedStateMachine):
    """Whatever happens in whatever order: all that waits is taken in the end, in order, never two of a lane at once."""

    def __init__(self) -> None:
        super().__init__()
        self.lanes = Lanes(lane_max=2, total_max=8)
        self.waiting: defaultdict[int, list[int]] = defaultdict(list)  # the database: by lane, in order
        self.busy: dict[int, int] = {}
        self.next_id = 1
        self.position = 0
        self.now_s = 1.0

    @rule(lane=st.integers(1, 4))
    def write(self, lane: int) -> None:
        self.waiting[lane].append(self.next_id)
        self.next_id += 1

    @rule(count_max=st.integers(1, 5), full=st.booleans())
    def look(self, count_max: int, full: bool) -> None:
        after = 0 if full else self.position
        rows = sorted((it, lane) for lane, its in self.waiting.items() for it in its if it > after)[:count_max]
        if not self.lanes.room:
            return
        self.lanes.admit(Due(it, lane, 0.0) for it, lane in rows)
        self.position = max([self.position, *(it for it, _ in rows)])

    @rule(count_max=st.integers(1, 3))
    def take(self, count_max: int) -> None:
        for it in self.lanes.take(count_max):
            assert it.lane not in self.busy
            if self.waiting[it.lane][0] == it.delivery_id:
                self.busy[it.lane] = it.delivery_id
            else:
                self.lanes.lose(it.lane, self.now_s + 1)

    @rule(lane=st.integers(1, 4))
    def claim_what_a_look_finds(self, lane: int) -> None:
        if self.waiting[lane] and lane not in self.busy:
            self.busy[lane] = self.waiting[lane][0]
            self.lanes.seize(Due(self.busy[lane], lane, 0.0))

    @precondition(lambda self: self.busy)
    @rule(data=st.data(), how=st.sampled_from(["done", "put_off"]))
    def conclude(self, data: st.DataObject, how: str) -> None:
        lane = data.draw(st.sampled_from(sorted(self.busy)))
        delivery_id = self.busy.pop(lane)
        if how == "done":
            assert self.waiting[lane].pop(0) == delivery_id
            self.lanes.done(lane)
        else:
            self.lanes.put_off(lane, self.now_s + 2)

    @rule()
    def pass_time(self) -> None:
        self.now_s += 1
        self.lanes.wake(self.now_s)

    @rule()
    def read_short_lanes(self) -> None:
        for lane in self.lanes.unread(9):
            self.lanes.reread(
                lane, [Due(it, lane, 0.0) for it in self.waiting[lane][:3]], complete=len(self.waiting[lane]) < 3
            )

    @rule()
    def lose_the_connection(self) -> None:
        self.lanes.reset(self.busy)
        self.position = 0

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.lanes) <= 8 + 5 + 3 * 4

    def teardown(self) -> None:
        for _ in range(400):
            if not any(self.waiting.values()):
                break
            self.pass_time()
            self.read_short_lanes()
            self.look(5, full=True)
            self.look(5, full=False)
            self.take(3)
            for lane in list(self.busy):
                assert self.waiting[lane].pop(0) == self.busy.pop(lane)
                self.lanes.done(lane)
        assert not any(self.waiting.values())


LanesAgainstTheDatabase.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
test_nothing_that_waits_is_ever_stuck = LanesAgainstTheDatabase.TestCase
