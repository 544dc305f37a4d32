"""How often each caller may come."""

from __future__ import annotations

from outbox_worker.rules import rate
from outbox_worker.rules.rate import Rate


def test_a_burst_of_a_second_is_let_in_and_then_the_steady_rate() -> None:
    it = Rate(10)
    assert [it.wait_s("a", 5.0) for _ in range(10)] == [0] * 10
    assert round(it.wait_s("a", 5.0), 3) == 0.1
    assert it.wait_s("a", 5.1) == 0
    assert it.wait_s("a", 5.1) > 0


def test_less_than_one_in_a_second_is_let_in_one_by_one() -> None:
    it = Rate(0.5)
    assert it.wait_s("a", 1.0) == 0
    assert round(it.wait_s("a", 1.5), 3) == 1.5
    assert it.wait_s("a", 3.0) == 0


def test_callers_do_not_share_and_zero_is_any_number() -> None:
    it = Rate(1)
    assert (it.wait_s("a", 0.0), it.wait_s("b", 0.0)) == (0, 0)
    assert {Rate(0).wait_s("a", 0.0) for _ in range(1000)} == {0}


def test_what_is_remembered_is_bounded() -> None:
    it = Rate(1)
    for number in range(rate.CALLERS_MAX + 50):
        it.wait_s(str(number), 0.0)
    assert len(it._full_at_s) == rate.CALLERS_MAX
