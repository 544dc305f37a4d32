"""The rate of a destination: what the claim of one worker spends, no other worker has."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from outbox_worker.database.outbox import Outbox
from outbox_worker.database.turns import Answer, DestinationState, Look, Terms, Turn
from tests.database.rows import Rows
from tests.scenarios.waiting import until

OPERATIONS = ("add_purchase",)
SELDOM, OFTEN = 1 / 3600, 1000.0  # a second
MakeRelay = Callable[..., "Relay"]


class Relay:
    """A worker's half of the outbox: it finds what is open at the API and asks for it."""

    def __init__(self, url: str, rate: float | None) -> None:
        terms = Terms(uuid4(), OPERATIONS, ("pending", "in_doubt"), failures_max=3, probe_s=3, rates={"api": rate})
        self.outbox = Outbox(url, terms)
        self.outbox.connect([])

    def turn(self, turn: Turn) -> Answer:
        self.outbox.begin(turn)
        return until(self.outbox.answer, "the answer")

    def claim(self, number: int, *, probe: bool = False) -> Answer:
        """Ask for the first so many of the deliveries that are open."""
        [*found] = self.turn(Turn(looks=[Look("api", 0, 100)])).found.get("api", [])
        turn = Turn(candidates=found[:number], asked={} if probe else {"api": number}, probes=["api"] if probe else [])
        return self.turn(turn)

    def state(self) -> DestinationState:
        return api(self.turn(Turn(survey_but=[])))


def api(answer: Answer) -> DestinationState:
    return next(it for it in answer.destinations if it.destination == "api")


@pytest.fixture
def rows(connect: Callable[..., psycopg.Connection[Any]]) -> Rows:
    rows = Rows(connect())
    for number in range(8):
        rows.purchase(number, str(number))
    return rows


@pytest.fixture
def relay(database_url: str) -> Iterator[MakeRelay]:
    with ExitStack() as stack:

        def make(rate: float | None) -> Relay:
            made = Relay(database_url, rate)
            stack.enter_context(closing(made.outbox))
            return made

        yield make


def test_without_a_rate_everything_is_claimed_and_nothing_is_written_down(rows: Rows, relay: MakeRelay) -> None:
    worker = relay(None)
    before = rows.all("select xmin::text from outbox.destination where destination = 'api'")
    answer = worker.claim(8)
    assert len(answer.claims) == 8
    assert (api(answer).rest_s, api(answer).at_once) == (0, None)
    assert rows.all("select xmin::text from outbox.destination where destination = 'api'") == before


def test_what_the_rate_does_not_allow_is_not_claimed_and_costs_no_attempt(rows: Rows, relay: MakeRelay) -> None:
    one, other = relay(SELDOM), relay(SELDOM)
    assert len(one.claim(1).claims) == 1
    for answer in (one.claim(1), other.claim(1)):
        assert answer.claims == []
        assert api(answer).at_once == 1 and 3590 < api(answer).rest_s <= 3600
    assert rows.all("select distinct attempt_count, try_count from outbox.delivery") == [(0, 0)]


def test_what_is_asked_for_at_once_is_had_at_once_or_not_at_all(rows: Rows, relay: MakeRelay) -> None:
    worker = relay(100.0)
    assert worker.state().at_once == 5
    assert worker.claim(6).claims == []
    assert len(worker.claim(5).claims) == 5


def test_only_what_was_claimed_is_spent(rows: Rows, relay: MakeRelay) -> None:
    worker = relay(SELDOM)
    [first, *_] = worker.turn(Turn(looks=[Look("api", 0, 100)])).found["api"]
    rows.do("update outbox.delivery set due_at = now() + interval '1 hour' where delivery_id = %s", first.delivery_id)
    assert worker.turn(Turn(candidates=[first], asked={"api": 1})).claims == []
    assert len(worker.claim(2).claims) == 0 and len(worker.turn(Turn(looks=[Look("api", 0, 9)])).found["api"]) == 8
    rows.do("update outbox.delivery set due_at = now() where delivery_id = %s", first.delivery_id)
    assert len(worker.claim(1).claims) == 1


def test_who_does_not_know_of_the_rate_claims_nothing(rows: Rows, relay: MakeRelay) -> None:
    worker = relay(OFTEN)
    [*found] = worker.turn(Turn(looks=[Look("api", 0, 100)])).found["api"]
    assert worker.turn(Turn(candidates=found)).claims == []


def test_the_worker_that_connected_last_says_what_the_rate_is(rows: Rows, relay: MakeRelay) -> None:
    first = relay(SELDOM)
    relay(OFTEN)
    assert first.state().at_once == 50
    relay(None)
    assert first.state().at_once is None and len(first.claim(8).claims) == 8


def test_a_probe_spends_what_it_asks_for(rows: Rows, relay: MakeRelay) -> None:
    worker = relay(SELDOM)
    rows.do("update outbox.destination set failure_count = 3 where destination = 'api'")
    assert len(worker.claim(1, probe=True).claims) == 1
    rows.do("update outbox.destination set probe_until = now() where destination = 'api'")
    assert worker.claim(1, probe=True).claims == []


def test_a_row_that_another_worker_is_spending_from_is_passed_over_and_not_waited_for(
    rows: Rows, relay: MakeRelay, connect: Callable[..., psycopg.Connection[Any]]
) -> None:
    worker, another = relay(OFTEN), connect(autocommit=False)
    another.execute("select from outbox.destination where destination = 'api' for update")
    assert worker.claim(1).claims == []
    another.rollback()
    assert len(worker.claim(1).claims) == 1


@pytest.mark.parametrize(("spent", "claimed"), [("now()", 0), ("now() - interval '2 hours'", 1)])
def test_what_another_worker_has_spent_since_the_statement_began_is_seen(
    rows: Rows, relay: MakeRelay, connect: Callable[..., psycopg.Connection[Any]], spent: str, claimed: int
) -> None:
    """The statement's snapshot is older than the other's commit: it waits at a row that comes before."""
    worker, another = relay(SELDOM), connect(autocommit=False)
    rows.do("update outbox.destination set failure_count = 3 where destination = 'accrual_hook'")
    [found, *_] = worker.turn(Turn(looks=[Look("api", 0, 100)])).found["api"]
    another.execute("select from outbox.destination where destination = 'accrual_hook' for update")
    another.execute(f"update outbox.destination set rate_from = {spent} where destination = 'api'")
    answers: list[Answer] = []
    turn = Turn(candidates=[found], asked={"api": 1}, probes=["accrual_hook"])
    thread = threading.Thread(target=lambda: answers.append(worker.turn(turn)))
    thread.start()
    waiting = "select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    until(lambda: rows.all(waiting), "the worker to wait")
    another.commit()
    thread.join()
    assert len(answers[0].claims) == claimed
    assert 3590 < api(answers[0]).rest_s <= 3600
