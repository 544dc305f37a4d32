"""Those that are compared: each in a module of its own, which also holds what runs in its worker process.

    install ──▶ fill (what waits before the worker starts) ──▶ command (one worker process) ──▶ is_done
          └───▶ record, capture (what a host's transaction, or its trigger, executes for one event)

A module may import what only its contender needs: it is loaded when it is to run, and passed over with a sentence when
that is not installed. To add one, write the module with a `CONTENDER` and name it in NAMES.
"""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

import psycopg

from tests.benchmarks import host
from tests.benchmarks.events import Event

OURS = "outbox-worker"
NAMES = {
    OURS: "outbox_worker",
    "pgqueuer": "pgqueuer",
    "by hand": "by_hand",
    "procrastinate": "procrastinate",
    "faststream-outbox": "faststream_outbox",
    "graphile-worker": "graphile_worker",
    "graphile-worker with local queue": "graphile_worker:LOCAL_QUEUE",
    "pg-boss": "pg_boss",
}
PEERS = [name for name in NAMES if name not in (OURS, "by hand")]  # what others have published
ROOT = Path(__file__).resolve().parents[3]
SLOTS = 128  # requests in flight at once, at most, for everybody

DATABASE = "BENCHMARK_DATABASE"  # where a worker process finds its place
RECEIVER = "BENCHMARK_RECEIVER"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker works: a database, a receiver, a directory of its own, which is its working directory too."""

    database_url: str
    receiver_url: str
    directory: Path


@dataclass(frozen=True, slots=True)
class Command:
    """A worker process to be."""

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


class Contender(ABC):
    """One way to deliver events from PostgreSQL over HTTP."""

    name: str
    packages: ClassVar[Sequence[str]]  # whose versions are printed
    settings: ClassVar[str]  # what was set, and where that advice stands
    done: ClassVar[str]  # a query: true when nothing waits and nothing is under way
    record: ClassVar[str]  # what a host's transaction executes for one event
    capture: ClassVar[str]  # what the trigger of `host.trigger` executes for one row

    @abstractmethod
    def install(self, place: Place) -> None:
        """Put the contender's own schema into the empty database, with the settings that it recommends."""

    @abstractmethod
    def fill(self, place: Place, events: Sequence[Event]) -> None:
        """Record many events at once."""

    @abstractmethod
    def command(self, place: Place) -> Command:
        """Return how its worker process is started."""

    def versions(self) -> Iterator[str]:
        """Say which versions of its packages are here."""
        for package in self.packages:
            try:
                yield f"{package} {version(package)}"
            except PackageNotFoundError:
                yield f"{package} ?"

    def trigger(self) -> str:
        """Return what makes the trigger that captures the host's rows."""
        return host.trigger(self.capture)

    def record_parameters(self, event: Event) -> Mapping[str, Any]:
        """Return the parameters of `record`."""
        return {"number": str(event.number), "customer": event.customer, "payload": event.payload}

    def is_done(self, session: psycopg.Connection) -> bool:
        """Tell whether everything that was recorded is delivered and written down as delivered."""
        row = session.execute(self.done).fetchone()  # type: ignore[arg-type]  # a constant of the contender's
        return bool(row and row[0])


def load(name: str) -> Contender:
    """Return a contender. Raises ImportError when what it needs is not installed."""
    module, _, attribute = NAMES[name].partition(":")
    contender: Contender = getattr(import_module(f"{__name__}.{module}"), attribute or "CONTENDER")
    return contender


def python(place: Place, *arguments: str) -> Command:
    """Return a command of this Python, told of its place in the environment."""
    told = {DATABASE: place.database_url, RECEIVER: f"{place.receiver_url}/hook", "PYTHONPATH": str(ROOT)}
    return Command([sys.executable, *arguments], told)


def told(variable: str) -> str:
    """Return what a worker process was told."""
    return os.environ[variable]


def headers(key: object) -> dict[str, str]:
    """Return the headers of each peer's POST; ours sends the same and its own name."""
    return {"Content-Type": "application/json", "Idempotency-Key": str(key)}
