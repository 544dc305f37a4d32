"""InBoost's clients become customers of accounting, linked, once, whatever comes between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from outbox_worker.database.sync_runs import SyncRun
from outbox_worker.demo.sandbox import SandboxServer, Settings
from outbox_worker.inboost.client import Client
from outbox_worker.inboost.listing import Listing
from outbox_worker.inboost.operations import DEFAULT
from outbox_worker.inboost.profile import Profile
from outbox_worker.rules.matching import FIELDS, Winner
from outbox_worker.rules.schedule import Timetable
from outbox_worker.runtime.customer_sync import SyncTerms, sync
from outbox_worker.runtime.links import LinkTerms
from tests.database.rows import Rows
from tests.scenarios.shop import Shop

TERMS = SyncTerms(
    region="UA",
    winners=dict.fromkeys(FIELDS, Winner.NEWEST),
    links=LinkTerms("Europe/Kyiv", 3, ("pending", "in_doubt", "waiting")),
    change_share_max=1.0,
)
ANNA = {
    "id": 1,
    "userPhoneNumber": "+380501112233",
    "userName": "Anna",
    "lastName": "Bondar",
    "birth": "1990-02-03",
    "source": "instagram",
    "profession": "doctor",
}


@pytest.fixture
def inboost() -> Iterator[SandboxServer]:
    with SandboxServer(Settings(seed=1)) as inboost:
        yield inboost


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with closing(Shop(database_url)) as shop:
        yield shop


@pytest.fixture
def rows(connect: Callable[..., psycopg.Connection[Any]]) -> Rows:
    return Rows(connect())


@contextmanager
def listing(url: str) -> Iterator[Listing]:
    profile = Profile(
        operations=DEFAULT, base_url=url, authorization="Authorize: Bearer sandbox-token", hooks={}, phone_region="UA"
    )
    quick = Timetable(first=timedelta(milliseconds=1), longest=timedelta(milliseconds=2), tries_max=4)
    with Client(connect_timeout=timedelta(seconds=1), request_timeout=timedelta(seconds=5), timetable=quick) as client:
        yield Listing(client, profile)


Sync = Callable[..., SyncRun]


@pytest.fixture
def run(database_url: str, worker_login: dict[str, str], inboost: SandboxServer) -> Iterator[Sync]:
    with listing(inboost.url) as source:
        yield lambda terms=TERMS, source=source, **words: sync(
            make_conninfo(database_url, **worker_login), source, terms, **words
        )


def put(inboost: SandboxServer, *clients: dict[str, Any] | str) -> None:
    inboost.do(inboost.state.register, clients, 1_790_000_000.0)


def customers(rows: Rows) -> list[tuple[Any, ...]]:
    return rows.all(
        "select phone, first_name, last_name, birth_date::text, source, specialty from accounting.customer"
        " order by customer_id"
    )


def test_a_client_that_accounting_does_not_know_becomes_a_customer(inboost: Any, rows: Rows, run: Sync) -> None:
    put(inboost, ANNA)
    done = run()
    assert customers(rows) == [("+380501112233", "Anna", "Bondar", "1990-02-03", "instagram", "doctor")]
    assert (done.counts.read_count, done.counts.created_count, done.counts.linked_count) == (1, 1, 1)
    again = run()
    assert (again.counts.created_count, again.counts.linked_count) == (0, 0)
    assert len(customers(rows)) == 1
