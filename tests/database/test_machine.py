"""Workers and people at one database, in any order: claim, conclude, take over, settle, crash, lose the connection.

What is true after every step:
    a lane has one claim at most, and it is the one that the model knows
    what was concluded without its claim left no trace; every other conclusion is one row of the journal
    every duty is either still there or has exactly one end: a receipt, or a person's confirm or discard
    nothing was claimed past what holds up its lane
and in the end everything can be brought to its end.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection

from outbox_worker.database import deliveries, lanes, settling
from outbox_worker.database.acts import Instruction
from outbox_worker.database.deliveries import Selection
from outbox_worker.database.engine import engine
from outbox_worker.database.outbox import Outbox
from outbox_worker.database.settling import CONFIRM, DISCARD, REQUEUE, RESEND, Settlement
from outbox_worker.database.turns import Answer, Look, Terms, Turn
from outbox_worker.records import Action, Claim, Conclusion, Outcome, Purpose, Verdict
from outbox_worker.rules.lanes import Due
from tests.database.rows import Rows

OPERATIONS = ("add_purchase", "purchase_webhook")
DESTINATIONS = ("api", "purchase_hook")
ALWAYS_BLOCKING = ("pending", "in_doubt", "waiting")
ENDINGS = {
    Action.ACKNOWLEDGE: Outcome.ACCEPTED,
    Action.RETRY: Outcome.TRY_LATER,
    Action.INQUIRE: Outcome.IN_DOUBT,
    Action.HOLD: Outcome.IN_DOUBT,
    Action.DEAD_LETTER: Outcome.REJECTED,
    Action.WAIT_FOR_CLIENT: Outcome.UNKNOWN_CLIENT,
}
OF_ONE_THAT_IS_GONE = (Action.RETRY, Action.INQUIRE, Action.HOLD)
BY = Instruction("olena@till", "InBoost says so")

UNENDED = """
select event.event_id, route.operation,
       (select count(*) from outbox.delivery it
        where it.event_id = event.event_id and it.operation = route.operation) as there,
       (select count(*) from outbox.attempt it
        where it.event_id = event.event_id and it.operation = route.operation and it.verdict = 'acknowledge')
       + (select count(*) from outbox.act it
          where it.event_id = event.event_id and it.operation = route.operation and it.act in ('confirm', 'discard'))
       as ends
