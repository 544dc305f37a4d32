"""A client that InBoost does not know is added once, and the deliveries that wait for it go on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from outbox_worker.demo.sandbox import SandboxServer
from outbox_worker.errors import ConfigurationError
from outbox_worker.inboost.client import Client
from outbox_worker.inboost.operations import DEFAULT
from outbox_worker.inboost.profile import Profile
from outbox_worker.runtime.unknown_clients import UnknownClients
from tests.database.rows import Rows
from tests.runtime.syncing import TERMS, put
from tests.scenarios.shop import Shop

PHONE = "+380501112233"
Add = Callable[[], Any]


@pytest.fixture
def add(database_url: str, worker_login: dict[str, str], portal: SandboxServer) -> Add:
    profile = Profile(
        operations=DEFAULT,
        base_url=portal.url,
        authorization="Authorize: Bearer sandbox-token",
        hooks={},
        phone_region="UA",
    )
    unknown = UnknownClients(
        make_conninfo(database_url, **worker_login),
        profile,
        lambda: Client(connect_timeout=timedelta(seconds=1), request_timeout=timedelta(seconds=1)),
        TERMS.links,
    )
    return unknown.run_once


@pytest.fixture
def waiting(rows: Rows, shop: Shop) -> int:
    """A customer with two purchases that wait since InBoost answered 404."""
    customer = shop.customer("050 111-22-33")
    rows.do("update accounting.customer set first_name = 'Anna', birth_date = '1990-02-03'")
    shop.buy(customer)
    shop.buy(customer)
    rows.waiting("purchase:1")
    rows.following("purchase:2", behind="waits for its client")
    return customer


def added(portal: SandboxServer) -> int:
    return sum(it.operation == "add_client" for it in portal.state.ledger.effects.after(0, 100))


@pytest.mark.usefixtures("waiting")
def test_the_client_is_added_from_accounting_and_what_waited_goes_on_in_order(
    portal: SandboxServer, rows: Rows, add: Add
) -> None:
    assert add() == {"added_count": 1, "released_count": 2}
    found = portal.do(portal.state.clients.find, PHONE)
    assert found.fields == {"userPhoneNumber": PHONE, "userName": "Anna", "birth": "1990-02-03"}
    assert [rows.state(f"purchase:{number}") for number in (1, 2)] == ["pending", "pending"]
    assert add() == {}


@pytest.mark.usefixtures("waiting")
def test_an_answer_that_is_lost_adds_nobody_twice(portal: SandboxServer, rows: Rows, add: Add) -> None:
    portal.put_faults("add_client:reset_after:count=1")
    assert add() == {}
    assert rows.state("purchase:1") == "waiting"
    assert add() == {"released_count": 2}
    assert added(portal) == 1


@pytest.mark.usefixtures("waiting")
def test_a_client_that_is_there_already_is_not_added_and_not_released_again_and_again(
    portal: SandboxServer, rows: Rows, add: Add
) -> None:
    put(portal, PHONE)
    assert add() == {"released_count": 2}
    rows.waiting("purchase:1")
    assert add() == {}, "who says 409 and then 404 is not believed twice within the hour"


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize("phone", ["067 222 33 44", "none", None])
def test_nobody_is_added_under_a_phone_that_accounting_does_not_have_any_more(
    portal: SandboxServer, rows: Rows, add: Add, phone: str | None
) -> None:
    rows.do("update accounting.customer set phone = %s", phone)
    assert add() == {}
    assert added(portal) == 0


def test_nobody_is_added_for_whom_nothing_waits(portal: SandboxServer, shop: Shop, add: Add) -> None:
    shop.buy(shop.customer(PHONE))
    assert add() == {}
    assert portal.state.ledger.requests.last == 0


@pytest.mark.usefixtures("waiting")
def test_while_the_destination_is_paused_nothing_is_asked(portal: SandboxServer, rows: Rows, add: Add) -> None:
    rows.do("update outbox.destination set paused_at = now(), pause_reason = 'a person' where destination = 'api'")
    assert add() == {}
    assert portal.state.ledger.requests.last == 0


@pytest.mark.usefixtures("waiting")
def test_a_refused_token_is_said(portal: SandboxServer, add: Add) -> None:
    portal.put_faults("add_client:unauthorized")
    with pytest.raises(ConfigurationError, match="token"):
        add()
