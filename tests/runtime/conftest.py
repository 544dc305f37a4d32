"""The world of the scenarios, for relays that run in the test's own process; and what the customer sync needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from outbox_worker.demo.sandbox import SandboxServer, Settings
from outbox_worker.runtime.customer_sync import sync
from tests.database.rows import Rows
from tests.runtime.syncing import TERMS, Sync, listing
from tests.scenarios.conftest import inboost, worker_login, world  # noqa: F401
from tests.scenarios.shop import Shop


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with closing(Shop(database_url)) as shop:
        yield shop


@pytest.fixture
def rows(connect: Callable[..., psycopg.Connection[Any]]) -> Rows:
    return Rows(connect())


@pytest.fixture
def portal() -> Iterator[SandboxServer]:
    """InBoost's stand-in; it knows the clients that it was told of, and no others."""
    with SandboxServer(Settings(seed=1)) as portal:
        yield portal


@pytest.fixture
def run(database_url: str, worker_login: dict[str, str], portal: SandboxServer) -> Iterator[Sync]:  # noqa: F811
    """Sync with a worker's rights."""
    conninfo = make_conninfo(database_url, **worker_login)
    with listing(portal.url) as source:
        yield lambda terms=TERMS, source=source, **words: sync(conninfo, source, terms, **words)
