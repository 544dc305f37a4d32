"""Many events wait; one worker process delivers them all to nginx.

Counted between the first request and the last: deliveries per second, and, to when the last is written down, processor
time of worker and server. Transactions and write-ahead log are those of the whole life of the worker process.
"Processors elsewhere" is how many were busy with something else on this machine: near 0, or the figures tell little.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.benchmarks.contenders import OURS, Contender, Place
from tests.benchmarks.events import events
from tests.benchmarks.meters import Counters, machine_s
from tests.benchmarks.receivers import Nginx, Receiver
from tests.benchmarks.scenarios import Figure, Goal, Medians, Scenario
from tests.benchmarks.world import Worker, World

LOOK_EVERY_S = 0.01
FIRST_S_MAX = 60.0
RATE_MIN = 25.0  # deliveries per second, below which a run is given up
PROCESSOR_US_MAX = 100.0
TRANSACTIONS_MAX = 0.1
RATIO_MIN = 2.0


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
        Figure("per_s", "deliveries per s", more_is_better=True),
        Figure("worker_us", "worker µs", 1),
        Figure("server_us", "PostgreSQL µs", 1),
        Figure("transactions", "transactions", 3),
        Figure("wal_bytes", "WAL bytes"),
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
            contender.fill(stage.place, self._events)
            world.settle(stage.place.database_url)
            return self._measure(world, contender, stage.place, stage.receiver, stage.dbname)

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
        if OURS not in medians:
            return
        ours = medians[OURS]
        if "pgqueuer" in ratios:
            ratio = ratios["pgqueuer"]["per_s"]
            yield Goal(f"at least {RATIO_MIN:g} × pgqueuer's deliveries per s", f"{ratio:.2f} ×", ratio >= RATIO_MIN)
        yield Goal(
            f"at most {PROCESSOR_US_MAX:g} µs of the worker's processor time per delivery",
            f"{ours['worker_us']:.1f} µs",
            ours["worker_us"] <= PROCESSOR_US_MAX,
        )
        yield Goal(
            f"at most {TRANSACTIONS_MAX:g} transactions per delivery",
            f"{ours['transactions']:.3f}",
            ours["transactions"] <= TRANSACTIONS_MAX,
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
