"""The database goes away under the worker: nothing is lost or doubled, and nothing needs to be done."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from outbox_worker.database import schema
from outbox_worker.demo.postgres import PostgresServer
from outbox_worker.demo.sandbox import SandboxServer
from tests.scenarios.conftest import login_of_a_worker
from tests.scenarios.faults import make_commits_fail
from tests.scenarios.judgement import assert_settled
from tests.scenarios.trade import Trade
from tests.scenarios.world import DEDUPLICATING, PATIENT, QUICK, World

ACCEPTED = ("accepted", "acknowledge")


@pytest.fixture
def fragile_world(own_server: PostgresServer, tmp_path: Path, inboost: SandboxServer) -> Iterator[World]:
    """A world whose database server may be killed and started again."""
    with psycopg.connect(own_server.url()) as session:
        schema.install(session)
        schema.install_reference(session)
    with (
        login_of_a_worker(own_server.url()) as login,
        closing(World(own_server.url(), login, tmp_path, inboost)) as world,
    ):
        yield world


def until_more_effects(world: World, number: int) -> None:
    goal = world.effect_count() + number
    world.until(lambda: world.effect_count() >= goal, f"{number} more effects")


def test_a_database_that_crashes_again_and_again_under_load_costs_nothing(
    fragile_world: World, own_server: PostgresServer
) -> None:
    world = fragile_world
    world.inboost.put_faults("*:slow:seconds=0.02,probability=0.3")
    customers = world.shop.customers(40)
    worker = world.start(DEDUPLICATING)
    with Trade(world.database_url, customers, seed=5):
        for _ in range(3):
            until_more_effects(world, 100)
            own_server.kill()
            world.until(lambda: worker.lines_of("database lost"), "the worker to notice")
            own_server.start()
            world.reconnect()
        until_more_effects(world, 100)
    assert_settled(world)
    assert worker.is_running
    assert not world.rows("select from outbox.attempt where outcome = 'in_doubt'"), "a conclusion was not kept"


def test_a_worker_that_starts_before_its_database_waits_for_it(
    fragile_world: World, own_server: PostgresServer
) -> None:
    world = fragile_world
    world.shop.buy(world.shop.customer())
    own_server.stop()
    worker = world.start()
    world.until(lambda: worker.lines_of("database lost"), "the worker to notice")
    own_server.start()
    world.reconnect()
    assert_settled(world)


def test_a_stop_while_the_database_is_away_ends_and_what_it_could_not_write_down_is_in_doubt(
    fragile_world: World, own_server: PostgresServer
) -> None:
    world = fragile_world
    world.shop.accrue(world.shop.customer())
    world.inboost.put_faults("*:barrier:point=acted,count=2")
    worker = world.start()
    world.until_held("acted", 2)
    own_server.kill()
    world.release()
    world.until(lambda: len(worker.lines_of("attempt")) == 2, "the answers")
    worker.terminate()
    assert worker.wait() == 0
    own_server.start()
    world.reconnect()
    world.start(QUICK)
    assert_settled(world)
    assert world.attempts("accrual_webhook") == [("in_doubt", "retry"), ("duplicate", "acknowledge")]


def test_a_stop_while_the_database_hangs_ends(world: World) -> None:
    world.shop.accrue(world.shop.customer())
    world.inboost.put_faults("*:barrier:point=acted,count=2")
    worker = world.start(PATIENT)
    world.until_held("acted", 2)
    backend = world.value("select pid from pg_stat_activity where application_name = %s", worker.session)
    os.kill(backend, signal.SIGSTOP)
    try:
        world.release()
        world.until(lambda: len(worker.lines_of("attempt")) == 2, "the answers")
        worker.terminate()
        assert worker.wait() == 0
    finally:
        os.kill(backend, signal.SIGCONT)
    world.start(QUICK)
    assert_settled(world)
    assert world.inboost.state.ledger.counts["accrual_webhook"]["effects"] == 1


def test_sessions_that_are_ended_again_and_again_under_load_cost_nothing(world: World) -> None:
    world.inboost.put_faults("*:slow:seconds=0.02,probability=0.3")
    customers = world.shop.customers(40)
    worker = world.start(DEDUPLICATING)
    with Trade(world.database_url, customers, seed=6):
        for _ in range(15):
            until_more_effects(world, 20)
            world.end_session(worker)
    assert_settled(world)
    assert (
        len(worker.lines_of("database lost")) >= 8
    )  # a session may be ended before the worker has noticed the last end
    assert not world.rows("select from outbox.attempt where outcome = 'in_doubt'"), "a conclusion was not kept"


def test_a_claim_that_cannot_be_committed_is_not_sent(world: World) -> None:
    world.shop.accrue(world.shop.customer())
    make_commits_fail(world, "outbox.claim", 3)
    worker = world.start()
    world.until(lambda: worker.lines_of("database lost"), "a commit to fail")
    assert_settled(world)
    assert world.request_count() == 2
    assert world.attempts("accrual_webhook") == world.attempts("set_bonus_balance") == [ACCEPTED]


def test_a_conclusion_that_cannot_be_committed_is_kept_until_it_can(world: World) -> None:
    world.shop.accrue(world.shop.customer())
    make_commits_fail(world, "outbox.attempt", 3)
    worker = world.start()
    world.until(lambda: worker.lines_of("database lost"), "a commit to fail")
    assert_settled(world)
    assert world.request_count() == 2
    assert world.attempts("accrual_webhook") == world.attempts("set_bonus_balance") == [ACCEPTED]


def test_what_the_database_refuses_for_a_while_is_asked_again_and_counted(world: World) -> None:
    """Not a lost connection, not a full disk: a right that was taken away, a trigger of somebody's that raises."""
    world.shop.accrue(world.shop.customer())
    make_commits_fail(world, "outbox.attempt", 3, errcode="raise_exception")
    worker = world.start()
    assert_settled(world)
    assert len(worker.lines_of("turn refused")) == 3
    assert world.request_count() == 2
    assert world.attempts("accrual_webhook") == world.attempts("set_bonus_balance") == [ACCEPTED]


@pytest.mark.long
def test_what_the_database_refuses_for_ever_ends_the_worker_and_the_next_one_settles_it(world: World) -> None:
    world.shop.accrue(world.shop.customer())
    make_commits_fail(world, "outbox.attempt", 1000, errcode="raise_exception")
    worker = world.start()
    worker.may_end = True
    assert worker.wait(60) == 70
    assert "outbox-worker: no space left on device" in worker.log.read_text()
    world.do("drop trigger fail on outbox.attempt")
    world.start()
    assert_settled(world)
    assert world.attempts("accrual_webhook") == [("in_doubt", "retry"), ("duplicate", "acknowledge")]


def test_an_answer_that_comes_while_the_session_is_away_is_written_down_afterwards(world: World) -> None:
    world.shop.accrue(world.shop.customer())
    world.inboost.put_faults("*:barrier:point=acted,count=2")
    worker = world.start(PATIENT)
    world.until_held("acted", 2)
    world.end_session(worker)
    world.release()
    assert_settled(world)
    assert world.request_count() == 2
    assert world.attempts("accrual_webhook") == world.attempts("set_bonus_balance") == [ACCEPTED]
