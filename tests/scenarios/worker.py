"""A worker as an operator has it: a process of its own, known by its log, its signals and its exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.scenarios.waiting import until

REPOSITORY = Path(__file__).parents[2]


class Worker:
    """`outbox-worker run -c FILE`, running until it is stopped or killed."""

    def __init__(self, configuration: Path, log: Path, environment: dict[str, str] | None = None) -> None:
        self.log = log
        self.may_end = False
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "outbox_worker", "run", "-c", str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=REPOSITORY,
                env=os.environ | (environment or {}),
            )

    @cached_property
    def name(self) -> str:
        """The id that it drew at its start: that of its claims, of its attempts and of its database session."""
        return str(until(self._started, f"the worker to start; {self.log}")["worker"])

    @property
    def session(self) -> str:
        """The application_name of its relay's database session."""
        return f"outbox-worker {self.name}"

    def lines(self) -> list[dict[str, Any]]:
        """Read its log."""
        whole = (line for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n"))
        return [json.loads(line) for line in whole if line.startswith("{")]

    def lines_of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["event"] == event]

    def kill(self) -> None:
        """End it as a power failure would: nothing of its own runs any more."""
        self.may_end = True
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        """Ask it to stop, as systemd does."""
        self.send(signal.SIGTERM)

    def send(self, number: signal.Signals) -> None:
        """Send a signal that may end it."""
        self.may_end = True
        self.process.send_signal(number)

    def wait(self, within_s: float = 20) -> int:
        """Wait for its end, and return its exit status."""
        return self.process.wait(within_s)

    def stop(self) -> int:
        """Ask it to stop, wait for its end, and return its exit status."""
        self.terminate()
        return self.wait()

    def processor_s(self) -> float:
        """Return how much processor time it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def assert_well(self) -> None:
        """Fail if it has ended by itself."""
        assert self.may_end or self.is_running, f"a worker ended by itself: {self.log.read_text()[-3000:]}"

    def freeze(self) -> None:
        """Stop it in its tracks, as an overcommitted host does."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def _started(self) -> dict[str, Any] | None:
        is_running = self.is_running
        found = next(iter(self.lines_of("started")), None)
        assert found or is_running, f"the worker ended with {self.process.returncode}: {self.log.read_text()}"
        return found
