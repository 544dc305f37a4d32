"""Killed again and again while InBoost's list fails, a sync leaves what one that nobody disturbed leaves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from outbox_worker.demo.sandbox import SandboxServer, Settings
from tests.conftest import Databases
from tests.scenarios.waiting import until
from tests.scenarios.worker import REPOSITORY
from tests.scenarios.world import World

SESSION = "outbox-worker customers sync"
SETTINGS = {"customers.page_size": 10, "customers.change_share_max": 1.0}
FAULTS = (
    "list_clients:error:probability=0.2",
    "list_clients:cut:probability=0.1",
    "list_clients:cursor_expired:count=1",
)
CLIENTS = 60

# Every second client has a customer, two of them share a phone, and each has bought before anybody captured it.
TODAY = datetime.now(UTC).date()
BEFORE = f"""
set local session_replication_role = replica;
insert into accounting.customer (phone, first_name)
select '050 222 ' || to_char(number, 'FM00') || ' 10', case when number %% 4 = 0 then 'Ганна' end
from generate_series(0, {CLIENTS - 1}, 2) number;
insert into accounting.customer (phone) values ('050 222 06 10');
insert into accounting.bonus_account (customer_id, balance, changed_at)
select customer_id, customer_id, '2026-03-01' from accounting.customer;
insert into accounting.purchase (customer_id, purchased_at, total)
select customer_id, date '{TODAY}' - it * interval '20 days', it
from accounting.customer, generate_series(1, 6) it;
"""

# Numbers that were drawn and rolled back leave holes, so customers are told by their phones.
TABLES = {
    "customer": "select phone, first_name, last_name, birth_date, source, specialty from accounting.customer",
    "client": "select customer.phone, client_id, client.phone, digest, updated_at, remark, history_sent_at is null,"
    " balance_sent_at is null, released_at is null from outbox.client client"
    " join accounting.customer customer on customer.customer_id = client.customer_id::bigint",
    "unstored": "select client_key, phone, kind, reason, customer_ids, digest, document::text"
    " from outbox.unstored_client",
    "phone": "select spelled, it.phone, customer.phone from outbox.customer_phone it"
    " join accounting.customer customer on customer.customer_id = it.customer_id::bigint",
    "event": "select kind, case when kind = 'purchase' then source_id end, customer.phone, historic, payload::text"
    " from outbox.event event join accounting.customer customer on customer.customer_id = event.customer_id::bigint",
    "lane": "select customer.phone, array_agg(kind order by delivery_id), array_agg(occurred_at order by delivery_id)"
    " from outbox.delivery join outbox.event event using (event_id)"
    " join accounting.customer customer on customer.customer_id = event.customer_id::bigint group by 1",
    "duplicate": "select event_id from outbox.duplicate",
    "run": "select since, watermark, cursor, problem, customer_count, page_count, read_count, created_count,"
    " changed_count, linked_count, history_count, balance_count, released_count, expired_count from outbox.sync_run",
}


@pytest.fixture
def portal() -> Iterator[SandboxServer]:
    with SandboxServer(Settings(seed=1)) as portal:
        portal.do(portal.state.register, [_client(number) for number in range(CLIENTS)], 1_790_000_000.0)
        yield portal


def _client(number: int) -> dict[str, Any]:
    phone = "none" if number % 13 == 5 else f"+38050222{number:02}10"
    return {
        "id": number,
        "userPhoneNumber": phone,
        "userName": f"Ira {number}",
        "birth": f"1990-02-{1 + number % 31:02}",
    }


@pytest.fixture
def undisturbed(databases: Databases, installed: str, worker_login: dict[str, str], tmp_path: Path, portal: Any) -> Any:
    """What a sync leaves that nobody disturbs."""
    with databases.copy(installed) as url, closing(World(url, worker_login, tmp_path, portal)) as world:
        world.do(BEFORE)
        assert _sync(world).wait(60) == 0
        return _state(world)


@pytest.fixture
def disturbed(database_url: str, worker_login: dict[str, str], tmp_path: Path, portal: Any) -> Iterator[World]:
    with closing(World(database_url, worker_login, tmp_path, portal)) as world:
        world.do(BEFORE)
        yield world


def test_killed_at_every_step_with_a_list_that_fails_a_sync_leaves_what_an_undisturbed_one_leaves(
    undisturbed: dict[str, list[Any]], disturbed: World, portal: SandboxServer
) -> None:
    portal.put_faults(*FAULTS)
    for table in ("outbox.client", "outbox.event"):
        with disturbed.gate(table):
            _kill_when(disturbed, lambda: _is_held(disturbed))
    _kill_when(disturbed, lambda: disturbed.rows("select from outbox.sync_run where page_count >= 3"))
    assert disturbed.rows("select from outbox.sync_run where ended_at is null"), "it was killed before its end"
    assert _until_done(disturbed) == 0
    assert _state(disturbed) == undisturbed
    assert undisturbed["event"] and undisturbed["unstored"]
    assert _until_done(disturbed, "--whole") == 0
    again = _state(disturbed)
    assert {name: again[name] for name in TABLES if name != "run"} == {
        name: undisturbed[name] for name in TABLES if name != "run"
    }


def _state(world: World) -> dict[str, list[Any]]:
    return {name: sorted(world.rows(query), key=repr) for name, query in TABLES.items()}


def _sync(world: World, *words: str) -> subprocess.Popen[bytes]:
    file = world.configure("sync", SETTINGS)
    command = [sys.executable, "-m", "outbox_worker", "customers", "sync", "-c", str(file), *words]
    return subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _until_done(world: World, *words: str) -> int:
    """Sync as the round does: again, where InBoost could not be reached at last."""
    for _ in range(10):
        if (status := _sync(world, *words).wait(60)) != 69:
            return status
    return 69


@contextmanager
def _running(world: World) -> Iterator[subprocess.Popen[bytes]]:
    process = _sync(world)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        world.open_gate()
        until(
            lambda: not world.rows("select from pg_stat_activity where application_name = %s", SESSION),
            "the killed sync's session to end",
        )


def _kill_when(world: World, condition: Callable[[], Any]) -> None:
    with _running(world) as process:
        until(lambda: condition() or process.poll() not in (None, 69), "the moment to kill the sync")


def _is_held(world: World) -> bool:
    return bool(
        world.rows(
            "select from pg_stat_activity where application_name = %s and wait_event_type = 'Lock'"
            " and wait_event = 'advisory'",
            SESSION,
        )
    )


def test_a_worker_by_itself_links_a_customer_and_sends_the_history_before_the_balance(
    database_url: str, worker_login: dict[str, str], tmp_path: Path, portal: SandboxServer
) -> None:
    with closing(World(database_url, worker_login, tmp_path, portal)) as world:
        world.do(BEFORE)
        world.do("delete from accounting.purchase where customer_id > 1")
        world.start(SETTINGS | {"rounds.enabled": True})
        done = "select counts from outbox.round_run where round = 'customer_sync' and outcome = 'done'"
        ((counts,),) = world.until(lambda: world.rows(done), "the round to end")
        world.until_done()
        phone = "+380502220010"
        acted = [it.operation for it in portal.state.ledger.effects.after(0, 10_000) if it.phone == phone]
        assert acted == ["add_purchase"] * 4 + ["set_bonus_balance"]
        assert (counts["read_count"], counts["history_count"]) == (len(portal.state.clients), 4)
