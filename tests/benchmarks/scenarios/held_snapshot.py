"""A report holds a snapshot open for the whole run, while 500 events per second are recorded and delivered.

What is dead cannot be removed meanwhile: rate and latency of the last part are held against those of the first.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from statistics import median, quantiles

import psycopg

from tests.benchmarks.contenders import Contender
from tests.benchmarks.events import Event, events
from tests.benchmarks.receivers import Stamper
from tests.benchmarks.scenarios import Figure, Goal, Medians, Scenario, at_least, at_most, beside_best
from tests.benchmarks.world import Worker, World, record, wait_for

RATE = 500
WARM_UP_S = 3.0
ARRIVAL_S_MAX = 120.0
RATE_KEPT = Figure("rate_kept", "rate, last / first", 2, more_is_better=True)
P50_GROWN = Figure("p50_grown", "p50, last / first", 2)
P50_LAST = Figure("p50_last_ms", "p50 last, ms", 2)
CHANGE_MAX = 0.1


class HeldSnapshot(Scenario):
    name = "held snapshot"
    figures = (
        Figure("first_per_s", "first part, per s", more_is_better=True),
        RATE_KEPT,
        Figure("p50_first_ms", "p50 first, ms", 2),
        P50_LAST,
        P50_GROWN,
        Figure("p99_first_ms", "p99 first, ms", 2),
        Figure("p99_last_ms", "p99 last, ms", 2),
    )

    def __init__(self, seconds: int, warm_up_s: float = WARM_UP_S) -> None:
        self._part_s = min(60.0, seconds / 6)
        self.title = f"{RATE} events per s for {seconds} s under a held snapshot; first and last {self._part_s:g} s"
        self._warm_up_s = warm_up_s
        self._events = events(round(RATE * (warm_up_s + seconds)))

    def measure(self, world: World, contender: Contender) -> dict[str, float]:
        with world.stage(Stamper) as stage:
            contender.install(stage.place)
            world.settle(stage.place.database_url)
            with Worker(contender, stage.place) as worker, _held(stage.place.database_url):
                record(contender, stage.place.database_url, events(1, first=0))
                wait_for(stage.receiver, 1, worker, ARRIVAL_S_MAX)
                commits_ns = self._write(contender, stage.place.database_url, worker)
                wait_for(stage.receiver, len(self._events) + 1, worker, ARRIVAL_S_MAX)
            return self._figures(commits_ns, stage.receiver.arrivals_ns())

    def _write(self, contender: Contender, database_url: str, worker: Worker) -> dict[int, int]:
        """Commit one event after another, each at its time or as soon as it goes; return when each was committed."""
        commits_ns = {}
        with psycopg.connect(database_url, autocommit=True) as host:
            begun_s = time.monotonic()
            for event in self._events:
                time.sleep(max(0.0, begun_s + event.number / RATE - time.monotonic()))
                host.execute(contender.record, contender.record_parameters(event))  # type: ignore[arg-type]
                commits_ns[event.number] = time.monotonic_ns()
                if event.number % (RATE * 10) == 0:
                    worker.check()
        return commits_ns

    def _figures(self, commits_ns: Mapping[int, int], arrivals_ns: Mapping[int, int]) -> dict[str, float]:
        first_ns = commits_ns[1] + self._warm_up_s * 1e9
        last_ns = commits_ns[len(self._events)] - self._part_s * 1e9
        first_per_s, first_ms = self._part(self._events, commits_ns, arrivals_ns, first_ns)
        last_per_s, last_ms = self._part(self._events, commits_ns, arrivals_ns, last_ns)
        return {
            "first_per_s": first_per_s,
            "rate_kept": last_per_s / first_per_s,
            "p50_first_ms": median(first_ms),
            "p50_last_ms": median(last_ms),
            "p50_grown": median(last_ms) / median(first_ms),
            "p99_first_ms": quantiles(first_ms, n=100)[98],
            "p99_last_ms": quantiles(last_ms, n=100)[98],
        }

    def _part(
        self, all_events: list[Event], commits_ns: Mapping[int, int], arrivals_ns: Mapping[int, int], from_ns: float
    ) -> tuple[float, list[float]]:
        """Return how many requests came per second in one part, and how long each event of it took."""
        to_ns = from_ns + self._part_s * 1e9
        came_count = sum(from_ns <= arrived < to_ns for arrived in arrivals_ns.values())
        took_ms = [
            (arrivals_ns[it.number] - commits_ns[it.number]) / 1e6
            for it in all_events
            if from_ns <= commits_ns[it.number] < to_ns
        ]
        return came_count / self._part_s, took_ms

    def goals(self, medians: Medians, ratios: Medians) -> Iterator[Goal]:
        text = f"{self.title}: rate, last times first: at least {1 - CHANGE_MAX:g}"
        yield from at_least(medians, RATE_KEPT, text, 1 - CHANGE_MAX)
        text = f"the same: median latency, last times first: at most {1 + CHANGE_MAX:g}"
        yield from at_most(medians, P50_GROWN, text, 1 + CHANGE_MAX)
        yield from beside_best(medians, P50_LAST, "the same: median latency at the end, ms: at most the best peer's")


@contextmanager
def _held(database_url: str) -> Iterator[None]:
    """Hold a snapshot, as a long report does."""
    with psycopg.connect(database_url) as session:
        session.execute("begin transaction isolation level repeatable read")
        session.execute("select count(*) from pg_class")
        yield
        session.rollback()
