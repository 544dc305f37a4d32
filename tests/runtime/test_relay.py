"""The relay, round by round, in this process: what performance rests on, and answers of the database that get lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from time import monotonic
from uuid import UUID, uuid4

import psycopg
import pytest

from outbox_worker import configuration
from outbox_worker.configuration import assembly
from outbox_worker.database.outbox import Outbox
from outbox_worker.database.turns import Answer, DestinationNote, Look, Terms, Turn
from outbox_worker.errors import DatabaseUnavailable, TurnRefused, TurnUndone
from outbox_worker.inboost.operations import DELIVERIES
from outbox_worker.records import Action, Conclusion, Outcome, Verdict
from outbox_worker.runtime import connection
from outbox_worker.runtime import relay as relay_module
from outbox_worker.runtime.relay import Relay
from tests.scenarios.faults import make_commits_fail
from tests.scenarios.judgement import assert_settled
from tests.scenarios.world import World

SESSIONS = "from pg_stat_activity where datname = current_database() and application_name like 'outbox-worker%%'"
ACCEPTED = ("accepted", "acknowledge")


class Silence:
    """A journal that nobody reads."""

    def __init__(self, worker: str) -> None: ...
    def concluded(self, *_: object) -> None: ...
    def overtaken(self, *_: object) -> None: ...
    def noted(self, *_: object) -> None: ...
    def woken(self, *_: object) -> None: ...
    def unclaimed(self, *_: object) -> None: ...
    def round_over(self) -> None: ...
    def database_lost(self, *_: object) -> None: ...
    def turn_refused(self, *_: object) -> None: ...
    def turn_undone(self, *_: object) -> None: ...
    def database_back(self) -> None: ...


class ForgetfulOutbox(Outbox):
    """Loses the answer to a turn: it has taken effect, and the relay does not hear of it."""

    loses: Callable[[Turn, Answer], bool] = staticmethod(lambda turn, answer: False)
    turn_count = 0
    look_count = 0  # turns that looked for what is new
    lost_count = 0
    prepared_count = 0  # times that it fell asleep, and knew what to ask when it rings

    def begin(self, turn: Turn) -> None:
        self.turn_begun = turn
        type(self).turn_count += 1
        type(self).look_count += bool(turn.looks)
        super().begin(turn)

    def prepare(self, turn: Turn) -> None:
        type(self).prepared_count += 1
        super().prepare(turn)

    def answer(self) -> Answer | None:
        answer = super().answer()
        if answer is not None and not self.lost_count and type(self).loses(self.turn_begun, answer):
            type(self).lost_count += 1
            raise DatabaseUnavailable("the answer to the turn was lost")
        return answer


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> type[ForgetfulOutbox]:
    """A class of its own for each test, so that its counts are."""
    kind = type("Forgetful", (ForgetfulOutbox,), {})
    monkeypatch.setattr(assembly, "Outbox", kind)
    monkeypatch.setattr(assembly, "Journal", Silence)
    return kind


@pytest.fixture
def relay(world: World, forgetful: type[ForgetfulOutbox], monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    # A condition is looked at between two rounds, and one that has nothing to do would wait for seconds.
    monkeypatch.setattr(relay_module, "WAIT_MAX_S", 0.1)
    assembled = assembly.assemble(
        configuration.load(
            world.configure("relay", {"relay.slots": 32, "relay.poll_interval": 60, "inboost.request_timeout": 10})
        )
    )
    yield assembled.relay
    assembled.relay.stop()
    assembled.relay.run()


def run_until(relay: Relay, condition: Callable[[], object], within_s: float = 20) -> None:
    give_up_at = monotonic() + within_s
    while not condition():
        assert monotonic() < give_up_at, "the relay ran in vain"
        relay.run_once()


def is_done(world: World) -> bool:
    return not world.states() and not world.claims()


def commit_count(world: World) -> int:
    world.rows("select pg_stat_clear_snapshot()")
    return int(
        world.value("select pg_stat_get_db_xact_commit(oid) from pg_database where datname = current_database()")
    )


def test_all_answers_that_are_there_are_written_down_in_one_transaction_that_claims_what_follows(
    world: World, relay: Relay
) -> None:
    """How few transactions a backlog takes depends on how the answers come; here they come a full house at a time."""
    customers = world.shop.customers(100)
    for number in range(200):
        world.shop.buy(customers[number % 100])
    world.inboost.put_faults("*:barrier:point=acted")
    in_flight_max, house_count = 2 * 32, 0  # slots of the portal and of the purchases' hook
    while left := 400 - world.effect_count():
        run_until(relay, partial(is_held, world, min(in_flight_max, left)))
        house_count += 1
        claiming, concluding = transactions(world, "outbox.claim"), transactions(world, "outbox.attempt")
        assert len(concluding) == house_count - 1
        assert house_count == 1 or claiming <= concluding, "what followed was claimed by a turn of its own"
        world.inboost.do(world.inboost.sandbox.barrier.release)
        world.until(lambda: not world.inboost.state.ledger.in_flight_count, "the answers to be written")
    assert house_count == 7
    run_until(relay, lambda: is_done(world))
    assert_settled(world)


def is_held(world: World, number: int) -> bool:
    return world.held("acted") == number


def transactions(world: World, table: str) -> set[int]:
    """Return the transactions that wrote the rows of a table."""
    return {xid for (xid,) in world.rows(f"select distinct xmin::text::bigint from {table}")}


def test_what_is_new_is_claimed_when_it_rings_before_anything_is_looked_for(
    world: World, relay: Relay, forgetful: type[ForgetfulOutbox]
) -> None:
    run_until(relay, lambda: relay.is_ready and forgetful.prepared_count)
    world.shop.accrue(world.shop.customer())
    forgetful.look_count = 0
    run_until(relay, lambda: world.claims())
    assert forgetful.look_count == 0


def test_what_a_turn_finds_and_claims_does_not_hide_what_it_was_to_claim_and_did_not(
    world: World, relay: Relay, forgetful: type[ForgetfulOutbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    taken_away: list[int] = []
    monkeypatch.setattr(Silence, "unclaimed", lambda _, number: counted.append(number))
    begin = ForgetfulOutbox.begin
    one, *others = world.shop.customers(4)

    def take_away_and_begin(outbox: ForgetfulOutbox, turn: Turn) -> None:
        if turn.candidates and turn.fresh and not taken_away:
            taken_away.extend(due.delivery_id for due in turn.candidates)
            world.do("delete from outbox.delivery where delivery_id = any (%s)", taken_away)
            for other in others:
                world.shop.accrue(other)
        begin(outbox, turn)

    monkeypatch.setattr(forgetful, "begin", take_away_and_begin)
    for _ in range(3):
        world.shop.accrue(one)
    run_until(relay, lambda: taken_away and is_done(world))
    assert counted[0] == len(taken_away)


def test_a_claim_made_when_it_rang_whose_answer_is_lost_is_released_and_sent_once(
    world: World, relay: Relay, forgetful: type[ForgetfulOutbox]
) -> None:
    forgetful.loses = staticmethod(lambda turn, answer: turn.at_ring and bool(answer.claims))
    run_until(relay, lambda: relay.is_ready and forgetful.prepared_count)
    world.shop.accrue(world.shop.customer())
    run_until(relay, lambda: is_done(world) and world.effect_count() == 2)
    assert forgetful.lost_count == 1 and world.request_count() == 2
    assert world.attempts("accrual_webhook") == world.attempts("set_bonus_balance") == [ACCEPTED]


def test_told_to_stop_it_claims_nothing_when_it_rings(
    world: World, relay: Relay, forgetful: type[ForgetfulOutbox]
) -> None:
    locked = "select from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock' and granted"
    run_until(relay, lambda: relay.is_ready and world.rows(locked))
    world.inboost.put_faults("*:barrier:point=acted,count=2")
    world.shop.accrue(world.shop.customer())
    run_until(relay, lambda: world.held("acted") == 2)
    begun_s = monotonic()
    run_until(relay, lambda: monotonic() > begun_s + 0.3)
    assert world.rows(locked), "it sleeps again"
    relay.stop()
    world.shop.accrue(world.shop.customer())
    begun_s = monotonic()
    run_until(relay, lambda: monotonic() > begun_s + 0.3)
    assert world.request_count() == 2
    world.release()


@pytest.mark.long
def test_a_sleeping_worker_asks_the_database_once_a_second_at_most(world: World) -> None:
    worker = world.start({"relay.poll_interval": 30})
    world.until_asleep(worker)
    begun_s = monotonic()
    world.until(lambda: monotonic() > begun_s + 4, "the server to have reported what the start cost")
    before = commit_count(world)
    world.until(lambda: monotonic() > begun_s + 14, "ten seconds to pass")
    own_count = 2
    assert commit_count(world) - before - own_count <= 10
    assert world.request_count() == 0


def test_the_slow_poll_of_a_sleeping_relay_finds_what_did_not_ring_and_claims_it_in_the_next_turn(
    world: World, relay: Relay, forgetful: type[ForgetfulOutbox]
) -> None:
    turns: list[Turn] = []
    forgetful.loses = staticmethod(lambda turn, answer: turns.append(turn) is not None)
    run_until(relay, lambda: relay._doorbell.armed and not relay._asked)
    world.do("create or replace function outbox.ring_doorbell() returns void language sql as ''")
    world.shop.accrue(world.shop.customer())
    turns.clear()
    relay._doorbell._look_at_s = 0.0
    run_until(relay, lambda: turns)
    assert turns[0].looks and not turns[0].fresh, "two statements where one is enough, for nothing nearly always"
    run_until(relay, lambda: is_done(world))
    assert_settled(world)


def test_a_lane_goes_on_when_the_answer_to_the_turn_that_claimed_its_next_delivery_is_lost(
    world: World, relay: Relay, forgetful: type[ForgetfulOutbox]
) -> None:
    """That turn also concluded the delivery before, so that the lane is known to the relay; the claim is not."""
    customer = world.shop.customer()
    for _ in range(3):
        world.shop.buy(customer)
    forgetful.loses = staticmethod(
        lambda turn, answer: any(it.claim.lane in {claim.lane for claim in answer.claims} for it in turn.conclusions)
    )
    run_until(relay, lambda: is_done(world))
    assert forgetful.lost_count == 1, "there was no such turn"
    assert world.attempts("purchase_webhook") == world.attempts("add_purchase") == [ACCEPTED] * 3
    assert world.request_count() == 6


def test_nothing_is_sent_of_a_claim_whose_answer_was_lost_until_it_is_claimed_again(
    world: World, relay: Relay, forgetful: type[ForgetfulOutbox]
) -> None:
    world.shop.buy(world.shop.customer())
    forgetful.loses = staticmethod(lambda turn, answer: bool(answer.claims))
    run_until(relay, lambda: forgetful.lost_count)
    assert world.request_count() == 0 and len(world.claims()) == 2
    run_until(relay, lambda: is_done(world))
    assert world.request_count() == 2
    assert world.attempts("purchase_webhook") == world.attempts("add_purchase") == [ACCEPTED]


def test_conclusions_whose_answer_was_lost_are_written_once(
    world: World, relay: Relay, forgetful: type[ForgetfulOutbox]
) -> None:
    world.shop.buy(world.shop.customer())
    forgetful.loses = staticmethod(lambda turn, answer: bool(turn.conclusions))
    run_until(relay, lambda: forgetful.lost_count and is_done(world))
    assert world.request_count() == 2
    assert_settled(world)


@pytest.mark.parametrize("open_s", [0, 2.5])
def test_an_event_that_commits_behind_the_position_just_before_the_relay_falls_asleep_is_not_slept_over(
    world: World, relay: Relay, forgetful: type[ForgetfulOutbox], monkeypatch: pytest.MonkeyPatch, open_s: float
) -> None:
    """The relay was awake when it was recorded, so it does not ring; and looks have gone past it when it commits."""
    early, late = world.shop.customers(2)
    payload = '{"phone": "+380501111111", "balance": 1.00, "changed_at": "2026-01-31T10:00:00+00:00"}'
    begin = ForgetfulOutbox.begin
    with psycopg.connect(world.database_url) as early_one:
        early_one.execute("select outbox.record_event('bonus_balance', 'early', %s, %s, now())", [str(early), payload])
        world.shop.accrue(late)
        begun_s = monotonic()

        def commit_and_begin(outbox: ForgetfulOutbox, turn: Turn) -> None:
            if turn.arm and world.effect_count() == 2 and monotonic() > begun_s + open_s:
                early_one.commit()
            begin(outbox, turn)

        monkeypatch.setattr(forgetful, "begin", commit_and_begin)
        run_until(relay, lambda: world.effect_count() == 3, within_s=open_s + 4)


def test_an_overdue_claim_that_nobody_can_conclude_does_not_keep_the_relay_busy(
    world: World, relay: Relay, forgetful: type[ForgetfulOutbox]
) -> None:
    world.shop.accrue(world.shop.customer())
    claim_as_another(world)
    world.do("delete from outbox.event")
    begun_s = monotonic()
    run_until(relay, lambda: monotonic() > begun_s + 1.5)
    forgetful.turn_count = 0
    run_until(relay, lambda: monotonic() > begun_s + 4)
    assert forgetful.turn_count < 30, "a few surveys, and the lane asked for at growing pauses"


def test_a_turn_that_is_refused_again_and_again_ends_the_relay_and_nothing_is_sent_of_it(
    world: World, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REFUSALS_MAX", 3)
    world.shop.accrue(world.shop.customer())
    make_commits_fail(world, "outbox.claim", 1000, errcode="raise_exception")
    with pytest.raises(TurnRefused, match="no space left on device"):
        run_until(relay, lambda: False)
    assert world.request_count() == 0 and world.claims() == []


def die_of_deadlock(world: World, session: psycopg.Connection, turn: Callable[[], object]) -> None:
    """Have a turn that concludes wait for a delivery whose holder then asks for the claim; `session` holds it.

    The relay's session is the one that PostgreSQL sacrifices: the other would look for a deadlock after an hour only.
    """
    session.execute("set deadlock_timeout = '1h'")
    session.execute("begin")
    assert session.execute("select from outbox.delivery for update").rowcount
    turn()
    with ThreadPoolExecutor(1) as beside:
        beside.submit(session.execute, "select from outbox.claim for update").result(30)
    session.execute("rollback")


def is_waiting_for_a_lock(world: World) -> bool:
    return bool(world.rows(f"select {SESSIONS} and wait_event_type = 'Lock'"))


def test_a_turn_that_dies_of_a_deadlock_is_made_again_on_the_same_connection(
    world: World, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    undone: list[TurnUndone] = []
    monkeypatch.setattr(relay_module, "WAIT_MAX_S", 0.05)
    monkeypatch.setattr(Silence, "turn_undone", lambda _, error: undone.append(error))
    monkeypatch.setattr(Silence, "database_lost", lambda _, error: pytest.fail(f"the database was lost: {error}"))
    world.inboost.put_faults("*:barrier:point=acted,count=2")
    world.shop.accrue(world.shop.customer())
    run_until(relay, lambda: world.held("acted") == 2)

    def conclude() -> None:
        world.release()
        run_until(relay, lambda: is_waiting_for_a_lock(world))

    with psycopg.connect(world.database_url, autocommit=True) as session:
        die_of_deadlock(world, session, conclude)
    run_until(relay, lambda: is_done(world))
    assert len(undone) == 1 and "deadlock detected" in str(undone[0])
    assert world.request_count() == 2
    assert world.attempts("accrual_webhook") == world.attempts("set_bonus_balance") == [ACCEPTED]


def test_what_has_not_left_when_the_database_is_lost_is_given_back(
    world: World, relay: Relay, forgetful: type[ForgetfulOutbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[int] = []
    opened = ForgetfulOutbox.open
    monkeypatch.setattr(forgetful, "open", lambda outbox, ids: known.extend(ids) or opened(outbox, ids))
    monkeypatch.setattr(relay_module, "SEND_MAX", 1)
    run_until(relay, lambda: relay.is_ready)
    world.inboost.put_faults("*:barrier:point=acted,count=20")
    for customer in world.shop.customers(10):
        world.shop.accrue(customer)
    run_until(relay, lambda: len(world.claims()) == 20)
    world.rows(f"select pg_terminate_backend(pid) {SESSIONS}")
    run_until(relay, lambda: known)
    assert len(known) < 20, "what was sent is known, what was not is given back"
    world.inboost.put_faults()
    world.release()
    run_until(relay, lambda: is_done(world))
    assert world.request_count() == 20
    assert_settled(world)


def test_with_many_requests_on_their_way_answers_are_written_down_together(
    world: World, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "GATHER_S", 60)
    run_until(relay, lambda: relay.is_ready)
    world.inboost.put_faults("*:barrier:point=acted,count=34")
    for customer in world.shop.customers(32):
        world.shop.accrue(customer)
    run_until(relay, lambda: world.effect_count() == 64)
    begun_s = monotonic()
    run_until(relay, lambda: monotonic() > begun_s + 0.3)
    assert not world.rows("select from outbox.attempt")
    world.release()
    run_until(relay, lambda: is_done(world))
    assert_settled(world)


def test_a_turn_that_is_never_answered_is_given_up(world: World, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "TURN_MAX_S", 0.5)
    monkeypatch.setattr(relay_module, "WAIT_MAX_S", 0.1)
    customer = world.shop.customer()
    run_until(relay, lambda: relay.is_ready)
    [(backend,)] = world.rows(f"select pid {SESSIONS}")
    os.kill(backend, signal.SIGSTOP)
    try:
        world.shop.accrue(customer)
        run_until(relay, lambda: not relay.is_ready)
    finally:
        os.kill(backend, signal.SIGCONT)
    run_until(relay, lambda: is_done(world))
    assert_settled(world)


# The relay's half of the outbox, without the relay.


@pytest.fixture
def outbox(world: World) -> Iterator[Outbox]:
    terms = Terms(uuid4(), DELIVERIES, ("pending", "in_doubt", "waiting"), failures_max=5, probe_s=3)
    with closing(Outbox(world.database_url, terms)) as outbox:
        outbox.connect([])
        yield outbox


def turned(world: World, outbox: Outbox, turn: Turn) -> Answer:
    outbox.begin(turn)
    return world.until(outbox.answer, "the answer")


def claim_as_another(world: World) -> UUID:
    """Make the first delivery one that a worker claimed an hour ago."""
    other = uuid4()
    world.do(
        "insert into outbox.claim (lane, delivery_id, number, purpose, worker, claimed_at)"
        " select lane, delivery_id, 1, 'send', %s, now() - interval '1 hour' from outbox.delivery"
        " order by delivery_id limit 1",
        other,
    )
    return other


def test_a_claim_taken_over_is_not_released_as_never_sent_when_the_answer_is_lost(world: World, outbox: Outbox) -> None:
    world.shop.accrue(world.shop.customer())
    claim_as_another(world)
    assert len(outbox.take_over(60, [])) == 1
    outbox.connect([])  # as after a lost answer: nothing is known of the claim
    assert len(world.claims()) == 1
    [(again, _)] = outbox.take_over(60, [])
    assert again.number == 1


def test_a_claim_taken_over_is_not_released_by_the_worker_that_made_it_and_has_no_idea(
    world: World, outbox: Outbox
) -> None:
    """That one was cut off, knows the claim by its old id, and connects before the taker has concluded it."""
    world.shop.accrue(world.shop.customer())
    [due, *_] = turned(world, outbox, Turn(looks=[Look("accrual_hook", 0, 9)])).found["accrual_hook"]
    [claim] = turned(world, outbox, Turn(candidates=[due])).claims
    terms = Terms(uuid4(), DELIVERIES, ("pending", "in_doubt", "waiting"), failures_max=5, probe_s=3)
    with closing(Outbox(world.database_url, terms)) as other:
        other.connect([])
        [(taken, _)] = other.take_over(0, [])
        outbox.connect([claim.claim_id])
        assert len(world.claims()) == 1
        verdict = Verdict(Action.HOLD, reason="in doubt")
        conclusion = Conclusion(taken, Outcome.IN_DOUBT, verdict, None)
        assert turned(world, other, Turn(conclusions=[conclusion])).overtaken == []
    assert world.states()["held"] == 1


def test_a_claim_taken_over_twice_is_concluded_by_the_later_one(world: World, outbox: Outbox) -> None:
    world.shop.accrue(world.shop.customer())
    claim_as_another(world)
    [(first, _)] = outbox.take_over(60, [])
    [(second, _)] = outbox.take_over(60, [])
    assert first.claim_id < second.claim_id


def test_an_overdue_claim_whose_delivery_a_person_removed_goes_too(world: World, outbox: Outbox) -> None:
    world.shop.accrue(world.shop.customer())
    claim_as_another(world)
    world.do("delete from outbox.delivery")
    assert outbox.take_over(60, []) == []
    assert world.value("select count(*) from outbox.claim") == 0
    assert turned(world, outbox, Turn(survey_but=[])).oldest_foreign_claim_s is None


def test_a_rest_that_was_asked_for_is_kept_though_another_answer_of_the_same_turn_was_well(
    world: World, outbox: Outbox
) -> None:
    note = DestinationNote("api", well=True, rest_s=60.0, backoff_s=0.0, pause_reason=None)
    states = {state.destination: state for state in turned(world, outbox, Turn(notes=[note])).destinations}
    assert states["api"].rest_s > 50
    assert states["accrual_hook"].rest_s == 0


def test_what_fails_while_a_failing_destination_rests_does_not_lengthen_its_rest(world: World, outbox: Outbox) -> None:
    note = DestinationNote("api", well=False, rest_s=0.0, backoff_s=20.0, pause_reason=None)
    world.do("update outbox.destination set failure_count = 4 where destination = 'api'")
    turned(world, outbox, Turn(notes=[note]))
    late = DestinationNote("api", well=False, rest_s=0.0, backoff_s=500.0, pause_reason=None)
    states = {state.destination: state for state in turned(world, outbox, Turn(notes=[late])).destinations}
    assert states["api"].failure_count == 5
    assert 10 < states["api"].rest_s <= 20


def test_a_turn_undone_by_a_deadlock_leaves_no_second_hold_on_the_doorbell(world: World, outbox: Outbox) -> None:
    """The lock is the session's and outlives the transaction; what stands behind the failure was never parsed."""
    world.shop.accrue(world.shop.customer())
    [due, *_] = turned(world, outbox, Turn(looks=[Look("accrual_hook", 0, 9)])).found["accrual_hook"]
    [claim] = turned(world, outbox, Turn(candidates=[due])).claims
    conclusion = Conclusion(claim, Outcome.IN_DOUBT, Verdict(Action.HOLD, reason="in doubt"), None)
    turn = Turn(conclusions=[conclusion], arm=True, rereads=[claim.lane])
    with psycopg.connect(world.database_url, autocommit=True) as session:

        def begin() -> None:
            outbox.begin(turn)
            world.until(lambda: is_waiting_for_a_lock(world), "the turn to wait")

        die_of_deadlock(world, session, begin)
    with pytest.raises(TurnUndone, match="deadlock detected"):
        world.until(outbox.answer, "the end of the turn")
    assert world.states() == {"pending": 2} and len(world.claims()) == 1, "something of it took effect"
    outbox.begin_again(turn)
    assert world.until(outbox.answer, "the answer").armed
    assert world.states() == {"pending": 1, "held": 1}
    turned(world, outbox, Turn(disarm=True))
    assert world.rows("select from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock'") == []


def test_a_ring_that_arrives_with_the_answer_to_a_turn_is_heard(world: World, outbox: Outbox) -> None:
    assert turned(world, outbox, Turn(arm=True)).armed
    world.shop.accrue(world.shop.customer())  # rings; nobody reads the socket until the next turn does
    assert not outbox.rang
    turned(world, outbox, Turn(survey_but=[]))
    assert outbox.rang


def test_a_head_that_is_both_named_and_found_is_claimed_once(world: World, outbox: Outbox) -> None:
    world.shop.accrue(world.shop.customer())
    looks = [Look("api", 0, 10), Look("accrual_hook", 0, 10)]
    found = turned(world, outbox, Turn(looks=looks)).found
    heads = [due for dues in found.values() for due in dues]
    assert len(heads) == 2
    claims = turned(world, outbox, Turn(candidates=heads, fresh=looks)).claims
    assert sorted(claim.delivery_id for claim in claims) == sorted(due.delivery_id for due in heads)
