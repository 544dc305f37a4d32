"""The world of a scenario, and the role that its workers log in with."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from outbox_worker.demo.sandbox import SandboxServer, Settings
from tests.conftest import Server
from tests.scenarios.world import World

pytest.register_assert_rewrite("tests.scenarios.judgement")


@pytest.fixture(scope="session")
def worker_login(server: Server, installed: object) -> Iterator[dict[str, str]]:
    """A role of this run that has the rights of a worker and no others."""
    with login_of_a_worker(server.url()) as login:
        yield login


@contextmanager
def login_of_a_worker(url: str) -> Iterator[dict[str, str]]:
    """Make a login role that has the rights of a worker, and drop it in the end."""
    login = {"user": f"worker_{secrets.token_hex(8)}", "password": secrets.token_hex(16)}
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(f"create role {login['user']} login password '{login['password']}' in role outbox_worker")
    yield login
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(f"drop role {login['user']}")


@pytest.fixture
def inboost() -> Iterator[SandboxServer]:
    """InBoost's stand-in; it knows every client."""
    with SandboxServer(Settings(any_client=True, seed=1)) as inboost:
        yield inboost


@pytest.fixture
def world(database_url: str, worker_login: dict[str, str], tmp_path: Path, inboost: SandboxServer) -> Iterator[World]:
    with closing(World(database_url, worker_login, tmp_path, inboost)) as world:
        yield world
