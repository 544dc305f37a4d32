"""What becomes of a delivery: every row of the table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from msgspec.structs import replace

from outbox_worker.metrics import CONCLUSIONS
from outbox_worker.records import Action, Claim, OnDoubt, Outcome, Purpose, Standing
from outbox_worker.rules.schedule import Timetable
from outbox_worker.rules.verdict import PUT_OFF_MAX, Policy, Situation, decide

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = Policy(Timetable(timedelta(seconds=1), 2, timedelta(minutes=15), tries_max=5), settle=timedelta(seconds=10))
CLAIM = Claim(1, 1, 1, 1, Purpose.SEND, "purchase:1", "add_purchase", "api", "{}", NOW, NOW, 0, 0)


def situation(outcome: Outcome, on_doubt: OnDoubt = OnDoubt.HOLD, **changes: object) -> Situation:
    of_claim = {key: changes.pop(key) for key in ("purpose", "tries", "misses", "number") if key in changes}
    base = Situation(
        replace(CLAIM, **of_claim), outcome, on_doubt, NOW - timedelta(seconds=2), NOW, chance=1.0, reason="why"
    )
    return replace(base, **changes)


@pytest.mark.parametrize("outcome", [Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.FOUND])
def test_what_has_been_acted_upon_is_acknowledged(outcome: Outcome) -> None:
    verdict = decide(situation(outcome), POLICY)
    assert (verdict.action, verdict.standing) == (Action.ACKNOWLEDGE, Standing.WELL)


@pytest.mark.parametrize("outcome", [Outcome.NOT_SENT, Outcome.TRY_LATER, Outcome.CREDENTIALS, Outcome.MISDIRECTED])
def test_what_is_the_destinations_doing_costs_the_delivery_none_of_its_tries(outcome: Outcome) -> None:
    verdict = decide(situation(outcome, tries=4), POLICY)
    assert (verdict.action, verdict.counts) == (Action.RETRY, False)


@pytest.mark.parametrize("outcome", [Outcome.NOT_SENT, Outcome.TRY_LATER, Outcome.CREDENTIALS])
def test_what_was_in_doubt_stays_in_doubt_when_the_look_up_could_not_be_made(outcome: Outcome) -> None:
    assert decide(situation(outcome, purpose=Purpose.INQUIRE), POLICY).action is Action.INQUIRE


@pytest.mark.parametrize("outcome", [Outcome.CREDENTIALS, Outcome.MISDIRECTED])
def test_refused_credentials_and_a_redirect_close_the_destination(outcome: Outcome) -> None:
    assert decide(situation(outcome), POLICY).standing is Standing.CLOSED


def test_retry_after_is_obeyed_and_the_whole_destination_rests() -> None:
    verdict = decide(situation(Outcome.TRY_LATER, retry_after=NOW + timedelta(seconds=90)), POLICY)
    assert verdict.due_at == NOW + timedelta(seconds=90)
    assert verdict.rest_s == 90


def test_what_is_put_off_again_and_again_is_asked_about_less_and_less_often() -> None:
    waits = [decide(situation(Outcome.TRY_LATER, number=number), POLICY).due_at - NOW for number in (1, 3, 30)]
    assert waits == [timedelta(seconds=1), timedelta(seconds=4), timedelta(seconds=16)]
    assert max(waits) <= PUT_OFF_MAX


def test_an_unknown_client_is_waited_for() -> None:
    assert decide(situation(Outcome.UNKNOWN_CLIENT), POLICY).action is Action.WAIT_FOR_CLIENT


def test_what_is_rejected_is_a_dead_letter() -> None:
    assert decide(situation(Outcome.REJECTED), POLICY).action is Action.DEAD_LETTER


@pytest.mark.parametrize(("waits", "action"), [(True, Action.WAIT_FOR_CLIENT), (False, Action.DEAD_LETTER)])
def test_what_cannot_be_sent_waits_if_the_client_can_be_mended_and_is_dead_if_not(waits: bool, action: Action) -> None:
    assert decide(situation(Outcome.UNSENDABLE, waits=waits), POLICY).action is action


def test_what_is_in_doubt_and_cannot_be_looked_up_any_more_is_held_and_not_sent_again() -> None:
    verdict = decide(situation(Outcome.UNSENDABLE, purpose=Purpose.INQUIRE, waits=True), POLICY)
    assert verdict.action is Action.HOLD


def test_a_doubt_is_looked_up_when_the_request_can_no_longer_be_under_way() -> None:
    verdict = decide(situation(Outcome.IN_DOUBT, OnDoubt.LOOKUP), POLICY)
    assert (verdict.action, verdict.due_at) == (Action.INQUIRE, NOW + timedelta(seconds=8))
    late = decide(situation(Outcome.IN_DOUBT, OnDoubt.LOOKUP, begun_at=NOW - timedelta(hours=1)), POLICY)
    set_back = decide(situation(Outcome.IN_DOUBT, OnDoubt.LOOKUP, begun_at=NOW + timedelta(hours=1)), POLICY)
    assert set_back.due_at == NOW + POLICY.settle, "a clock that was set back would put the look-up off by as much"
    assert late.due_at == NOW


def test_a_doubt_about_what_may_be_repeated_is_sent_again_by_the_timetable() -> None:
    verdict = decide(situation(Outcome.IN_DOUBT, OnDoubt.RESEND, tries=2), POLICY)
    assert (verdict.action, verdict.counts, verdict.due_at) == (Action.RETRY, True, NOW + timedelta(seconds=4))


def test_a_doubt_about_anything_else_is_held_for_a_person() -> None:
    verdict = decide(situation(Outcome.IN_DOUBT, OnDoubt.HOLD), POLICY)
    assert verdict.action is Action.HOLD
    assert "why" in verdict.reason


@pytest.mark.parametrize(
    ("outcome", "on_doubt"), [(Outcome.IN_DOUBT, OnDoubt.RESEND), (Outcome.NO_FINDING, OnDoubt.LOOKUP)]
)
def test_when_the_timetable_is_spent_the_delivery_is_held(outcome: Outcome, on_doubt: OnDoubt) -> None:
    assert decide(situation(outcome, on_doubt, tries=4), POLICY).action is Action.HOLD


def test_one_look_up_that_finds_nothing_is_not_believed_and_two_are() -> None:
    first = decide(situation(Outcome.NOT_FOUND, purpose=Purpose.INQUIRE, misses=0), POLICY)
    assert (first.action, first.due_at) == (Action.INQUIRE, NOW + POLICY.settle)
    second = decide(situation(Outcome.NOT_FOUND, purpose=Purpose.INQUIRE, misses=1), POLICY)
    assert (second.action, second.due_at) == (Action.RETRY, NOW)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_has_a_verdict_and_a_stopping_one_has_a_reason(outcome: Outcome) -> None:
    verdict = decide(situation(outcome, purpose=Purpose.INQUIRE), POLICY)
    assert (verdict.due_at is not None) == (verdict.action in (Action.RETRY, Action.INQUIRE))
    assert verdict.reason or verdict.action not in (Action.HOLD, Action.DEAD_LETTER, Action.WAIT_FOR_CLIENT)


def test_every_conclusion_that_the_rules_can_come_to_is_among_those_that_the_metrics_begin_with() -> None:
    inquired = {Outcome.FOUND, Outcome.NOT_FOUND, Outcome.NO_FINDING}
    either = {Outcome.NOT_SENT, Outcome.TRY_LATER, Outcome.CREDENTIALS, Outcome.UNSENDABLE}
    possible = {
        (purpose, outcome, decide(each, POLICY).action)
        for outcome, on_doubt, purpose in product(Outcome, OnDoubt, Purpose)
        if outcome in either or (outcome in inquired) == (purpose is Purpose.INQUIRE)
        for tries, misses, waits in product((0, 9), (0, 9), (False, True))
        for each in [situation(outcome, on_doubt, purpose=purpose, tries=tries, misses=misses, waits=waits)]
    }
    assert possible == set(CONCLUSIONS)
