"""The host's own latency, without the worker and while the worker drains a backlog on the same machine.

pgbench inserts single rows at a fixed rate with 8 clients; the figure includes what a row waited for its turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import quantiles

from tests.benchmarks import host
from tests.benchmarks.contenders import Contender, Place
from tests.benchmarks.events import events
from tests.benchmarks.receivers import Receiver, fast
from tests.benchmarks.scenarios import Figure, Goal, Medians, Scenario, at_most, beside_best
from tests.benchmarks.world import Worker, World, wait_for

RATE = 500.0
CLIENTS = 8
FIRST_S_MAX = 60.0
TIMES = Figure("times", "p99 times as long", 2)
TIMES_MAX = 1.25


class HostLatency(Scenario):
    name = "host latency"
    figures = (
        Figure("p50_ms", "without the worker: p50 ms", 2),
        Figure("p99_ms", "p99 ms", 2),
        Figure("p50_beside_ms", "while it drains: p50 ms", 2),
        Figure("p99_beside_ms", "p99 ms", 2),
        TIMES,
        Figure("delivered_per_s", "deliveries per s meanwhile"),
    )

    def __init__(self, amount: host.Amount, backlog: int, receiver: Callable[[Path], Receiver] = fast) -> None:
        self.title = f"the host's inserts at {RATE:g} per s, {amount.seconds} s, beside a backlog of {backlog:,}"
        self._amount = amount
        self._backlog = events(backlog)
        self._receiver = receiver

    def measure(self, world: World, contender: Contender) -> dict[str, float]:
        with world.stage(self._receiver) as stage:
            place = stage.place
            contender.install(place)
            host.install(place.database_url, contender.trigger())
            contender.fill(place, self._backlog)
            world.settle(place.database_url)
            without = self._insert(place)
            with Worker(contender, place) as worker:
                wait_for(stage.receiver, 1, worker, FIRST_S_MAX)
                before_s, before_count = time.monotonic(), stage.receiver.request_count()
                beside = self._insert(place)
                delivered = stage.receiver.request_count() - before_count
                took_s = time.monotonic() - before_s
        return {
            "p50_ms": without[49],
            "p99_ms": without[98],
            "p50_beside_ms": beside[49],
            "p99_beside_ms": beside[98],
            "times": beside[98] / without[98],
            "delivered_per_s": delivered / took_s,
        }

    def _insert(self, place: Place) -> Sequence[float]:
        """Return the percentiles of one load."""
        load = host.insert(
            place.database_url, place.directory, clients=CLIENTS, amount=self._amount, per_s=RATE, log=True
        )
        return quantiles(load.latencies_ms, n=100)

    def goals(self, medians: Medians, ratios: Medians) -> Iterator[Goal]:
        text = f"host's 99th percentile while the worker drains, times without: at most {TIMES_MAX:g}"
        yield from at_most(medians, TIMES, text, TIMES_MAX)
        yield from beside_best(medians, TIMES, "the same: at most the best peer's")
