"""People settle deliveries: one change, one act, never of what is on its way; and nothing is left waiting for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from outbox_worker.database import deliveries, lanes, settling, statements
from outbox_worker.database.acts import Instruction
from outbox_worker.database.deliveries import Delivery, Selection
from outbox_worker.database.engine import session
from outbox_worker.database.outbox import Outbox
from outbox_worker.database.settling import CONFIRM, DISCARD, REQUEUE, RESEND, Settled, Settlement
from outbox_worker.database.turns import Answer, Terms, Turn
from outbox_worker.inboost.operations import DELIVERIES
from outbox_worker.rules.lanes import Due
from tests.database.rows import Rows
from tests.scenarios.waiting import until

Connect = Callable[..., psycopg.Connection[Any]]
BY = Instruction("olena@till", "InBoost says so")
GOES_ON = ("pending", "in_doubt", "waiting")
WAITS = (*GOES_ON, "dead", "held")


@pytest.fixture
def rows(connect: Connect) -> Rows:
    return Rows(connect())


def chosen(url: str, states: tuple[str, ...], **filters: Any) -> list[Delivery]:
    with session(url, "chooser") as connection:
        return deliveries.find(connection, Selection(states, **filters))


def settle(url: str, settlement: Settlement, blocking: tuple[str, ...] = WAITS, **filters: Any) -> Settled:
    """Settle all that is in the right state and fits."""
    meant = chosen(url, settlement.states, **filters)
    with session(url, "settler") as connection:
        return settling.settle(connection, settlement, meant, BY, blocking)


# The four acts


def test_a_confirmed_delivery_is_gone_and_the_act_is_its_receipt(rows: Rows, database_url: str) -> None:
    rows.held(rows.purchase(1))
    settled = settle(database_url, CONFIRM)
    assert [it.event_id for it in settled.done] == ["purchase:1"]
    assert rows.of("purchase:1", "purchase_webhook") == {}
    assert rows.acts() == [
        ("confirm", "purchase:1", "purchase_webhook", "purchase_hook", "olena@till", "InBoost says so")
    ]
    [(recorder, before)] = rows.all("select recorder = session_user, detail from outbox.act")
    assert recorder
    assert before == {
        "state": "held",
        "reason": "in doubt, and nobody can be asked: Operation timed out",
        "attempt_count": 1,
    }


@pytest.mark.parametrize("bring", [Rows.held, Rows.in_doubt])
def test_a_resent_delivery_is_due_at_once_and_its_attempts_keep_their_numbers(
    rows: Rows, database_url: str, bring: Callable[..., None]
) -> None:
    bring(rows, rows.purchase(1), "add_purchase")
    rows.do("update outbox.delivery set miss_count = 1 where operation = 'add_purchase'")
    settle(database_url, RESEND)
    assert rows.of("purchase:1") == {
        "state": "pending",
        "reason": None,
        "attempt_count": 1,
        "try_count": 0,
        "miss_count": 0,
        "is_due": True,
    }


def test_a_requeued_dead_letter_begins_its_timetable_anew(rows: Rows, database_url: str) -> None:
    rows.dead(rows.purchase(1))
    settle(database_url, REQUEUE)
    found = rows.of("purchase:1")
    assert (found["state"], found["attempt_count"], found["try_count"], found["is_due"]) == ("pending", 1, 0, True)


def test_a_discarded_dead_letter_is_gone(rows: Rows, database_url: str) -> None:
    rows.dead(rows.purchase(1))
    settle(database_url, DISCARD)
    assert rows.of("purchase:1") == {}
    assert rows.state("purchase:1", "purchase_webhook") == "pending"


def test_a_sleeping_relay_is_woken_by_what_becomes_due_and_by_nothing_else(
    rows: Rows, database_url: str, connect: Connect
) -> None:
    listener = connect()
    listener.execute("listen outbox")
    rows.dead(rows.purchase(1))
    rows.dead(rows.purchase(2, "8"))
    while list(listener.notifies(timeout=0.1)):
        pass
    settle(database_url, DISCARD, event_ids=("purchase:1",))
    assert list(listener.notifies(timeout=0.1)) == []
    settle(database_url, REQUEUE)
    assert len(list(listener.notifies(timeout=5, stop_after=1))) == 1


def test_a_second_person_finds_that_the_first_was_faster(rows: Rows, database_url: str) -> None:
    rows.held(rows.purchase(1))
    meant = chosen(database_url, CONFIRM.states)
    settle(database_url, CONFIRM)
    with session(database_url, "second") as connection:
        settled = settling.settle(connection, RESEND, meant, BY, GOES_ON)
    assert (settled.done, settled.busy, settled.changed) == ([], [], meant)
    assert len(rows.acts()) == 1


def test_nothing_is_kept_of_an_act_whose_transaction_fails(rows: Rows, database_url: str) -> None:
    rows.held(rows.purchase(1))
    meant = chosen(database_url, CONFIRM.states)

    def settle_and_fail() -> None:
        with session(database_url, "settler") as connection:
            settling.settle(connection, CONFIRM, meant, BY, GOES_ON)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        settle_and_fail()
    assert rows.state("purchase:1", "purchase_webhook") == "held"
    assert rows.acts() == []


# What is on its way


def relay(url: str, candidates: list[Due]) -> Answer:
    """Claim as a relay does."""
    terms = Terms(uuid4(), DELIVERIES, GOES_ON, failures_max=5, probe_s=10)
    outbox = Outbox(url, terms)
    outbox.connect([])
    try:
        outbox.begin(Turn(candidates=candidates))
        return until(outbox.answer, "the turn to be answered")
    finally:
        outbox.close()


@contextmanager
def claiming(connect: Connect, event_id: str) -> Iterator[psycopg.Connection[Any]]:
    """Hold a claim of the looked-up purchase that is not committed yet."""
    worker = connect(autocommit=False)
    worker.execute(
        "with head as (select * from outbox.delivery where event_id = %s and operation = 'add_purchase' for update)"
        " insert into outbox.claim (lane, delivery_id, number, purpose, worker)"
        " select lane, delivery_id, attempt_count + 1, 'inquire', gen_random_uuid() from head",
        [event_id],
    )
    yield worker


def test_a_delivery_that_is_being_claimed_is_left_alone(rows: Rows, database_url: str, connect: Connect) -> None:
    rows.in_doubt(rows.purchase(1))
    with claiming(connect, "purchase:1") as worker:
        settled = settle(database_url, RESEND)
        worker.commit()
    assert ([it.event_id for it in settled.busy], settled.done) == (["purchase:1"], [])
    assert rows.state("purchase:1") == "in_doubt"
    assert rows.acts() == []


def test_a_claim_committed_after_the_person_looked_is_seen(rows: Rows, database_url: str) -> None:
    rows.in_doubt(rows.purchase(1))
    meant = chosen(database_url, RESEND.states)
    rows.claimed("purchase:1", purpose="inquire")
    with session(database_url, "settler") as connection:
        settled = settling.settle(connection, RESEND, meant, BY, GOES_ON)
    assert [it.claimed_at is None for it in settled.busy] == [False]
    assert rows.state("purchase:1") == "in_doubt"


def test_a_relay_passes_over_what_a_person_is_settling_and_sends_it_afterwards(rows: Rows, database_url: str) -> None:
    rows.in_doubt(rows.purchase(1), due_in_s=-1)
    [delivery] = meant = chosen(database_url, RESEND.states)
    due = Due(delivery.delivery_id, delivery.lane, 0.0)
    with session(database_url, "settler") as connection:
        settling.settle(connection, RESEND, meant, BY, GOES_ON)
        assert relay(database_url, [due]).claims == []
    [claim] = relay(database_url, [due]).claims
    assert (claim.event_id, claim.purpose, claim.number) == ("purchase:1", "send", 2)


def test_a_conclusion_waits_for_a_person_who_looks_at_its_delivery_and_is_not_lost(
    rows: Rows, database_url: str, connect: Connect
) -> None:
    rows.in_doubt(rows.purchase(1))
    meant = chosen(database_url, RESEND.states)
    rows.claimed("purchase:1", purpose="inquire")
    worker = Rows(connect(application_name="worker"))
    with session(database_url, "settler") as connection:
        assert settling.settle(connection, RESEND, meant, BY, GOES_ON).done == []
        conclusion = threading.Thread(target=worker.delivered, args=["purchase:1"])
        conclusion.start()
        until(lambda: is_waiting(rows, "worker"), "the conclusion to wait")
    conclusion.join()
    assert rows.of("purchase:1") == {}
    assert rows.acts() == []


def is_waiting(rows: Rows, name: str) -> bool:
    return bool(
        rows.all(
            "select from pg_stat_activity where application_name = %s and wait_event_type = 'Lock'"
            " and datname = current_database()",
            name,
        )
    )


# What waits behind


@pytest.fixture
def blocked(rows: Rows) -> Rows:
    """A lane in which 2 and 3 wait behind 1, a dead letter."""
    for number in (1, 2, 3):
        rows.purchase(number)
    rows.dead("purchase:1")
    rows.following("purchase:2")
    rows.following("purchase:3", behind="is waiting")
    return rows


@pytest.mark.parametrize("settlement", [REQUEUE, DISCARD])
def test_what_waited_behind_a_settled_delivery_goes_on(
    blocked: Rows, database_url: str, settlement: Settlement
) -> None:
    settled = settle(database_url, settlement)
    assert settled.released_count == 2
    assert [blocked.state(f"purchase:{number}") for number in (2, 3)] == ["pending", "pending"]


def test_what_something_else_blocks_goes_on_waiting(blocked: Rows, database_url: str) -> None:
    blocked.move("purchase:2", "add_purchase", "held", "in doubt")
    assert settle(database_url, REQUEUE).released_count == 0
    assert blocked.state("purchase:3") == "waiting"
    assert settle(database_url, CONFIRM).released_count == 1
    assert blocked.state("purchase:3") == "pending"


def test_what_the_policy_lets_pass_blocks_nobody(blocked: Rows, database_url: str) -> None:
    blocked.move("purchase:2", "add_purchase", "held", "in doubt")
    assert settle(database_url, REQUEUE, GOES_ON).released_count == 1
    assert blocked.state("purchase:3") == "pending"


def test_what_waits_for_a_client_before_it_goes_on_waiting(blocked: Rows, database_url: str) -> None:
    blocked.move("purchase:2", "add_purchase", "waiting", "answered 404")
    assert settle(database_url, DISCARD).released_count == 0
    assert [blocked.state(f"purchase:{number}") for number in (2, 3)] == ["waiting", "waiting"]


def test_a_follower_of_two_blockers_is_released_though_two_people_settle_them_at_the_same_time(
    blocked: Rows, database_url: str
) -> None:
    blocked.move("purchase:2", "add_purchase", "dead", "answered 422")
    first, second = chosen(database_url, ("dead",))
    counts: list[int] = []

    def discard_second() -> None:
        with session(database_url, "second person") as connection:
            counts.append(settling.settle(connection, DISCARD, [second], BY, WAITS).released_count)

    with session(database_url, "first person") as connection:
        counts.append(settling.settle(connection, DISCARD, [first], BY, WAITS).released_count)
        other = threading.Thread(target=discard_second)
        other.start()
        until(lambda: is_waiting(blocked, "second person"), "the second person to wait for the follower")
    other.join()
    assert counts == [0, 1]
    assert blocked.state("purchase:3") == "pending"


def follow(relay: psycopg.Connection[Any], delivery: Delivery) -> None:
    """Make a delivery wait behind what is before it, as a relay does in a turn that is not committed yet."""
    relay.execute(f"prepare follow as {statements.FOLLOW}")
    relay.execute(
        psycopg.sql.SQL("execute follow ({}, {}, {})").format([delivery.lane], [delivery.delivery_id], ["dead"])
    )


def test_no_follower_is_made_behind_a_delivery_that_is_being_settled(
    rows: Rows, database_url: str, connect: Connect
) -> None:
    rows.dead(rows.purchase(1))
    rows.purchase(2)
    [later] = chosen(database_url, ("pending",), event_ids=("purchase:2",), operation="add_purchase")
    meant = chosen(database_url, ("dead",))
    with session(database_url, "settler") as connection:
        settling.settle(connection, REQUEUE, meant, BY, WAITS)
        follow(connect(), later)
    assert rows.state("purchase:2") == "pending"


def test_a_follower_that_is_being_made_is_never_left_behind(rows: Rows, database_url: str, connect: Connect) -> None:
    rows.dead(rows.purchase(1))
    rows.purchase(2)
    [later] = chosen(database_url, ("pending",), event_ids=("purchase:2",), operation="add_purchase")
    worker = connect(autocommit=False)
    follow(worker, later)
    assert [it.event_id for it in settle(database_url, REQUEUE).busy] == ["purchase:1"]
    worker.commit()
    assert settle(database_url, REQUEUE).released_count == 1
    assert rows.state("purchase:2") == "pending"


# Lanes that wait for their client


@pytest.fixture
def unknown(rows: Rows) -> Rows:
    """Customer 7 is unknown: 1 waits for the client, 2 behind it; of customer 8 so does 3."""
    rows.waiting(rows.purchase(1))
    rows.purchase(2)
    rows.following("purchase:2", behind="waits for the client")
    rows.waiting(rows.purchase(3, "8"))
    return rows


def release(url: str, customer_id: str | None = None) -> list[lanes.Lane]:
    with session(url, "releaser") as connection:
        found = lanes.awaiting_client(connection, WAITS, customer_id)
        return lanes.release(connection, found, BY, WAITS)


def test_a_released_lane_goes_on_as_a_whole_and_the_act_is_recorded_once(unknown: Rows, database_url: str) -> None:
    [lane] = release(database_url, "7")
    assert (lane.head.event_id, lane.behind_count) == ("purchase:1", 1)
    assert [unknown.state(f"purchase:{number}") for number in (1, 2, 3)] == ["pending", "pending", "waiting"]
    assert unknown.acts() == [("release", "purchase:1", "add_purchase", "api", "olena@till", "InBoost says so")]


def test_all_lanes_can_be_released(unknown: Rows, database_url: str) -> None:
    assert [lane.head.event_id for lane in release(database_url)] == ["purchase:1", "purchase:3"]
    assert release(database_url) == []


def test_a_release_does_not_pass_a_dead_letter_where_the_policy_says_wait(blocked: Rows, database_url: str) -> None:
    assert release(database_url) == []
    assert blocked.state("purchase:2") == "waiting"


def test_followers_without_anything_before_them_are_released_too(blocked: Rows, database_url: str) -> None:
    blocked.do("delete from outbox.delivery where event_id = 'purchase:1'")
    [lane] = release(database_url)
    assert (lane.head.event_id, lane.behind_count) == ("purchase:2", 1)


def test_the_lanes_that_do_not_go_on_are_told_with_what_blocks_them(rows: Rows, database_url: str) -> None:
    for number, customer in enumerate("aabcde"):
        rows.purchase(number, customer)
        rows.delivered(f"purchase:{number}", "purchase_webhook")
    rows.waiting("purchase:0")
    rows.held("purchase:2", "add_purchase")
    rows.retried("purchase:3")
    rows.delivered("purchase:4")
    with session(database_url, "reader") as connection:
        told = [(it.head.customer_id, it.head.state, it.behind_count) for it in lanes.stopped(connection, WAITS)]
        passing = [it.head.customer_id for it in lanes.stopped(connection, GOES_ON)]
        of_one = lanes.stopped(connection, WAITS, customer_id="a", destination="api", count_max=1)
    assert told == [("a", "waiting", 1), ("b", "held", 0), ("c", "pending", 0)]
    assert passing == ["a", "c"]
    assert [it.head.event_id for it in of_one] == ["purchase:0"]


def test_everything_for_a_paused_destination_does_not_go_on(rows: Rows, database_url: str) -> None:
    rows.purchase(1)
    rows.do("update outbox.destination set paused_at = now(), pause_reason = 'x' where destination = 'api'")
    with session(database_url, "reader") as connection:
        assert [it.head.operation for it in lanes.stopped(connection, GOES_ON)] == ["add_purchase"]
