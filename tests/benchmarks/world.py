"""Where the runs take place: a PostgreSQL server, and for each run a fresh database, a directory, a worker process."""

from __future__ import annotations

import os
import platform
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

import psycopg

from tests.benchmarks.contenders import Contender, Place
from tests.benchmarks.events import Event
from tests.benchmarks.meters import ServerProcesses, family_s
from tests.benchmarks.receivers import Receiver

STOP_S_MAX = 30.0
SETTINGS_SHOWN = (
    "synchronous_commit",
    "fsync",
    "full_page_writes",
    "wal_level",
    "shared_buffers",
    "max_wal_size",
    "autovacuum",
)


class Server(Protocol):
    """A PostgreSQL server whose superuser we are."""

    def url(self, dbname: str = "postgres") -> str:
        """Return where a database is."""


AReceiver = TypeVar("AReceiver", bound=Receiver)


@dataclass(frozen=True, slots=True)
class Stage(Generic[AReceiver]):
    """What one run has to itself: an empty database, a place for a worker, a receiver that runs."""

    dbname: str
    place: Place
    receiver: AReceiver


class World:
    """A server that runs take place on, with a session in it that belongs to no run."""

    def __init__(self, server: Server, directory: Path) -> None:
        self.server = server
        self.directory = directory
        self.session = psycopg.connect(server.url(), autocommit=True)
        self.processes = ServerProcesses.of(self.session)
        self.processor_count = os.cpu_count() or 1

    def close(self) -> None:
        """End the session."""
        self.session.close()

    @contextmanager
    def database(self) -> Iterator[str]:
        """Make an empty database for one run; dropped at the end."""
        dbname = f"benchmark_{secrets.token_hex(6)}"
        self.session.execute(f'create database "{dbname}" template template0')  # type: ignore[arg-type]  # our name
        try:
            yield dbname
        finally:
            self.session.execute(f'drop database "{dbname}" with (force)')  # type: ignore[arg-type]  # our name

    @contextmanager
    def place(self, dbname: str, receiver_url: str) -> Iterator[Place]:
        """Make a directory for one worker, and tell it where database and receiver are."""
        with tempfile.TemporaryDirectory(dir=self.directory) as directory:
            yield Place(self.server.url(dbname), receiver_url, Path(directory))

    @contextmanager
    def stage(self, receiver: Callable[[Path], AReceiver]) -> Iterator[Stage[AReceiver]]:
        """Set up what one run has to itself."""
        with ExitStack() as stack:
            directory = stack.enter_context(tempfile.TemporaryDirectory(dir=self.directory))
            running = stack.enter_context(receiver(Path(directory)))
            dbname = stack.enter_context(self.database())
            yield Stage(dbname, stack.enter_context(self.place(dbname, running.url)), running)

    def settle(self, database_url: str) -> None:
        """Bring a filled database into one state for everybody: vacuumed, analysed, written out."""
        with psycopg.connect(database_url, autocommit=True) as session:
            session.execute("vacuum (analyze)")
            session.execute("checkpoint")

    def server_s(self) -> float:
        """Return the processor time that the server has taken; not a number when it is on another machine."""
        return self.processes.processor_s() if self.processes else float("nan")

    def wait_until_left(self, dbname: str) -> None:
        """Wait until no session is left in a database: only then all that it did is counted."""
        give_up_at = time.monotonic() + STOP_S_MAX
        while time.monotonic() < give_up_at:
            left = self.session.execute(
                "select from pg_stat_activity where datname = %s and backend_type = 'client backend'", [dbname]
            )
            if not left.fetchone():
                return
            time.sleep(0.01)

    def description(self, contenders: Sequence[Contender]) -> dict[str, str]:
        """Say what the figures were measured with."""
        shown = self.session.execute(
            "select name, current_setting(name) from pg_settings where name = any (%s) order by name",
            [list(SETTINGS_SHOWN)],
        ).fetchall()
        (server_version,) = self.session.execute("select version()").fetchone() or ("?",)
        lines = {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "machine": f"{_processor()}, {os.cpu_count()} processors, {platform.platform()}",
            "python": f"{platform.python_implementation()} {platform.python_version()}",
            "PostgreSQL": server_version.partition(" on ")[0],
            "its settings": ", ".join(f"{name} = {value}" for name, value in shown),
            "fdatasync": f"{_fdatasync_us(self.directory):.0f} µs (median of 100 of 8 KiB)",
        }
        for contender in contenders:
            lines[contender.name] = f"{contender.settings}; {', '.join(contender.versions())}"
        return lines


class Worker:
    """A contender's worker process, from start to end. Its output goes to `log`."""

    def __init__(self, contender: Contender, place: Place) -> None:
        self._command = contender.command(place)
        self._directory = place.directory
        self.log = place.directory / "worker.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process."""
        if self._process is None:
            raise RuntimeError("not started")
        return self._process.pid

    def processor_s(self) -> float:
        """Return the processor time that the process and its children have taken."""
        return family_s(self.pid)

    def memory_bytes(self) -> int:
        """Return how much memory the process has."""
        words = Path(f"/proc/{self.pid}/statm").read_text().split()
        return int(words[1]) * os.sysconf("SC_PAGE_SIZE")

    def check(self) -> None:
        """Raise RuntimeError, with its last words, when the process has ended."""
        if self._process is not None and self._process.poll() is not None:
            words = self.log.read_bytes()[-3000:].decode(errors="replace")
            raise RuntimeError(f"the worker process ended with {self._process.returncode}:\n{words}")

    def stop(self) -> None:
        """Ask it to end, as a supervisor does; then end it."""
        if self._process is None:
            return
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S_MAX)
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        environment = os.environ | dict(self._command.environment)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                list(self._command.arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                env=environment,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _fdatasync_us(directory: Path) -> float:
    """Return how long a small write takes to be durable where the data lies: the floor under every commit."""
    took_ns = []
    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(bytes(1 << 20))
        for number in range(100):
            file.seek(number * 8192)
            file.write(bytes(8192))
            file.flush()
            begun_ns = time.monotonic_ns()
            os.fdatasync(file.fileno())
            took_ns.append(time.monotonic_ns() - begun_ns)
    return sorted(took_ns)[50] / 1000


def record(contender: Contender, database_url: str, each: Iterable[Event]) -> None:
    """Record events one by one, as a host's transactions do."""
    with psycopg.connect(database_url, autocommit=True) as session:
        for event in each:
            session.execute(contender.record, contender.record_parameters(event))  # type: ignore[arg-type]  # a constant


def wait_for(receiver: Receiver, count: int, worker: Worker, seconds_max: float) -> None:
    """Wait until so many requests have come. Raises RuntimeError when they do not."""
    give_up_at = time.monotonic() + seconds_max
    while (came := receiver.request_count()) < count:
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"gave up after {came} of {count} requests")
        worker.check()
        time.sleep(0.02)
