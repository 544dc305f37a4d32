"""An idle worker; single commits at random gaps; from each commit to the arrival of its request."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from random import Random
from statistics import median, quantiles

import psycopg

from tests.benchmarks.contenders import Contender
from tests.benchmarks.events import Event, events
from tests.benchmarks.receivers import Stamper
from tests.benchmarks.scenarios import Figure, Goal, Medians, Scenario, beside_best
from tests.benchmarks.world import Worker, World, wait_for

GAP_S = (0.03, 0.15)
WARM_UP = 10
ARRIVAL_S_MAX = 60.0

P50 = Figure("p50_ms", "p50 ms", 2)
P99 = Figure("p99_ms", "p99 ms", 2)


class Latency(Scenario):
    name = "latency"
    figures = (
        P50,
        P99,
        Figure("p50_with_commit_ms", "p50 with the commit", 2),
        Figure("p99_with_commit_ms", "p99 with the commit", 2),
    )

    def __init__(self, commit_count: int) -> None:
        self.title = f"idle worker, {commit_count} single commits at random gaps: commit answered → request received"
        self._events = events(commit_count, first=WARM_UP + 1)
        self._warm_up = events(WARM_UP)

    def measure(self, world: World, contender: Contender) -> dict[str, float]:
        with world.stage(Stamper) as stage:
            place, receiver = stage.place, stage.receiver
            contender.install(place)
            world.settle(place.database_url)
            with Worker(contender, place) as worker, psycopg.connect(place.database_url, autocommit=True) as host:
                self._warm(contender, host, receiver, worker)
                commits = self._write(contender, host)
                wait_for(receiver, len(self._warm_up) + len(commits), worker, ARRIVAL_S_MAX)
            arrivals_ns = receiver.arrivals_ns()
        return _figures([(begun, ended, arrivals_ns[number]) for number, (begun, ended) in commits.items()])

    def _warm(self, contender: Contender, host: psycopg.Connection, receiver: Stamper, worker: Worker) -> None:
        """Wait until the worker listens: the first delivery may take as long as a start takes."""
        for number, event in enumerate(self._warm_up, 1):
            _commit(contender, host, event)
            wait_for(receiver, number, worker, ARRIVAL_S_MAX)
        time.sleep(0.5)

    def _write(self, contender: Contender, host: psycopg.Connection) -> dict[int, tuple[int, int]]:
        """Commit event after event; return when each commit was begun and answered."""
        gaps = Random(1)  # noqa: S311  # the same for everybody
        commits = {}
        for event in self._events:
            commits[event.number] = _commit(contender, host, event)
            time.sleep(gaps.uniform(*GAP_S))
        return commits

    def goals(self, medians: Medians, ratios: Medians) -> Iterator[Goal]:
        yield from beside_best(medians, P50, "commit to request, idle worker, median in ms: below every peer's")
        yield from beside_best(medians, P99, "the same, 99th percentile")


def _commit(contender: Contender, host: psycopg.Connection, event: Event) -> tuple[int, int]:
    host.execute("begin")
    host.execute(contender.record, contender.record_parameters(event))  # type: ignore[arg-type]  # a constant
    begun_ns = time.monotonic_ns()
    host.execute("commit")
    return begun_ns, time.monotonic_ns()


def _figures(stamps: Sequence[tuple[int, int, int]]) -> dict[str, float]:
    after_ms = [(arrived - ended) / 1e6 for _, ended, arrived in stamps]
    with_commit_ms = [(arrived - begun) / 1e6 for begun, _, arrived in stamps]
    return {
        "p50_ms": median(after_ms),
        "p99_ms": quantiles(after_ms, n=100)[98],
        "p50_with_commit_ms": median(with_commit_ms),
        "p99_with_commit_ms": quantiles(with_commit_ms, n=100)[98],
    }
