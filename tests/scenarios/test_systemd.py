"""What systemd hears of a worker, at a real notify socket: ready, alive, reloading, stopping; and the units."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outbox_worker.database import schema
from outbox_worker.demo.postgres import PostgresServer
from outbox_worker.demo.sandbox import SandboxServer
from tests.scenarios.conftest import login_of_a_worker
from tests.scenarios.judgement import assert_settled
from tests.scenarios.manager import WATCHDOG_S, Systemd
from tests.scenarios.waiting import until
from tests.scenarios.worker import Worker
from tests.scenarios.world import DEDUPLICATING, PATIENT, World


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "notify") if request.param == "path" else f"@{tmp_path.name}-{id(request)}"


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    manager = Systemd(str(tmp_path / "notify"))
    yield manager
    manager.close()


def test_a_worker_tells_its_life_from_ready_to_stopping(world: World, address: str) -> None:
    manager = Systemd(address)
    worker = world.start(environment=manager.environment)
    manager.until_heard(READY="1")
    worker.terminate()
    assert worker.wait() == 0
    manager.until_heard(STOPPING="1")
    # Request time-out 2 s and what comes after it: systemd is asked to wait longer than the stop can take.
    (asked,) = [message["EXTEND_TIMEOUT_USEC"] for message in manager.heard if "STOPPING" in message]
    assert int(asked) >= 2_000_000 + 10_000_000
    assert manager.count("READY") == manager.count("STOPPING") == 1
    manager.close()


def test_a_worker_is_not_ready_before_what_a_dead_one_left_is_taken_over(world: World, systemd: Systemd) -> None:
    world.shop.accrue(world.shop.customer())
    world.inboost.put_faults("*:barrier:point=acted")
    first = world.start(PATIENT)
    world.until_held("acted", 2)
    first.kill()
    world.until_gone(first)
    world.release()
    world.do("update outbox.claim set claimed_at = claimed_at - interval '1 hour'")
    with world.gate("outbox.attempt"):
        second = world.start(DEDUPLICATING, systemd.environment)
        world.until_at_gate(second)
        assert len(world.claims()) == 2 and not systemd.has_heard(READY="1")
    systemd.until_heard(READY="1")
    assert_settled(world)


def test_the_status_line_tells_lag_and_what_a_person_must_look_at(world: World, systemd: Systemd) -> None:
    for _ in range(3):
        world.shop.accrue(world.shop.customer())
    world.do("update outbox.delivery set state = 'held', reason = 'x' where operation = 'accrual_webhook'")
    world.do("update outbox.delivery set state = 'dead', reason = 'x' where operation = 'set_bonus_balance'")
    world.do("update outbox.destination set paused_at = now(), pause_reason = '401' where destination = 'api'")
    world.start(environment=systemd.environment)
    line = "Lag 0.0 s, 0 pending, 0 in doubt, 3 held, 3 dead; paused: api"
    systemd.until_heard(STATUS=line)


@pytest.fixture
def away(own_server: PostgresServer, tmp_path: Path, inboost: SandboxServer) -> Iterator[tuple[PostgresServer, World]]:
    """A world whose database server can be stopped."""
    import psycopg

    with psycopg.connect(own_server.url(), autocommit=True) as session:
        schema.install(session)
        schema.install_reference(session)
    with login_of_a_worker(own_server.url()) as login:
        world = World(own_server.url(), login, tmp_path, inboost)
        yield own_server, world
        world.close()


def test_a_worker_without_its_database_goes_on_feeding_the_watchdog_and_is_not_restarted_for_it(
    away: tuple[PostgresServer, World], systemd: Systemd
) -> None:
    server, world = away
    world.start(environment=systemd.environment)
    systemd.until_heard(READY="1")
    server.kill()
    fed = systemd.count("WATCHDOG")
    until(lambda: systemd.count("WATCHDOG") > fed + 1, "the watchdog to be fed without a database")
    server.start()


def test_a_start_without_a_database_asks_for_more_time_and_is_not_ready(
    away: tuple[PostgresServer, World], systemd: Systemd
) -> None:
    server, world = away
    server.kill()
    world.start(environment=systemd.environment)
    until(lambda: systemd.count("EXTEND_TIMEOUT_USEC") > 1, "the start to ask for more time again and again")
    assert not systemd.has_heard(READY="1") and systemd.count("WATCHDOG") == 0
    server.start()
    systemd.until_heard(READY="1")


def test_a_worker_that_hangs_does_not_feed_the_watchdog(world: World, systemd: Systemd) -> None:
    worker = world.start({"relay.poll_interval": 0.5}, systemd.environment)  # then its loop goes round so often
    systemd.until_heard(WATCHDOG="1")
    worker.freeze()
    fed, frozen_at = systemd.count("WATCHDOG"), time.monotonic()
    until(lambda: time.monotonic() > frozen_at + WATCHDOG_S, "systemd's patience to be over")
    assert systemd.count("WATCHDOG") == fed
    worker.thaw()
    until(lambda: systemd.count("WATCHDOG") > fed, "the watchdog to be fed again")


# Reloading


def reload(world: World, worker: Worker, settings: dict[str, Any], *, as_it_is: str = "") -> None:
    """Write other settings into the worker's file and send it SIGHUP."""
    file = world.configure(worker.log.stem, settings)
    file.write_text(file.read_text() + as_it_is)
    worker.process.send_signal(signal.SIGHUP)


