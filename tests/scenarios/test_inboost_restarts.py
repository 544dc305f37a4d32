"""InBoost is killed and started again, under load: its stand-in as a process of its own, with a ledger on disk."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from outbox_worker.demo.sandbox import SandboxServer, Settings
from tests.scenarios.judgement import assert_settled, judge
from tests.scenarios.trade import Trade
from tests.scenarios.waiting import until
from tests.scenarios.worker import REPOSITORY
from tests.scenarios.world import DEDUPLICATING, World


class Mortal:
    """`outbox-worker sandbox`, always at the same port and with the same ledger."""

    def __init__(self, directory: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.ledger = directory / "ledger.jsonl"
        self._log = (directory / "sandbox.log").open("wb")
        self.start()

    def start(self) -> None:
        words = ["--port", str(self._port), "--any-client", "--ledger", str(self.ledger), "--seed", "3"]
        slow = ["--fault", "*:slow:seconds=0.03,probability=0.5"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "outbox_worker", "sandbox", *words, *slow],
            stdout=self._log,
            stderr=self._log,
            cwd=REPOSITORY,
        )

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()
        self._log.close()

    def effect_count(self) -> int:
        return len(self.ledger.read_bytes().splitlines()) if self.ledger.exists() else 0


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Mortal]:
    mortal = Mortal(tmp_path)
    yield mortal
    mortal.close()


def test_inboost_killed_and_started_again_under_load_loses_and_doubles_nothing(
    world: World, mortal: Mortal, tmp_path: Path
) -> None:
    addresses = {f"inboost.hooks.{hook}.url": f"{mortal.url}/api/webhok/{hook}/" for hook in ("accrual", "redemption")}
    addresses |= {f"inboost.hooks.{hook}.url": f"{mortal.url}/api/webhok/{hook}/" for hook in ("purchase", "expiry")}
    world.start(DEDUPLICATING | addresses | {"inboost.base_url": mortal.url})
    with Trade(world.database_url, world.shop.customers(20), seed=10):
        for _ in range(2):
            goal = mortal.effect_count() + 30
            until(lambda goal=goal: mortal.effect_count() >= goal, "more effects")
            mortal.kill()
            mortal.start()
    world.until_done(60)
    mortal.kill()
    with SandboxServer(Settings(any_client=True, ledger_file=mortal.ledger)) as risen:
        world.inboost = risen
        assert_settled(world)
        assert judge(world).doubled == []
    assert world.value("select count(*) from outbox.attempt where outcome = 'in_doubt'") > 0, "no kill met a request"
