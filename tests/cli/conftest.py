"""A desk whose database role has the rights of a worker and no others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.cli.desk import Desk
from tests.conftest import Server
from tests.database.rows import Rows
from tests.scenarios.conftest import login_of_a_worker

HOOKS = ("accrual", "redemption", "purchase", "expiry")


@pytest.fixture(scope="session")
def worker_login(server: Server, installed: object) -> Iterator[dict[str, str]]:
    """A role of this run that has the rights of a worker and no others."""
    with login_of_a_worker(server.url()) as login:
        yield login


@pytest.fixture
def rows(connect: Callable[..., psycopg.Connection[Any]]) -> Rows:
    return Rows(connect())


@pytest.fixture
def configure(tmp_path: Path, database_url: str, worker_login: dict[str, str]) -> Callable[..., Path]:
    """Write a configuration file without a token: commands that only look and settle need none."""

    def configure(settings: dict[str, Any] | None = None) -> Path:
        whole = {
            "database.url": make_conninfo(database_url, **worker_login),
            "inboost.base_url": "https://portal.inboost.ai",
            **{f"inboost.hooks.{hook}.url": f"https://portal.inboost.ai/api/webhok/{hook}-s3cret/" for hook in HOOKS},
            **(settings or {}),
        }
        file = tmp_path / "outbox-worker.toml"
        file.touch(0o600)
        file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in whole.items()))
        return file

    return configure


@pytest.fixture
def desk(configure: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(configure(), monkeypatch, capsys)