from outbox.event join outbox.route using (kind)
"""
OVERTAKEN_IN_LANE = """
select claim.delivery_id from outbox.claim join outbox.delivery earlier using (lane)
where earlier.delivery_id < claim.delivery_id and earlier.state = any (%s) and claim.lane = any (%s)
"""
MISNUMBERED = "select event_id, operation from outbox.attempt group by 1, 2 having max(number) <> count(*)"


class Worker:
    """A worker that knows some claims. Those that were taken over from it, it still believes to be its own."""

    def __init__(self, url: str, blocking: tuple[str, ...]) -> None:
        self.outbox = Outbox(url, Terms(uuid4(), OPERATIONS, blocking, failures_max=5, probe_s=3))
        self.outbox.connect([])
        self.sent: list[Claim] = []
        self.taken: list[Claim] = []  # from others: nobody knows what became of them
        self.unclaimed: list[Due] = []

    def turn(self, turn: Turn) -> Answer:
        self.outbox.begin(turn)
        while (answer := self.outbox.answer()) is None:
            assert select.select([self.outbox], [], [], 20)[0], "no answer"
        return answer

    @property
    def known(self) -> list[Claim]:
        return [*self.sent, *self.taken]


class Machine(RuleBasedStateMachine):
    """`url` is a database of its own, emptied before each run."""

    def __init__(self, url: str, rows: Rows, person: Connection) -> None:
        super().__init__()
        self.url, self.rows, self.person = url, rows, person
        self.current: dict[int, int] = {}  # lane: claim id
        self.written = 0  # conclusions that took effect
        self.number = 0
        self.workers: list[Worker] = []
        rows.do("truncate outbox.event, outbox.delivery, outbox.claim, outbox.attempt, outbox.act, outbox.duplicate")

    @initialize(count=st.integers(2, 3), waits=st.booleans())
    def begin(self, count: int, waits: bool) -> None:
        self.blocking = (*ALWAYS_BLOCKING, "dead", "held") if waits else ALWAYS_BLOCKING
        self.workers = [Worker(self.url, self.blocking) for _ in range(count)]

    # Accounting

    @rule(customer=st.integers(1, 3))
    def record(self, customer: int) -> None:
        self.number += 1
        self.rows.purchase(self.number, str(customer))

    @precondition(lambda self: self.number)
    @rule(data=st.data())
    def record_again(self, data: st.DataObject) -> None:
        self.rows.purchase(data.draw(st.integers(1, self.number)))

    # Workers

    @rule(data=st.data(), is_heard=st.booleans())
    def claim(self, data: st.DataObject, is_heard: bool) -> None:
        """Ask for deliveries that are open, heads of their lanes or not; now and then the answer is lost."""
        worker = self._worker(data)
        looks = [Look(name, 0, 100) for name in DESTINATIONS]
        answer = worker.turn(Turn(looks=looks, unclaimed=worker.unclaimed))
        found = [due for dues in answer.found.values() for due in dues]
        wanted = (
            data.draw(st.lists(st.sampled_from(found), min_size=1, unique_by=lambda due: due.lane)) if found else []
        )
        claims = worker.turn(Turn(candidates=wanted)).claims
        claimed = {claim.lane for claim in claims}
        assert not claimed & self.current.keys(), "a lane was claimed that has a claim"
        assert not self.rows.all(OVERTAKEN_IN_LANE, list(self.blocking), list(claimed)), "claimed past what blocks"
        worker.unclaimed = [due for due in wanted if due.lane not in claimed]
        if is_heard:
            worker.sent += claims
            self.current.update((claim.lane, claim.claim_id) for claim in claims)
        else:
            worker.outbox.connect([claim.claim_id for claim in worker.known])

    @rule(data=st.data(), action=st.sampled_from(list(ENDINGS)))
    def conclude(self, data: st.DataObject, action: Action) -> None:
        worker = self._worker(data)
        if worker.sent:
            self._conclude(worker, worker.sent, data.draw(st.sampled_from(worker.sent)), action)

    @rule(data=st.data(), action=st.sampled_from(OF_ONE_THAT_IS_GONE))
    def conclude_what_was_taken_over(self, data: st.DataObject, action: Action) -> None:
        worker = self._worker(data)
        if worker.taken:
            self._conclude(worker, worker.taken, data.draw(st.sampled_from(worker.taken)), action)

    @rule(data=st.data())
    def take_over(self, data: st.DataObject) -> None:
        worker = self._worker(data)
        self._take_over(worker)

    @rule(data=st.data())
    def lose_the_connection(self, data: st.DataObject) -> None:
        worker = self._worker(data)
        worker.outbox.connect([claim.claim_id for claim in worker.known])

    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """Another process comes in its place and knows nothing."""
        worker = self._worker(data)
        worker.outbox.close()
        self.workers[self.workers.index(worker)] = Worker(self.url, self.blocking)

    # People

    @rule(settlement=st.sampled_from([CONFIRM, RESEND, REQUEUE, DISCARD]), data=st.data())
    def settle(self, settlement: Settlement, data: st.DataObject) -> None:
        with self.person.begin():
            found = deliveries.find(self.person, Selection(settlement.states))
        if found:
            self._settle(
                settlement, data.draw(st.lists(st.sampled_from(found), min_size=1, unique_by=lambda it: it.key))
            )

    @rule()
    def release(self) -> None:
        with self.person.begin():
            lanes.release(self.person, lanes.awaiting_client(self.person, self.blocking), BY, self.blocking)

    # What is true after every step

    @invariant()
    def claims_are_those_that_were_made(self) -> None:
        assert dict(self.rows.all("select lane, claim_id from outbox.claim")) == self.current

    @invariant()
    def the_journal_has_what_was_concluded_with_its_claim(self) -> None:
        assert self.rows.all("select count(*) from outbox.attempt") == [(self.written,)]
        assert self.rows.all(MISNUMBERED) == []

    @invariant()
    def every_duty_is_there_or_has_one_end(self) -> None:
        assert [row for row in self.rows.all(UNENDED) if row[2] + row[3] != 1] == []

    def teardown(self) -> None:
        try:
            if self.workers:
                self._bring_to_an_end()
        finally:
            for worker in self.workers:
                worker.outbox.close()

    # How

    def _worker(self, data: st.DataObject) -> Worker:
        return data.draw(st.sampled_from(self.workers))

    def _conclude(self, worker: Worker, of: list[Claim], claim: Claim, action: Action) -> None:
        of.remove(claim)
        if claim.purpose is Purpose.INQUIRE and action in (Action.DEAD_LETTER, Action.WAIT_FOR_CLIENT):
            action = Action.INQUIRE
        reason = "" if action is Action.ACKNOWLEDGE else "so it is"
        conclusion = Conclusion(claim, ENDINGS[action], Verdict(action, reason=reason), None)
        is_ours = self.current.get(claim.lane) == claim.claim_id
        answer = worker.turn(Turn(conclusions=[conclusion]))
        assert answer.overtaken == ([] if is_ours else [conclusion])
        if is_ours:
            del self.current[claim.lane]
            self.written += 1

    def _take_over(self, worker: Worker) -> None:
        taken = [claim for claim, _ in worker.outbox.take_over(0, [claim.lane for claim in worker.known])]
        assert all(self.current[claim.lane] < claim.claim_id for claim in taken)
        self.current.update((claim.lane, claim.claim_id) for claim in taken)
        worker.taken += taken

    def _settle(self, settlement: Settlement, chosen: list[Any]) -> None:
        with self.person.begin():
            settled = settling.settle(self.person, settlement, chosen, BY, self.blocking)
        claimed = set(self.rows.all("select lane, delivery_id from outbox.claim"))
        assert not claimed & {it.key for it in settled.done}, "settled while it was being sent"

    def _bring_to_an_end(self) -> None:
        """All but one have crashed; a person has everything sent that waits for one."""
        for worker in self.workers[1:]:
            worker.outbox.close()
        [worker] = self.workers = self.workers[:1]
        for _ in range(10 * self.number + 10):
            self._take_over(worker)
            for claim in worker.known:
                self._conclude(worker, worker.sent if claim in worker.sent else worker.taken, claim, Action.RETRY)
            for settlement in (RESEND, REQUEUE):
                with self.person.begin():
                    found = deliveries.find(self.person, Selection(settlement.states))
                self._settle(settlement, found)
            self.release()
            answer = worker.turn(Turn(looks=[Look(name, 0, 100) for name in DESTINATIONS]))
            heads = {due.lane: due for dues in reversed(answer.found.values()) for due in reversed(dues)}
            for claim in worker.turn(Turn(candidates=list(heads.values()))).claims:
                self.current[claim.lane] = claim.claim_id
                worker.sent.append(claim)
                self._conclude(worker, worker.sent, claim, Action.ACKNOWLEDGE)
            if not self.rows.all("select from outbox.delivery"):
                break
        self.claims_are_those_that_were_made()
        self.every_duty_is_there_or_has_one_end()
        assert self.rows.all("select event_id, operation, state, reason from outbox.delivery") == [], "stuck"


@pytest.fixture
def rows(connect: Callable[..., psycopg.Connection[Any]]) -> Rows:
    return Rows(connect())


@pytest.mark.parametrize(
    ("examples", "steps"), [(10, 25), pytest.param(150, 60, marks=pytest.mark.long)], ids=["short", "deep"]
)
def test_whatever_workers_and_people_do_nothing_is_claimed_twice_lost_or_stuck(
    rows: Rows, database_url: str, examples: int, steps: int
) -> None:
    profile = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
    )
    with engine(database_url, application_name="person").connect() as person:
        run_state_machine_as_test(lambda: Machine(database_url, rows, person), settings=profile)
