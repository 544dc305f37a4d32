"""What the workers post to: nginx, for throughput, and a receiver that stamps each request, for latency.

Both run as processes of their own, listen on a free port of the loopback, answer 200 and keep connections alive.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.benchmarks.meters import family_s

NGINX = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_timeout 75;
    keepalive_requests 1000000000;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{ return 200; }}
        location = /status {{ stub_status; }}
    }}
}}
"""
START_S_MAX = 10.0


class Receiver:
    """A process that receives; as a context manager, from start to end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_S_MAX)
        self._process: subprocess.Popen[bytes] | None = None

    def arguments(self) -> list[str]:
        """Return the command of the process."""
        raise NotImplementedError

    def request_count(self) -> int:
        """Return how many requests have come since the start; these questions do not count."""
        raise NotImplementedError

    def processor_s(self) -> float:
        """Return the processor time that its processes have taken."""
        return family_s(self._process.pid) if self._process else 0.0

    def ask(self, path: str) -> bytes:
        """Return the body of what is found there."""
        self._client.request("GET", path)
        return self._client.getresponse().read()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self.arguments(), stderr=subprocess.DEVNULL)
        give_up_at = time.monotonic() + START_S_MAX
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return self
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                raise RuntimeError(f"{self.arguments()[0]} did not start: it says why when it is started by hand")
            time.sleep(0.02)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.close()
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


class Nginx(Receiver):
    """nginx with one worker process and no access log. Counts are those of its stub_status."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._file = directory / "nginx.conf"
        self._file.write_text(NGINX.format(directory=directory, port=self.port))
        directory.chmod(0o755)  # its worker process is another user when we are root
        self._asked_count = 0

    @staticmethod
    def program() -> str | None:
        """Find nginx: Debian has it where ordinary users do not look."""
        return shutil.which("nginx") or shutil.which("/usr/sbin/nginx")

    def arguments(self) -> list[str]:
        return [self.program() or "nginx", "-c", str(self._file), "-e", "stderr"]

    def request_count(self) -> int:
        self._asked_count += 1
        return int(self.ask("/status").split()[9]) - self._asked_count


@dataclass(frozen=True, slots=True)
class Age:
    """When the request of one of the host's rows came, on the wall clock, and how old the row was then."""

    came_s: float
    age_ms: float


class Stamper(Receiver):
    """A receiver of ours (`stamper.py`) that notes when each event's request arrived, on the clock `time.monotonic`."""

    delay_ms = 0

    def arguments(self) -> list[str]:
        program = Path(__file__).with_name("stamper.py")
        return [sys.executable, "-W", "ignore", str(program), str(self.port), str(self.delay_ms)]

    def request_count(self) -> int:
        return int(self.ask("/count"))

    def arrivals_ns(self) -> dict[int, int]:
        """Return when each event's first request arrived."""
        return {int(number): stamp for number, stamp in json.loads(self.ask("/stamps")).items()}

    def ages(self) -> list[Age]:
        """Return how old each of the host's rows was when its request arrived, in the order of arrival."""
        return [Age(came_us / 1e6, age_us / 1000) for came_us, age_us in json.loads(self.ask("/ages"))]


class SlowStamper(Stamper):
    """The same, answering after as long as a receiver on the Internet takes at its best."""

    delay_ms = 20


def fast(directory: Path) -> Receiver:
    """Return the cheapest receiver that is here: nginx, or ours where nginx is not installed."""
    return Nginx(directory) if Nginx.program() else Stamper(directory)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
