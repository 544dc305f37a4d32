"""The judge: from what was seen of an attempt to what is written down of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from outbox_worker.errors import Unsendable
from outbox_worker.inboost.operations import DEFAULT
from outbox_worker.inboost.profile import Profile
from outbox_worker.records import Action, Claim, Evidence, Exchange, Outcome, Purpose, Standing
from outbox_worker.rules.schedule import Timetable
from outbox_worker.rules.verdict import Policy
from outbox_worker.runtime.judge import Flight, Judge

PROFILE = Profile(operations=DEFAULT, base_url="https://x", authorization=None, hooks={}, phone_region="UA")
POLICY = Policy(Timetable(first=timedelta(seconds=4), tries_max=3), settle=timedelta(seconds=10))
DIGEST = bytes(32)
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def judge() -> Judge:
    return Judge(PROFILE, POLICY, excerpt_max=5)


def claim(operation: str = "add_purchase", purpose: Purpose = Purpose.SEND, tries: int = 0) -> Claim:
    return Claim(1, 1, 1, tries + 1, purpose, "purchase:1", operation, "api", "{}", NOW, NOW, tries, 0)


def flight(of: Claim) -> Flight:
    return Flight(of, DIGEST, NOW)


def answered(status: int, body: bytes = b"", retry_after: str | None = None) -> Exchange:
    return Exchange(Evidence.ANSWERED, status, retry_after, body, "", 1500)


def silence() -> Exchange:
    return Exchange(Evidence.NO_ANSWER, None, None, b"", "Operation timed out", 1500)


def test_an_accepted_attempt_is_acknowledged_with_its_receipt(judge: Judge) -> None:
    concluded = judge.answered(flight(claim()), answered(201, b'{"ok": true}'), NOW)
    assert (concluded.outcome, concluded.verdict.action) == (Outcome.ACCEPTED, Action.ACKNOWLEDGE)
    assert (concluded.digest, concluded.excerpt, concluded.verdict.reason) == (DIGEST, '{"ok"', "")


def test_an_excerpt_is_text_that_postgresql_takes_whatever_the_answer_was(judge: Judge) -> None:
    assert judge.answered(flight(claim()), answered(200, b"\x00\xff\xd0"), NOW).excerpt == "\ufffd\ufffd\ufffd"
    assert judge.answered(flight(claim()), answered(200), NOW).excerpt is None


def test_meanings_are_those_of_the_operation(judge: Judge) -> None:
    assert judge.answered(flight(claim()), answered(404), NOW).outcome is Outcome.UNKNOWN_CLIENT
    assert judge.answered(flight(claim("accrual_webhook")), answered(404), NOW).outcome is Outcome.REJECTED
    assert judge.answered(flight(claim(purpose=Purpose.INQUIRE)), answered(404), NOW).outcome is Outcome.NOT_FOUND


@pytest.mark.parametrize(
    ("operation", "action"),
    [
        ("set_bonus_balance", Action.RETRY),
        ("add_purchase", Action.INQUIRE),
        ("purchase_webhook", Action.HOLD),
    ],
)
def test_a_doubt_is_settled_by_the_policy_of_the_operation(judge: Judge, operation: str, action: Action) -> None:
    concluded = judge.answered(flight(claim(operation)), silence(), NOW)
    assert (concluded.outcome, concluded.verdict.action) == (Outcome.IN_DOUBT, action)
    assert "Operation timed out" in concluded.verdict.reason
    assert concluded.verdict.standing is Standing.ILL


def test_the_attempt_of_a_worker_that_is_gone_is_in_doubt_and_has_no_exchange(judge: Judge) -> None:
    concluded = judge.gone(claim("set_bonus_balance"), NOW - timedelta(minutes=1), NOW)
    assert (concluded.outcome, concluded.verdict.action) == (Outcome.IN_DOUBT, Action.RETRY)
    assert concluded.exchange is None and concluded.digest is None
    assert 2 <= concluded.due_in_s <= 4


def test_the_look_up_of_a_worker_that_is_gone_is_no_finding(judge: Judge) -> None:
    concluded = judge.gone(claim(purpose=Purpose.INQUIRE), NOW, NOW)
    assert (concluded.outcome, concluded.verdict.action) == (Outcome.NO_FINDING, Action.INQUIRE)


def test_a_doubt_is_looked_up_when_the_request_can_no_longer_be_under_way(judge: Judge) -> None:
    begun_at = NOW - timedelta(seconds=4)
    assert judge.gone(claim(), begun_at, NOW).due_in_s == 6
    assert judge.gone(claim(), begun_at - timedelta(minutes=1), NOW).due_in_s == 0


def test_what_asks_to_be_left_alone_is_left_alone_for_so_long(judge: Judge) -> None:
    concluded = judge.answered(flight(claim()), answered(429, retry_after="120"), NOW)
    assert concluded.outcome is Outcome.TRY_LATER and not concluded.verdict.counts
    assert concluded.verdict.rest_s == concluded.due_in_s == 120


def test_what_cannot_be_sent_waits_if_its_client_can_be_mended(judge: Judge) -> None:
    waits = judge.unsendable(claim(), Unsendable("no phone", waits=True), NOW)
    dead = judge.unsendable(claim(), Unsendable("no total"), NOW)
    assert (waits.verdict.action, dead.verdict.action) == (Action.WAIT_FOR_CLIENT, Action.DEAD_LETTER)
    assert (waits.verdict.reason, waits.exchange) == ("no phone", None)
