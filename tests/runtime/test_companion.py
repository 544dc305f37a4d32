"""A companion: kept running whatever ends it, and ended whatever it does."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
import structlog

from outbox_worker.runtime import companion
from outbox_worker.runtime.companion import Companion
from tests.scenarios.waiting import until


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(companion, "PAUSES_S", (0.0,))


def as_shell(monkeypatch: pytest.MonkeyPatch, *scripts: str) -> list[subprocess.Popen[bytes] | OSError]:
    """Start these scripts one after the other instead of outbox-worker; "" is a start that fails."""
    started: list[subprocess.Popen[bytes] | OSError] = []
    popen = subprocess.Popen

    def start(command: list[str], **words: Any) -> subprocess.Popen[bytes]:
        script = scripts[min(len(started), len(scripts) - 1)]
        if not script:
            started.append(OSError("no memory"))
            raise OSError("no memory")
        started.append(popen(["/bin/sh", "-c", script], **words))
        return started[-1]  # type: ignore[return-value]

    monkeypatch.setattr(companion.subprocess, "Popen", start)
    return started


def test_one_that_ends_or_cannot_be_started_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    started = as_shell(monkeypatch, "exit 3", "", "cat")
    it = Companion("rounds", [])
    with structlog.testing.capture_logs() as lines:
        it.start()
        until(lambda: len(started) == 3, "the third start")
        it.join()
    assert [line.get("exit_status", line.get("error")) for line in lines] == [3, "no memory"]
    assert started[2].poll() == 0  # type: ignore[union-attr]  # it read the end of its standard input


def test_one_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(companion, "END_S_MAX", 0.0)
    monkeypatch.setattr(companion, "KILL_AFTER_S", 0.1)
    started = as_shell(monkeypatch, "trap '' TERM; echo ready; exec sleep 60")
    it = Companion("rounds", [])
    it.start()
    until(lambda: started, "it to be started")
    it.join()
    assert started[0].poll() == -9  # type: ignore[union-attr]


def test_one_that_is_not_wanted_is_never_started(monkeypatch: pytest.MonkeyPatch) -> None:
    started = as_shell(monkeypatch, "cat")
    it = Companion("rounds", [], wanted=False)
    it.start()
    it.renew()
    it.join()
    assert started == []
