"""What one worker knows of what waits: planned, answered, moved on. No database and no clock."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from outbox_worker.database.turns import Answer, DestinationState, Turn
from outbox_worker.records import Action, Claim, Conclusion, Outcome, Purpose, Standing, Verdict
from outbox_worker.rules.destination import Destination
from outbox_worker.rules.lanes import Due, Lanes
from outbox_worker.rules.schedule import Timetable
from outbox_worker.runtime.backlog import Backlog

NOW = datetime(2026, 1, 31, tzinfo=UTC)
SLOTS, FAILURES_MAX = 2, 3
REST = Timetable(first=timedelta(seconds=4), factor=2, longest=timedelta(seconds=8))


def make(*continues: Action) -> Backlog:
    destinations = [
        Destination(name, slots=SLOTS, failures_max=FAILURES_MAX, lanes=Lanes()) for name in ("api", "hook")
    ]
    return Backlog(destinations, REST, frozenset(continues))


def plan(backlog: Backlog, *, claim: bool = True, look: bool = True, now_s: float = 0) -> Turn:
    turn = Turn()
    backlog.plan(turn, now_s, claim=claim, look=look)
    return turn


def answer(backlog: Backlog, turn: Turn, *lanes: int, claimed: Iterable[int] = (), **state: Any) -> list[Claim]:
    """Answer a turn: these lanes have a delivery at the API, of the same number; those heads were claimed."""
    claims = [claim_of(lane) for lane in claimed]
    states = [DestinationState("api", **({"paused": False, "failure_count": 0, "rest_s": 0.0} | state))]
    found = {"api": [Due(lane, lane, 0) for lane in lanes]}
    backlog.take_in(turn, Answer(claims=claims, found=found, destinations=states), 0, 0)
    return claims


def claim_of(lane: int) -> Claim:
    return Claim(lane, lane, lane, 1, Purpose.SEND, f"e:{lane}", "add_purchase", "api", "{}", NOW, NOW, 0, 0)


def conclude(backlog: Backlog, claim: Claim, verdict: Verdict, due_in_s: float = 0) -> None:
    backlog.move_on(Conclusion(claim, Outcome.ACCEPTED, verdict, None, due_in_s=due_in_s), 0)


ACKNOWLEDGED = Verdict(Action.ACKNOWLEDGE, standing=Standing.WELL)
FAILED = Verdict(Action.RETRY, NOW, standing=Standing.ILL)


def claimed(backlog: Backlog, *lanes: int, **state: Any) -> list[Claim]:
    """Let these lanes be found and their heads be claimed."""
    answer(backlog, plan(backlog), *lanes, **state)
    turn = plan(backlog)
    return answer(backlog, turn, claimed=[due.lane for due in turn.candidates], **state)


def test_it_claims_no_more_than_there_is_room_for() -> None:
    backlog = make()
    answer(backlog, plan(backlog), 1, 2, 3)
    turn = plan(backlog)
    assert [due.lane for due in turn.candidates] == [1, 2]
    one, _ = answer(backlog, turn, claimed=[1, 2])
    assert plan(backlog).candidates == []
    conclude(backlog, one, ACKNOWLEDGED)
    assert [due.lane for due in plan(backlog).candidates] == [3]


def test_stopping_it_claims_nothing_and_still_tells_what_was_learned() -> None:
    backlog = make()
    [claim] = claimed(backlog, 1)
    conclude(backlog, claim, FAILED)
    turn = plan(backlog, claim=False)
    assert (turn.candidates, turn.looks, len(turn.notes)) == ([], [], 1)


def test_what_could_not_be_claimed_is_followed_up_and_its_lane_read_again() -> None:
    backlog = make()
    answer(backlog, plan(backlog), 1)
    answer(backlog, plan(backlog))
    turn = plan(backlog)
    assert [due.lane for due in turn.unclaimed] == [1]
    answer(backlog, turn)
    assert plan(backlog, now_s=1).rereads == [1]


def test_a_success_is_told_only_of_a_destination_that_was_failing() -> None:
    backlog = make()
    [claim] = claimed(backlog, 1)
    conclude(backlog, claim, ACKNOWLEDGED)
    assert plan(backlog).notes == []
    [claim] = claimed(backlog, 2, failure_count=1)
    conclude(backlog, claim, ACKNOWLEDGED)
    [note] = plan(backlog).notes
    assert (note.well, note.backoff_s) == (True, 0)


def test_a_destination_that_failed_too_often_rests_at_growing_waits() -> None:
    rests = []
    for failures in range(1, FAILURES_MAX + 2):
        backlog = make()
        [claim, *_] = claimed(backlog, 1, failure_count=failures - 1)
        conclude(backlog, claim, FAILED)
        [note] = plan(backlog).notes
        rests.append(note.backoff_s)
    assert rests[:2] == [0, 0]
    assert 2 <= rests[2] <= 4 <= rests[3] <= 8


def test_a_failing_destination_gets_one_request_which_is_named_a_probe() -> None:
    backlog = make()
    answer(backlog, plan(backlog), 1, 2, failure_count=FAILURES_MAX)
    turn = plan(backlog)
    assert (len(turn.candidates), turn.probes) == (1, ["api"])


def test_a_rest_that_was_asked_for_is_told_beside_a_success() -> None:
    backlog = make()
    one, two = claimed(backlog, 1, 2)
    conclude(backlog, one, ACKNOWLEDGED)
    conclude(backlog, two, Verdict(Action.RETRY, NOW, standing=Standing.ILL, rest_s=7))
    [note] = plan(backlog).notes
    assert (note.well, note.rest_s) == (True, 7)


def test_a_closed_destination_is_paused_with_the_reason() -> None:
    backlog = make()
    [claim] = claimed(backlog, 1)
    conclude(backlog, claim, Verdict(Action.RETRY, NOW, standing=Standing.CLOSED, reason="answered 401"))
    [note] = plan(backlog).notes
    assert note.pause_reason == "answered 401"


def test_a_verdict_that_came_while_a_turn_was_under_way_is_not_forgotten_with_its_answer() -> None:
    backlog = make()
    one, two = claimed(backlog, 1, 2)
    conclude(backlog, one, ACKNOWLEDGED)
    turn = plan(backlog)
    conclude(backlog, two, Verdict(Action.RETRY, NOW, standing=Standing.CLOSED, reason="answered 401"))
    answer(backlog, turn)
    [note] = plan(backlog).notes
    assert note.pause_reason == "answered 401"


def test_what_was_told_in_a_turn_that_was_lost_is_told_again() -> None:
    backlog = make()
    [claim] = claimed(backlog, 1)
    conclude(backlog, claim, FAILED)
    assert len(plan(backlog).notes) == 1
    backlog.forget(set())
    assert len(plan(backlog).notes) == 1


def test_after_a_lost_connection_only_what_is_on_its_way_is_still_known() -> None:
    backlog = make()
    [first, second] = claimed(backlog, 1, 2, 3)
    conclude(backlog, second, ACKNOWLEDGED)
    backlog.forget({1})
    assert plan(backlog).candidates == []
    conclude(backlog, first, ACKNOWLEDGED)
    assert plan(backlog).rereads == [1]


def test_a_lane_goes_on_past_what_was_given_up_only_where_that_is_the_policy() -> None:
    for action in (Action.DEAD_LETTER, Action.HOLD):
        for continues in (True, False):
            backlog = make(*([action] if continues else []))
            answer(backlog, plan(backlog), 1)
            backlog.take_in(plan(backlog, claim=False), Answer(found={"api": [Due(5, 1, 0)]}), 0, 0)
            turn = plan(backlog)
            [claim] = answer(backlog, turn, claimed=[1])
            backlog.take_in(Turn(looks=turn.looks), Answer(found={"api": [Due(5, 1, 0)]}), 0, 0)
            conclude(backlog, claim, Verdict(action, reason="refused"))
            assert [due.delivery_id for due in plan(backlog).candidates] == ([5] if continues else [])


def test_a_paused_destination_is_neither_read_nor_claimed_from() -> None:
    backlog = make()
    answer(backlog, plan(backlog), 1, paused=True)
    turn = plan(backlog)
    assert turn.candidates == [] and [look.destination for look in turn.looks] == ["hook"]
    assert backlog.is_idle(0)


def test_it_is_idle_while_a_destination_rests_and_says_when_that_is_over() -> None:
    backlog = make()
    answer(backlog, plan(backlog), 1, rest_s=9.0)
    assert backlog.is_idle(0) and not backlog.is_idle(10)
    assert backlog.next_wake_s(0) == 9


def test_a_lane_that_somebody_else_holds_is_asked_for_at_growing_pauses_until_it_is_had() -> None:
    backlog = make()
    answer(backlog, plan(backlog), 1)
    now_s, pauses = 0.0, []
    for _ in range(8):
        turn = plan(backlog, now_s=now_s)
        backlog.take_in(turn, Answer(), now_s, now_s)
        lost_at_s = now_s
        now_s = backlog.next_wake_s(now_s)
        pauses.append(now_s - lost_at_s)
        turn = plan(backlog, now_s=now_s, look=False)
        assert turn.rereads == [1]
        backlog.take_in(turn, Answer(reread=[Due(1, 1, 0)]), now_s, now_s)
    assert [round(pause, 3) for pause in pauses] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]


def test_what_will_be_new_may_be_claimed_where_there_is_room_and_nothing_to_be_heeded() -> None:
    backlog = make()
    answer(backlog, plan(backlog), 7)
    assert [(look.destination, look.after, look.count_max) for look in backlog.fresh(0)] == [
        ("api", 7, SLOTS),
        ("hook", 0, SLOTS),
    ]
    for state in ({"paused": True}, {"failure_count": FAILURES_MAX}, {"rest_s": 5.0}, {"at_once": 1}):
        answer(backlog, plan(backlog), **state)
        assert [look.destination for look in backlog.fresh(0)] == ["hook"]
