"""Many events wait; one worker process delivers them all to nginx.

Counted between the first request and the last: deliveries per second, and, to when the last is written down, processor
time of worker and server. Transactions are those of the whole life of the worker process; write-ahead log is that of
the capture of the events, all in one transaction, and of this life.
"Processors elsewhere" is how many were busy with something else on this machine: near 0, or the figures tell little.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.benchmarks.contenders import Contender, Place
from tests.benchmarks.events import events
from tests.benchmarks.meters import Counters, machine_s
from tests.benchmarks.receivers import Nginx, Receiver
from tests.benchmarks.scenarios import Figure, Goal, Medians, Scenario, at_most, beside_best
from tests.benchmarks.world import Worker, World

LOOK_EVERY_S = 0.01
FIRST_S_MAX = 60.0
RATE_MIN = 25.0  # deliveries per second, below which a run is given up
PYTHON_RATIO_MIN = 2.5
IN_PYTHON = ("pgqueuer", "procrastinate", "faststream-outbox")
TRANSACTIONS_MAX = 0.05
WAL_BYTES_MAX = 1536

PER_S = Figure("per_s", "deliveries per s", more_is_better=True)
WORKER_US = Figure("worker_us", "worker µs", 1)
SERVER_US = Figure("server_us", "PostgreSQL µs", 1)
TRANSACTIONS = Figure("transactions", "transactions", 3)
WAL_BYTES = Figure("wal_bytes", "WAL bytes")


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read at one instant of a run."""

    at_s: float
    count: int
    worker_s: float
    server_s: float
    elsewhere_s: float


class Drain(Scenario):
    name = "drain"
    figures = (
        PER_S,
        WORKER_US,
        SERVER_US,
        TRANSACTIONS,
        WAL_BYTES,
        Figure("requests", "requests", 3),
        Figure("elsewhere", "processors elsewhere", 2),
    )

    def __init__(self, event_count: int, receiver: Callable[[Path], Receiver] = Nginx) -> None:
        self.title = f"drain of {event_count:,} waiting events, one worker process (figures per delivery)"
        self._events = events(event_count)
        self._receiver = receiver

    def measure(self, world: World, contender: Contender) -> dict[str, float]:
        with world.stage(self._receiver) as stage:
            contender.install(stage.place)
            before = Counters.read(world.session, stage.dbname)
            contender.fill(stage.place, self._events)
            captured_wal_bytes = Counters.read(world.session, stage.dbname).wal_bytes - before.wal_bytes
            world.settle(stage.place.database_url)
            figures = self._measure(world, contender, stage.place, stage.receiver, stage.dbname)
            figures["wal_bytes"] += captured_wal_bytes / len(self._events)
            return figures

    def _measure(
        self, world: World, contender: Contender, place: Place, receiver: Receiver, dbname: str
    ) -> dict[str, float]:
        world.wait_until_left(dbname)
        before = Counters.read(world.session, dbname)
        with Worker(contender, place) as worker:
            first, last = self._follow(world, worker, receiver)
            asked_count = _wait_until_done(contender, place, worker)
            end = _read(world, worker, receiver)
            wal_bytes = Counters.read(world.session, dbname).wal_bytes - before.wal_bytes
        world.wait_until_left(dbname)
        transactions = Counters.read(world.session, dbname).transactions - before.transactions - asked_count
        count, all_count = end.count - first.count, len(self._events)
        return {
            "per_s": (last.count - first.count) / (last.at_s - first.at_s),
            "worker_us": (end.worker_s - first.worker_s) / count * 1e6,
            "server_us": (end.server_s - first.server_s) / count * 1e6,
            "transactions": transactions / all_count,
            "wal_bytes": wal_bytes / all_count,
            "requests": end.count / all_count,
            "elsewhere": (end.elsewhere_s - first.elsewhere_s) / (end.at_s - first.at_s),
        }

    def _follow(self, world: World, worker: Worker, receiver: Receiver) -> tuple[Reading, Reading]:
        """Watch the requests come; return what was read at the first and at the last of them."""
        give_up_at = time.monotonic() + FIRST_S_MAX
        first = None
        while True:
            count = receiver.request_count()
            now_s = time.monotonic()
            if first is None and count:
                first = _read(world, worker, receiver)
                give_up_at = now_s + len(self._events) / RATE_MIN
            if count >= len(self._events) and first is not None:
                return first, Reading(now_s, count, 0.0, 0.0, 0.0)
            if now_s > give_up_at:
                raise RuntimeError(f"gave up after {count} of {len(self._events)} requests")
            worker.check()
            time.sleep(LOOK_EVERY_S)

    def goals(self, medians: Medians, ratios: Medians) -> Iterator[Goal]:
        yield from beside_best(medians, PER_S, "deliveries per second: ahead of the best peer")
        yield from beside_best(
            medians, PER_S, f"{PYTHON_RATIO_MIN:g} × the best peer in Python", times=PYTHON_RATIO_MIN, among=IN_PYTHON
        )
        yield from beside_best(medians, WORKER_US, "worker's processor time per delivery, µs: at most the best peer's")
        yield from beside_best(medians, SERVER_US, "PostgreSQL's processor time per delivery, µs: the same")
        yield from at_most(
            medians, TRANSACTIONS, f"transactions per delivery: at most {TRANSACTIONS_MAX:g}", TRANSACTIONS_MAX
        )
        yield from at_most(
            medians, WAL_BYTES, f"WAL bytes per event captured and delivered: at most {WAL_BYTES_MAX:,}", WAL_BYTES_MAX
        )


def _read(world: World, worker: Worker, receiver: Receiver) -> Reading:
    server_s, worker_s = world.server_s(), worker.processor_s()
    elsewhere_s = machine_s() - worker_s - server_s - receiver.processor_s() - time.process_time()
    return Reading(time.monotonic(), receiver.request_count(), worker_s, server_s, elsewhere_s)


def _wait_until_done(contender: Contender, place: Place, worker: Worker) -> int:
    """Wait until all is written down as delivered; return in how many transactions that was asked."""
    give_up_at = time.monotonic() + FIRST_S_MAX
    with psycopg.connect(place.database_url, autocommit=True) as session:
        for asked_count in range(1, 1_000_000):
            if contender.is_done(session):
                return asked_count
            if time.monotonic() > give_up_at:
                break
            worker.check()
            time.sleep(LOOK_EVERY_S)
    raise RuntimeError("everything was sent, and not everything written down")