def until_reloaded(worker: Worker, event: str = "settings read again") -> dict[str, Any]:
    return until(lambda: next(iter(worker.lines_of(event)), None), f"{event}; {worker.log.read_text()}")


def test_a_reload_tells_systemd_and_takes_a_token_hooks_and_log_levels(world: World, systemd: Systemd) -> None:
    worker = world.start({"inboost.token": "of-yesterday"}, systemd.environment)
    systemd.until_heard(READY="1")
    before_us = time.monotonic() * 1e6
    moved = f"{world.inboost.url}/api/webhok/elsewhere/"
    reload(world, worker, {"inboost.hooks.accrual.url": moved, "log.levels.relay": "warning"})
    line = until_reloaded(worker)
    assert line["taken"] == ["inboost.hooks.accrual.url", "inboost.token", "log.levels.relay"]
    assert "of-yesterday" not in worker.log.read_text()
    until(lambda: systemd.count("READY") == 2, "READY after the reload")
    names = [next(iter(message)) for message in systemd.heard if {"READY", "RELOADING"} & message.keys()]
    assert names == ["READY", "RELOADING", "READY"]
    (at_us,) = [int(it["MONOTONIC_USEC"]) for it in systemd.heard if "RELOADING" in it]
    assert before_us <= at_us <= time.monotonic() * 1e6

    world.shop.accrue(world.shop.customer())
    world.until_done()
    assert {it.path for it in world.inboost.state.ledger.requests.after(0) if "webhok" in it.path} == {
        "/api/webhok/elsewhere/"
    }
    assert world.rows("select distinct outcome from outbox.attempt") == [("accepted",)], "the new token was sent"
    assert worker.lines_of("attempt") == [], "level warning"


def test_a_reload_names_what_needs_a_restart_and_leaves_it_as_it_was(world: World, systemd: Systemd) -> None:
    worker = world.start(environment=systemd.environment)
    systemd.until_heard(READY="1")
    reload(world, worker, {"inboost.request_timeout": 9, "relay.slots": 3, "retry.first": 0.2})
    assert until_reloaded(worker, "settings need a restart")["settings"] == ["inboost.request_timeout", "relay.slots"]
    assert worker.lines_of("settings read again")[0]["taken"] == ["retry.first"]


def test_a_reload_of_wrong_settings_is_refused_in_the_log_and_deliveries_go_on(world: World, systemd: Systemd) -> None:
    worker = world.start(environment=systemd.environment)
    systemd.until_heard(READY="1")
    reload(world, worker, {}, as_it_is='inboost.mistyped = "hunter2"\n')
    refused = until_reloaded(worker, "settings refused")
    assert refused["level"] == "error" and "hunter2" not in json.dumps(refused)
    world.shop.accrue(world.shop.customer())
    assert_settled(world)
