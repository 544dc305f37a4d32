"""Doctor finds what is broken, says where, and is silent about what is well. The breakages are real."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import make_conninfo

from outbox_worker.cli import group
from outbox_worker.demo.sandbox import SandboxServer, Settings
from tests.conftest import Server
from tests.inboost.receiver import Connection, Receiver
from tests.runtime.pooler import TransactionPooler
from tests.scenarios.conftest import login_of_a_worker
from tests.scenarios.shop import Shop

HOOKS = ("accrual", "redemption", "purchase", "expiry")
PHONE = "+380671234567"


@pytest.fixture(scope="module")
def inboost() -> Iterator[SandboxServer]:
    with SandboxServer(Settings(any_client=True)) as inboost:
        yield inboost


@pytest.fixture
def owner(connect: Callable[..., psycopg.Connection[Any]]) -> psycopg.Connection[Any]:
    return connect()


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with closing(Shop(database_url)) as shop:
        yield shop


class Doctor:
    """Runs `outbox-worker doctor --json` with settings; keeps what it answered."""

    def __init__(self, database_url: str, inboost_url: str, directory: Path) -> None:
        self.database_url = database_url
        self.inboost_url = inboost_url
        self.token = "sandbox-token"
        self.more = ""
        self._file = directory / "outbox-worker.toml"

    def look(self) -> int:
        """Return the exit status."""
        hooks = "".join(
            f'[inboost.hooks.{name}]\nurl = "{self.inboost_url}/api/webhok/{name}-secret/"\n' for name in HOOKS
        )
        self._file.touch(0o600)
        self._file.write_text(
            f'[database]\nurl = "{self.database_url}"\n[inboost]\nbase_url = "{self.inboost_url}"\n'
            f'token = "{self.token}"\nconnect_timeout = 0.5\nrequest_timeout = 2\n{hooks}{self.more}'
        )
        answer = CliRunner().invoke(group, ["doctor", "--json", "-c", str(self._file)], catch_exceptions=False)
        self.said = json.loads(answer.output)
        return answer.exit_code

    def of(self, check: str) -> list[tuple[str, str]]:
        """Return level and sentence of what a check found."""
        return [(it["level"], it["sentence"]) for it in self.said["findings"] if it["check"] == check]

    def unwell(self) -> list[str]:
        """Name the checks that found something."""
        return sorted({it["check"] for it in self.said["findings"] if it["level"] != "ok"})


@pytest.fixture
def doctor(database_url: str, worker_login: dict[str, str], inboost: SandboxServer, tmp_path: Path) -> Doctor:
    return Doctor(make_conninfo(database_url, **worker_login), inboost.url, tmp_path)


def sell(shop: Shop, owner: psycopg.Connection[Any]) -> None:
    """Sell something a minute ago, long enough for anybody to have recorded it."""
    shop.buy(shop.customer(PHONE), accrued="1.20")
    owner.execute("update accounting.purchase set purchased_at = now() - interval '1 minute'")


def test_where_all_is_well_nothing_fails_and_nothing_warns(
    doctor: Doctor, shop: Shop, owner: Any, inboost: SandboxServer
) -> None:
    sell(shop, owner)
    before = inboost.state.ledger.requests.last
    assert doctor.look() == 0
    assert doctor.unwell() == []
    asked = inboost.state.ledger.requests.after(before)
    assert [it.operation for it in asked] == ["find_client"], "no hook is called, and nothing is changed"


def test_samples_are_real_facts_as_they_would_be_sent_with_phones_and_secrets_hidden(
    doctor: Doctor, shop: Shop, owner: Any
) -> None:
    sell(shop, owner)
    doctor.look()
    samples = [it for it in doctor.said["findings"] if it["check"] == "samples"]
    assert len(samples) == 6, "each operation that events are delivered to"
    (purchase,) = [it for it in samples if it["sentence"].startswith("add_purchase: the latest purchase")]
    request, body = purchase["details"]
    assert request.startswith("POST http://") and "/purchases" in request
    assert '"total":120.50' in body
    whole = json.dumps(doctor.said)
    assert PHONE[1:] not in whole
    assert "-secret" not in whole
    assert "sandbox-token" not in whole


BREAKAGES = {
    "disabled": (
        "alter table accounting.purchase disable trigger capture_purchase",
        ("triggers", "fail", "capture_purchase on accounting.purchase is disabled"),
    ),
    "for replicas only": (
        "alter table accounting.bonus_entry enable replica trigger capture_bonus_entry",
        ("triggers", "fail", "fires for replication only"),
    ),
    "dropped": (
        "drop trigger capture_bonus_entry on accounting.bonus_entry",
        ("triggers", "fail", "no trigger calls integration.capture_bonus_entry"),
    ),
    "one of two dropped": (
        "drop trigger capture_purchase on accounting.purchase",
        ("triggers", "warn", "no trigger calls integration.capture_purchase when a row is inserted"),
    ),
    "too early": (
        "drop trigger capture_purchase on accounting.purchase;"
        "create trigger capture_purchase after insert on accounting.purchase"
        " for each row execute function integration.capture_purchase()",
        ("triggers", "warn", "is not deferred"),
    ),
    "bypassed by setting": (
        "do $$ begin execute format('alter database %I set session_replication_role = replica', current_database());"
        " end $$",
        ("bypass", "fail", "session_replication_role=replica is set for all roles in this database"),
    ),
    "bypassed by somebody": (
        "set session_replication_role = replica;"
        "insert into accounting.customer (phone) values ('+380671234567');"
        "insert into accounting.purchase (customer_id, total, purchased_at)"
        " select customer_id, 1, now() - interval '1 minute' from accounting.customer",
        ("events", "fail", "1 of 1 facts of kind purchase"),
    ),
    "a balance changed unseen": (
        "set session_replication_role = replica;"
        "insert into accounting.customer (phone) values ('+380671234567');"
        "insert into accounting.bonus_account (customer_id, balance, changed_at)"
        " select customer_id, 7, now() - interval '1 minute' from accounting.customer",
        ("events", "fail", "1 of 1 facts of kind bonus_balance"),
    ),
    "a capture that failed": (
        "insert into outbox.capture_failure (kind, source_id, sqlstate, message)"
        " values ('purchase', '7', '22P02', 'bad value +380671234567')",
        ("captures", "fail", "the first one purchase:7: bad value +380*******67"),
    ),
    "a view missing": (
        "drop view integration.fact",
        ("mapping", "fail", "view integration.fact is missing"),
    ),
    "a view of another kind": (
        "drop view integration.bonus_lot;"
        "create view integration.bonus_lot as select 1 as bonus_lot_id, 'x'::text as customer_id, null::text as phone,"
        " 0.1::float8 as remaining; grant select on integration.bonus_lot to outbox_worker",
        ("mapping", "fail", "has no column expires_on"),
    ),
    "a view that may not be read": (
        "revoke select on integration.bonus_lot from outbox_worker",
        ("mapping", "fail", "grant select on integration.bonus_lot to outbox_worker"),
    ),
    "the door closed": (
        "revoke execute on function outbox.record_event from outbox_worker",
        ("role", "fail", "misses execute on outbox.record_event"),
    ),
    "a journal that can be forged": (
        "grant insert on outbox.event to outbox_worker",
        ("role", "warn", "may do more than it needs: insert on outbox.event"),
    ),
    "phones of another country": (
        "insert into accounting.customer (phone) values ('512-34'), ('n/a 1234567'), (null)",
        ("phones", "fail", "of 3 customers 1 have no phone, 2 one that is none"),
    ),
    "nobody who identifies orders": (
        "insert into accounting.purchase (total, contact_email) values (5, 'anna@example.com');"
        "set constraints all immediate;"
        "update outbox.event set recorded_at = now() - interval '2 minutes'",
        ("orders", "fail", "wait to be identified, the oldest for 120 s: a worker with [rounds] enabled = true does"),
    ),
    "a route switched off": (
        "update outbox.route set enabled = false where operation = 'add_purchase'",
        ("routes", "warn", "add_purchase is configured, and disabled"),
    ),
    "no vacuum": (
        "alter table outbox.delivery set (autovacuum_enabled = false)",
        ("autovacuum", "warn", "outbox.delivery"),
    ),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_breakage_is_named_and_nothing_else_is(doctor: Doctor, owner: Any, name: str) -> None:
    breakage, (check, level, words) = BREAKAGES[name]
    owner.execute(breakage)
    assert doctor.look() == (1 if level == "fail" else 0)
    assert [it for it in doctor.of(check) if it[0] == level and words in it[1]], doctor.of(check)
    assert doctor.unwell() == [check]


def test_a_role_that_may_do_everything_is_warned_of(doctor: Doctor, database_url: str) -> None:
    doctor.database_url = database_url
    assert doctor.look() == 0
    assert doctor.unwell() == ["role"]
    assert "is a superuser" in doctor.of("role")[0][1]


def test_a_role_without_the_workers_rights_is_told_what_to_do(
    doctor: Doctor, server: Server, database_url: str, owner: Any
) -> None:
    with login_of_a_worker(server.url()) as login:
        owner.execute(f"revoke outbox_worker from {login['user']}")
        doctor.database_url = make_conninfo(database_url, **login)
        assert doctor.look() == 1
    assert doctor.unwell() == ["database"]
    assert "grant outbox_worker to this role" in doctor.of("database")[0][1]


@pytest.mark.parametrize("latest", [True, False])
def test_a_transaction_pooler_is_found_out(doctor: Doctor, latest: bool) -> None:
    direct = doctor.database_url
    with TransactionPooler(direct, latest=latest) as pooler:
        doctor.database_url = make_conninfo(direct, port=pooler.port)
        assert doctor.look() == 1
    assert doctor.unwell() == ["session"]
    ((_, sentence),) = doctor.of("session")
    assert "a transaction pooler" in sentence and "Let [database] url name PostgreSQL itself" in sentence


def test_a_database_that_is_away_keeps_nobody_from_asking_inboost(doctor: Doctor) -> None:
    doctor.database_url = "postgresql://nobody@127.0.0.1:9/nothing"
    assert doctor.look() == 1
    assert doctor.unwell() == ["database"]
    assert doctor.of("inboost") == [("ok", "InBoost answers, and takes the token")]


def test_a_token_that_is_refused_is_named(doctor: Doctor) -> None:
    doctor.token = "wrong"
    assert doctor.look() == 1
    assert doctor.unwell() == ["inboost"]
    assert "InBoost refuses the token (answered 401)" in doctor.of("inboost")[0][1]


def test_inboost_being_down_is_named_and_so_is_a_hook_whose_host_is_unknown(doctor: Doctor) -> None:
    doctor.inboost_url = "http://127.0.0.1:9"
    doctor.more = "[inboost.operations.expiry_webhook]\nenabled = false\n"
    doctor.look()
    assert "InBoost cannot be reached" in doctor.of("inboost")[0][1]
    assert doctor.unwell() == ["inboost", "routes"], "a hook that is not in use is not looked at"


def answering(head: str) -> Callable[[Connection], None]:
    def script(connection: Connection) -> None:
        while connection.read_request():
            connection.send(f"HTTP/1.1 200 OK\r\n{head}Content-Length: 2\r\n\r\n{{}}".encode())

    return script


@pytest.mark.parametrize(("date", "level"), [("Sat, 01 Jan 2000 00:00:00 GMT", "fail"), ("no date", "ok")])
def test_a_clock_that_is_off_is_seen_by_the_date_of_the_answer(doctor: Doctor, date: str, level: str) -> None:
    with Receiver(answering(f"Date: {date}\r\n")) as receiver:
        doctor.inboost_url = f"http://127.0.0.1:{receiver.port}"
        assert doctor.look() == (1 if level == "fail" else 0)
    assert [it for it in doctor.of("clock") if "InBoost's" in it[1] and "behind" in it[1]] or level == "ok"
    assert doctor.of("clock")[0][0] == "ok", "the database's clock is that of this host"


def test_orders_of_buyers_whom_accounting_does_not_know_are_no_defect(
    doctor: Doctor, owner: psycopg.Connection[Any], shop: Shop
) -> None:
    shop.buy(shop.customer(PHONE))
    owner.execute("insert into accounting.purchase (total, contact_email) values (1, 'a@example.com')")
    assert doctor.look() == 0
    assert all(level == "ok" for level, _ in doctor.of("facts") + doctor.of("samples"))


def test_a_mapping_without_contact_data_is_whole_and_one_with_strange_ones_is_told(
    doctor: Doctor, owner: psycopg.Connection[Any], shop: Shop
) -> None:
    shop.buy(shop.customer(PHONE))
    columns = "purchase_id, customer_id, phone, purchased_at, total, currency, bonus_accrued, bonus_redeemed, lines"
    owner.execute("alter view integration.purchase rename to purchase_with_contacts")
    owner.execute(f"create view integration.purchase as select {columns} from integration.purchase_with_contacts")
    owner.execute("grant select on integration.purchase to outbox_worker")
    assert doctor.look() == 0
    assert [level for level, _ in doctor.of("mapping")] == ["ok"]
    owner.execute(
        f"create or replace view integration.purchase as select {columns}, true as contact_email"
        " from integration.purchase_with_contacts"
    )
    doctor.look()
    assert [sentence for level, sentence in doctor.of("mapping") if level == "warn"] == [
        "integration.purchase.contact_email is boolean, and is sent as a text; cast it to text"
    ]
