"""Where transactions can be prepared the bell is silent, and an event may commit long after others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from outbox_worker.database import schema
from outbox_worker.demo.postgres import PostgresServer
from outbox_worker.demo.sandbox import SandboxServer
from tests.scenarios.conftest import login_of_a_worker
from tests.scenarios.judgement import assert_settled
from tests.scenarios.world import World

TEN_MINUTES_S = 600


@pytest.fixture
def preparing_world(
    make_server: Callable[..., PostgresServer], tmp_path: Path, inboost: SandboxServer
) -> Iterator[World]:
    with make_server(settings={"max_prepared_transactions": "4", "max_wal_size": "128MB"}) as server:
        with psycopg.connect(server.url()) as session:
            schema.install(session)
            schema.install_reference(session)
        with (
            login_of_a_worker(server.url()) as login,
            closing(World(server.url(), login, tmp_path, inboost)) as world,
        ):
            yield world


@pytest.mark.parametrize("open_s", [2.5, pytest.param(TEN_MINUTES_S, marks=pytest.mark.long)])
def test_an_event_of_a_transaction_that_was_prepared_long_ago_is_delivered_when_it_commits(
    preparing_world: World, open_s: float
) -> None:
    world = preparing_world
    late, *others = world.shop.customers(4)
    worker = world.start()
    with psycopg.connect(world.database_url, autocommit=True) as session:
        session.execute("begin")
        session.execute("insert into accounting.purchase (customer_id, total) values (%s, 7.00)", [late])
        session.execute("prepare transaction 'late'")
        prepared_s = time.monotonic()
        for number in range(20):
            world.shop.accrue(others[number % 3])
            world.until_done()
            if number > 2 and (left_s := prepared_s + open_s * number / 19 - time.monotonic()) > 0:
                time.sleep(left_s)  # not to wait for anything: the age of the transaction is what is tried
        assert world.effect_count() == 40
        session.execute("commit prepared 'late'")
    world.until(lambda: world.effect_count() == 42, "the late purchase")
    assert_settled(world)
    assert worker.is_running
