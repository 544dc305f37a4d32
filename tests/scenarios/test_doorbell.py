"""An idle worker hears of an event when it commits. The poll, at 60 seconds, comes too late to help."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from random import Random

import psycopg

from tests.scenarios.judgement import assert_settled
from tests.scenarios.shop import Shop
from tests.scenarios.worker import Worker
from tests.scenarios.world import World

SLEEPY = {"relay.poll_interval": 60}
SOON_S = 10.0  # far from the poll, and generous to a busy machine


def start_asleep(world: World) -> Worker:
    worker = world.start(SLEEPY)
    world.until_asleep(worker)
    return worker


def in_threads(*jobs: Callable[[], None]) -> None:
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def lag_s_max(world: World) -> float:
    """Return the longest time from the recording of an event to the claim of its first attempt."""
    return float(
        world.value(
            "select max(extract(epoch from begun_at - recorded_at))::float8 from outbox.attempt"
            " join outbox.event using (event_id)"
        )
    )


def test_an_event_wakes_an_idle_worker_again_and_again(world: World) -> None:
    customer = world.shop.customer()
    worker = start_asleep(world)
    for _ in range(5):
        world.shop.accrue(customer)
        assert_settled(world, within_s=SOON_S)
        world.until_asleep(worker)


def test_no_event_of_many_writers_waits_for_the_poll(world: World) -> None:
    customers = world.shop.customers(10)
    start_asleep(world)

    def write(seed: int) -> None:
        chance = Random(seed)  # noqa: S311
        with closing(Shop(world.database_url)) as till:
            for _ in range(50):
                till.accrue(chance.choice(customers))
                time.sleep(chance.expovariate(1 / 0.02))  # the gaps are what is tried: the worker falls asleep in them

    in_threads(*(partial(write, seed) for seed in range(6)))
    assert_settled(world, within_s=SOON_S)
    assert lag_s_max(world) < SOON_S


def test_a_transaction_that_began_first_and_commits_last_is_not_overlooked(world: World) -> None:
    early, late = world.shop.customers(2)
    start_asleep(world)
    with psycopg.connect(world.database_url) as long_one, closing(Shop(world.database_url)) as till:
        enter = "select outbox.record_event('bonus_balance', %s, %s, %s, now())"
        payload = '{"phone": "+380501111111", "balance": 1.00, "changed_at": "2026-01-31T10:00:00+00:00"}'
        long_one.execute(enter, ["first", str(early), payload])
        for _ in range(3):
            till.accrue(late)
            world.until_done(SOON_S)
        # Longer than what a look at recent deliveries covers: the one that is to come has an id from far back.
        time.sleep(2.5)
        till.accrue(late)
        world.until_done(SOON_S)
        long_one.commit()
        world.until(
            lambda: world.value("select count(*) from outbox.attempt where event_id = 'bonus_balance:first'"),
            "the event of the long transaction",
            SOON_S,
        )


def test_a_rolled_back_transaction_wakes_nobody_and_leaves_nobody_awake(world: World) -> None:
    customer = world.shop.customer()
    worker = start_asleep(world)
    with psycopg.connect(world.database_url) as session:
        session.execute(
            "insert into accounting.bonus_entry (customer_id, kind, code, amount) values (%s, 'accrual', 'x', 1)",
            [customer],
        )
        session.execute("set constraints all immediate")
        session.rollback()
    world.until_asleep(worker)
    assert world.request_count() == 0
    world.shop.accrue(customer)
    assert_settled(world, within_s=SOON_S)


def test_the_bell_rings_for_every_worker_that_sleeps(world: World) -> None:
    """Only one of them holds the doorbell; when it dies in its sleep, the next writer still wakes the other."""
    customers = world.shop.customers(2)
    first = start_asleep(world)
    second = world.start(SLEEPY)
    world.until(lambda: second.lines_of("started"), "the second worker")
    world.shop.accrue(customers[0])
    assert_settled(world, within_s=SOON_S)
    first.kill()
    world.until_gone(first)
    world.shop.accrue(customers[1])
    # The dead one may have been woken by the first event and have slept again: then nothing of it is claimed.
    assert_settled(world, within_s=SOON_S)


def test_a_worker_whose_session_was_ended_in_its_sleep_comes_back_and_hears_again(world: World) -> None:
    customer = world.shop.customer()
    worker = start_asleep(world)
    world.end_session(worker)
    world.shop.accrue(customer)
    assert_settled(world, within_s=SOON_S)
    world.until_asleep(worker)
    world.shop.accrue(customer)
    assert_settled(world, within_s=SOON_S)


def test_no_event_is_missed_where_transactions_are_serializable_by_default(world: World) -> None:
    for level in ("repeatable read", "serializable"):
        database = world.value("select quote_ident(current_database())")
        world.do(f"alter database {database} set default_transaction_isolation = '{level}'")
        world.reconnect()
        worker = start_asleep(world)
        customer = world.shop.customer()
        for _ in range(3):
            world.shop.accrue(customer)
            assert_settled(world, within_s=SOON_S)
            world.until_asleep(worker)
        assert not worker.lines_of("database lost")
        worker.stop()
