"""Customers on the command line: the sync, both sides of one, and what needs a person."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from outbox_worker.demo.sandbox import SandboxServer, Settings
from tests.cli.desk import Desk
from tests.database.rows import Rows
from tests.runtime.syncing import put

WHY = ("--reason", "asked her", "--actor", "olena@till")
ANNA = {"id": 1, "userPhoneNumber": "+380501112233", "userName": "Anna", "lastName": "Bondar"}


@pytest.fixture
def portal() -> Iterator[SandboxServer]:
    with SandboxServer(Settings(seed=1)) as portal:
        yield portal


@pytest.fixture
def desk(
    configure: Callable[..., Path],
    portal: SandboxServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Desk:
    file = configure({"inboost.base_url": portal.url, "inboost.token": "sandbox-token"})
    return Desk(file, monkeypatch, capsys)


@pytest.fixture
def twins(rows: Rows, portal: SandboxServer) -> Rows:
    """Two customers of accounting with one phone, and a client of InBoost that has it."""
    rows.do(
        "insert into accounting.customer (phone, first_name) values ('0501112233', 'Anna'), ('050 111-22-33', 'Ira')"
    )
    put(portal, ANNA)
    return rows


def test_a_sync_tells_what_it_did(desk: Desk, portal: SandboxServer, rows: Rows) -> None:
    put(portal, ANNA, {"id": 2, "userPhoneNumber": "0"})
    answer = desk("customers", "sync", "--json")
    assert answer.status == 0
    assert answer.data["counts"]["created_count"] == 1
    assert answer.data["unstored"] == {"no_phone": 1}
    described = desk("customers", "sync", "--help").out
    assert [key for key in (*answer.data, *answer.data["counts"]) if key not in described] == []
    told = desk("customers", "sync").out
    assert "2 clients read" in told and "1 not stored: no phone" in told


def test_a_dry_run_shows_examples_with_masked_phones_and_stores_nothing(desk: Desk, twins: Rows) -> None:
    put_more = desk("customers", "sync", "--dry-run")
    assert "could not be stored: shared phone" in put_more.out
    assert "+380*******33 Anna Bondar" in put_more.out
    data = desk("customers", "sync", "--dry-run", "--json").data
    assert data["counts"]["shared_phone"] == 1
    assert data["examples"]["shared_phone"][0]["phone"] == "+380*******33"
    assert twins.all("select from outbox.client") == []
    described = desk("customers", "sync", "--help").out
    assert [key for key in (*data, *data["examples"]["shared_phone"][0]) if key not in described] == []


def test_a_conflict_is_listed_with_both_sides_and_resolved_by_a_person(desk: Desk, twins: Rows) -> None:
    desk("customers", "sync")
    listed = desk("customers", "conflicts", "list")
    assert "1 shared phone: several customers of accounting have its phone" in listed.out
    assert "InBoost: client 1, +380*******33 Anna Bondar" in listed.out
    assert "accounting: customer 2" in listed.out
    assert "outbox-worker customers conflicts resolve 1 --customer 2 --reason '…'" in listed.out
    assert desk("customers", "conflicts", "resolve", "1", "--customer", "2").status == 2, "a reason is asked for"
    assert desk("customers", "conflicts", "resolve", "1", "--customer", "9", *WHY).status == 1
    dry = desk("customers", "conflicts", "resolve", "1", "--customer", "2", "--dry-run")
    assert (dry.status, twins.all("select from outbox.client")) == (0, [])
    answer = desk("customers", "conflicts", "resolve", "1", "--customer", "2", *WHY, "--json")
    assert (answer.status, answer.data["is_stored"]) == (0, True)
    assert twins.all("select customer_id, client_id from outbox.client") == [("2", "1")]
    assert twins.all("select act, actor, reason, detail ->> 'customer_id' from outbox.act") == [
        ("resolve", "olena@till", "asked her", "2")
    ]
    assert desk("customers", "conflicts", "list").status == 1
    described = desk("customers", "conflicts", "resolve", "--help").out
    assert [key for key in answer.data if key not in described] == []


def test_a_conflict_that_is_let_be_is_tried_again_only_when_the_client_changes(
    desk: Desk, twins: Rows, portal: SandboxServer
) -> None:
    desk("customers", "sync")
    assert desk("customers", "conflicts", "resolve", "1", "--ignore", *WHY).status == 0
    desk("customers", "sync", "--whole")
    assert desk("customers", "conflicts", "list").status == 1
    put(portal, ANNA | {"lastName": "Koval"})
    desk("customers", "sync", "--whole")
    assert [it["kind"] for it in desk("customers", "conflicts", "list", "--json").data["unstored"]] == ["shared_phone"]


@pytest.mark.parametrize("word", ["050 111 22 33", "+380501112233", "1"])
def test_a_customer_is_shown_from_both_sides(desk: Desk, portal: SandboxServer, rows: Rows, word: str) -> None:
    put(portal, ANNA | {"birth": "31.02.1990"})
    desk("customers", "sync")
    told = desk("customers", "show", word).out
    assert "customer 1: Anna Bondar" in told
    assert "+380*******33" in told and "501112233" not in told
    assert (
        "not stored: birth_date 1990-02-31 is impossible" in " ".join(told.split())
        or "31-02" in told
        or "impossible" in told
    )
    data = desk("customers", "show", word, "--json", "--reveal").data
    assert data["customers"][0]["link"]["phone"] == "+380501112233"
    described = desk("customers", "show", "--help").out
    keys = (*data["customers"][0], *data["customers"][0]["link"])
    assert [key for key in keys if key not in described] == []
    assert desk("customers", "show", "0672223344").status == 1


def test_an_unreachable_portal_is_told_and_noted(desk: Desk, portal: SandboxServer, rows: Rows) -> None:
    put(portal, ANNA)
    portal.put_faults("list_clients:unauthorized")
    answer = desk("customers", "sync")
    assert (answer.status, "token" in answer.err) == (78, True)
    ((problem,),) = rows.all("select problem from outbox.sync_run")
    assert "refuses the token" in problem
    portal.put_faults()
    assert desk("customers", "sync").status == 0
    assert rows.all("select problem from outbox.sync_run") == [(None,)]


def test_what_the_commands_need_is_one_value(desk: Desk, twins: Rows) -> None:
    desk("customers", "sync")
    assert desk("customers", "conflicts", "resolve", "1", *WHY).status == 2
    assert desk("customers", "conflicts", "resolve", "1", "--ignore", "--customer", "2", *WHY).status == 2


def test_kept_clients_are_described_as_they_are_listed(desk: Desk, portal: SandboxServer, rows: Rows) -> None:
    put(portal, {"id": 5, "userPhoneNumber": "none", "userName": "Ira"})
    desk("customers", "sync")
    assert desk("customers", "conflicts", "list").status == 1, "nobody can decide whose a client without a phone is"
    data: dict[str, Any] = desk("customers", "conflicts", "list", "--all", "--json").data
    (it,) = data["unstored"]
    assert desk("customers", "conflicts", "resolve", "1", "--customer", "1", *WHY).status == 1
    assert desk("customers", "conflicts", "resolve", "1", "--ignore", *WHY).status == 0
    assert (it["kind"], it["client"]["client_id"], it["client"]["phone"]) == ("no_phone", "5", "***")
    described = desk("customers", "conflicts", "list", "--help").out
    assert [key for key in (*it, *it["client"]) if key not in described] == []
