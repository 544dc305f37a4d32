"""The service as an operator has it: a process of its own, known by its log, its signals and its exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from tests.scenarios.waiting import until


class Service:
    """`outbox-worker web`, running until it is stopped."""

    def __init__(
        self, directory: Path, database_url: str, environment: Mapping[str, str] | None = None, **settings: Any
    ) -> None:
        whole = {"database.url": database_url, "identify.port": 0, "identify.monitoring_port": 0, "log.format": "json"}
        whole |= {f"identify.{key}": value for key, value in settings.items()}
        configuration = directory / "outbox-worker.toml"
        configuration.touch(0o600)
        configuration.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in whole.items()))
        self.log = directory / "web.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "outbox_worker", "web", "-c", str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={name: it for name, it in os.environ.items() if not name.startswith("OUTBOX_WORKER__")}
                | dict(environment or {}),
            )
        self.http = requests.Session()

    def lines(self) -> list[dict[str, Any]]:
        """Read its log."""
        whole = (line for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n"))
        return [json.loads(line) for line in whole if line.startswith("{")]

    def until_line(self, event: str) -> dict[str, Any]:
        """Wait for a line of the log."""

        def look() -> dict[str, Any] | None:
            ended = self.process.poll()
            found = next((line for line in self.lines() if line["event"] == event), None)
            assert found or ended is None, f"it ended with {ended}: {self.log.read_text()[-3000:]}"
            return found

        return until(look, event)

    @property
    def url(self) -> str:
        return str(self.until_line("started")["address"])

    @property
    def monitoring(self) -> str:
        return str(self.until_line("started")["monitoring"])

    def ask(self, body: Any = None, *, data: bytes | None = None, **headers: str) -> requests.Response:
        """POST a value as JSON, or these bytes."""
        content = json.dumps(body).encode() if data is None else data
        sent = {"Content-Type": "application/json"} | {name.replace("_", "-"): it for name, it in headers.items()}
        return self.http.post(f"{self.url}/identify", data=content, headers=sent, timeout=20)

    def stop(self) -> int:
        """Stop it as systemd does; return its exit status."""
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)
