"""A service for all tests that only ask, and one for a test that does more with it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.conftest import Databases, Server
from tests.web.service import Service


@pytest.fixture(scope="session")
def web_login(server: Server, installed: object) -> Iterator[dict[str, str]]:
    """A role of this run that has the rights of the service and no others."""
    login = {"user": f"web_{secrets.token_hex(8)}", "password": secrets.token_hex(16)}
    with psycopg.connect(server.url(), autocommit=True) as session:
        session.execute(f"create role {login['user']} login password '{login['password']}' in role outbox_identify")
        yield login
        session.execute(f"drop role {login['user']}")


@pytest.fixture(scope="session")
def shared_url(databases: Databases, installed: str) -> Iterator[str]:
    """A copy of the installed database for all tests that only ask."""
    with databases.copy(installed) as url:
        yield url


@pytest.fixture(scope="session")
def service(shared_url: str, web_login: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    running = Service(tmp_path_factory.mktemp("web"), make_conninfo(shared_url, **web_login), body_max=2000)
    yield running
    running.stop()


@pytest.fixture
def serve(database_url: str, web_login: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Start a service on the test's own database with these settings."""
    with ExitStack() as services:

        def start(url: str = make_conninfo(database_url, **web_login), **settings: Any) -> Service:
            running = Service(tmp_path, url, **settings)
            services.callback(running.stop)
            return running

        yield start
