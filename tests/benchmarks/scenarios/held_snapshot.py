"""A report holds a snapshot open for the whole run, while 500 events per second are captured and delivered.

What is dead cannot be removed meanwhile: rate and latency of the last part are held against those of the first. The
latency is from the insert, its commit included, to the arrival of the request.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median, quantiles

import psycopg

from tests.benchmarks import host
from tests.benchmarks.contenders import Contender
from tests.benchmarks.events import events
from tests.benchmarks.receivers import Age, Stamper
from tests.benchmarks.scenarios import Figure, Goal, Medians, Scenario, at_least, at_most, beside_best
from tests.benchmarks.world import Worker, World, record, wait_for

RATE = 500
CLIENTS = 8
WARM_UP_S = 3
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

    def __init__(self, seconds: int, warm_up_s: int = WARM_UP_S) -> None:
        self._part_s = min(60.0, seconds / 6)
        self.title = f"{RATE} events per s for {seconds} s under a held snapshot; first and last {self._part_s:g} s"
        self._amount = host.Amount(warm_up_s + seconds)
        self._warm_up_s = warm_up_s

    def measure(self, world: World, contender: Contender) -> dict[str, float]:
        with world.stage(Stamper) as stage:
            place, receiver = stage.place, stage.receiver
            contender.install(place)
            host.install(place.database_url, contender.trigger())
            world.settle(place.database_url)
            with Worker(contender, place) as worker, _held(place.database_url):
                record(contender, place.database_url, events(1))
                wait_for(receiver, 1, worker, ARRIVAL_S_MAX)
                load = host.insert(
                    place.database_url, place.directory, clients=CLIENTS, amount=self._amount, per_s=RATE
                )
                wait_for(receiver, 1 + load.count, worker, ARRIVAL_S_MAX)
            return self._figures(receiver.ages())

    def _figures(self, ages: Sequence[Age]) -> dict[str, float]:
        begun_s = min(it.came_s - it.age_ms / 1000 for it in ages)
        first_s = begun_s + self._warm_up_s
        last_s = begun_s + self._amount.seconds - self._part_s
        first_ms, last_ms = self._part(ages, first_s), self._part(ages, last_s)
        return {
            "first_per_s": len(first_ms) / self._part_s,
            "rate_kept": len(last_ms) / len(first_ms),
            "p50_first_ms": median(first_ms),
            "p50_last_ms": median(last_ms),
            "p50_grown": median(last_ms) / median(first_ms),
            "p99_first_ms": quantiles(first_ms, n=100)[98],
            "p99_last_ms": quantiles(last_ms, n=100)[98],
        }

    def _part(self, ages: Sequence[Age], from_s: float) -> Sequence[float]:
        """Return how old each row was whose request came in one part. Raises RuntimeError if hardly any came."""
        found_ms = [it.age_ms for it in ages if from_s <= it.came_s < from_s + self._part_s]
        if len(found_ms) < 2:
            raise RuntimeError(f"{len(found_ms)} requests came in {self._part_s:g} s")
        return found_ms

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
