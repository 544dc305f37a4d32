"""Latency at half of the peak: the host inserts at half the rate at which insert, capture and delivery go at most.

The peak is each contender's own: what its worker delivers while 8 clients insert as fast as they can. Measured is from
the insert, its commit included, to the arrival of the request.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import quantiles

from tests.benchmarks import host
from tests.benchmarks.contenders import Contender
from tests.benchmarks.receivers import Stamper
from tests.benchmarks.scenarios import Figure, Goal, Medians, Scenario, beside_best
from tests.benchmarks.world import Stage, Worker, World, wait_for

CLIENTS = 8
WARM_UP_S = 2.0
ARRIVAL_S_MAX = 60.0
SKIPPED = 0.2  # of the arrivals, the first ones: the load has just begun
P50 = Figure("p50_ms", "p50 ms", 2)
P99 = Figure("p99_ms", "p99 ms", 2)


class LoadedLatency(Scenario):
    name = "loaded latency"
    figures = (Figure("peak_per_s", "peak, per s", more_is_better=True), Figure("per_s", "load, per s"), P50, P99)

    def __init__(self, amount: host.Amount) -> None:
        self.title = f"at half of each one's peak load for {amount.seconds} s: insert begun → request received"
        self._amount = amount

    def measure(self, world: World, contender: Contender) -> dict[str, float]:
        with world.stage(Stamper) as stage, self._worker(world, contender, stage) as worker:
            begun_s, begun_count = time.monotonic(), stage.receiver.request_count()
            host.insert(stage.place.database_url, stage.place.directory, clients=CLIENTS, amount=self._amount)
            peak = (stage.receiver.request_count() - begun_count) / (time.monotonic() - begun_s)
        with world.stage(Stamper) as stage, self._worker(world, contender, stage) as worker:
            place, before = stage.place, stage.receiver.request_count()
            load = host.insert(
                place.database_url, place.directory, clients=CLIENTS, amount=self._amount, per_s=max(peak / 2, 1.0)
            )
            wait_for(stage.receiver, before + load.count, worker, ARRIVAL_S_MAX)
            ages_ms = stage.receiver.ages_ms()
        percentiles = quantiles(ages_ms[int(len(ages_ms) * SKIPPED) :], n=100)
        return {"peak_per_s": peak, "per_s": load.per_s, "p50_ms": percentiles[49], "p99_ms": percentiles[98]}

    def _worker(self, world: World, contender: Contender, stage: Stage[Stamper]) -> Worker:
        """Set the stage; return the worker to be."""
        contender.install(stage.place)
        host.install(stage.place.database_url, contender.trigger())
        world.settle(stage.place.database_url)
        return _Ready(contender, stage)

    def goals(self, medians: Medians, ratios: Medians) -> Iterator[Goal]:
        text = "insert to request at half of the peak load, median in ms: below every peer's"
        yield from beside_best(medians, P50, text)
        yield from beside_best(medians, P99, "the same, 99th percentile")


class _Ready(Worker):
    """A worker that has delivered something before it is measured."""

    def __init__(self, contender: Contender, stage: Stage[Stamper]) -> None:
        super().__init__(contender, stage.place)
        self._stage = stage

    def __enter__(self) -> _Ready:
        super().__enter__()
        host.insert(self._stage.place.database_url, self._stage.place.directory, clients=1, amount=host.Amount(each=20))
        wait_for(self._stage.receiver, 20, self, ARRIVAL_S_MAX)
        return self
