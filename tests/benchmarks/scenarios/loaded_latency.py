"""Latency under load: at half of each one's peak, and at one load that is the same for all.

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
ARRIVAL_S_MAX = 60.0
SKIPPED = 0.2  # of the arrivals, the first ones: the load has just begun
SAME_LOAD = 250.0  # per second: about half of the slowest one's peak where this was chosen
P50, P99 = Figure("p50_ms", "p50 ms", 2), Figure("p99_ms", "p99 ms", 2)
SAME_P50 = Figure("same_p50_ms", f"at {SAME_LOAD:g} per s: p50 ms", 2)
SAME_P99 = Figure("same_p99_ms", "p99 ms", 2)


class LoadedLatency(Scenario):
    name = "loaded latency"
    figures = (
        Figure("peak_per_s", "peak, per s", more_is_better=True),
        Figure("per_s", "half of it, per s"),
        P50,
        P99,
        SAME_P50,
        SAME_P99,
    )

    def __init__(self, amount: host.Amount) -> None:
        self.title = f"latency under load for {amount.seconds} s: insert begun → request received"
        self._amount = amount

    def measure(self, world: World, contender: Contender) -> dict[str, float]:
        with world.stage(Stamper) as stage, self._worker(world, contender, stage):
            begun_s, begun_count = time.monotonic(), stage.receiver.request_count()
            host.insert(stage.place.database_url, stage.place.directory, clients=CLIENTS, amount=self._amount)
            peak = (stage.receiver.request_count() - begun_count) / (time.monotonic() - begun_s)
        half = max(peak / 2, 1.0)
        p50_ms, p99_ms = self._at(world, contender, half)
        same_p50_ms, same_p99_ms = self._at(world, contender, SAME_LOAD)
        return {
            "peak_per_s": peak,
            "per_s": half,
            "p50_ms": p50_ms,
            "p99_ms": p99_ms,
            "same_p50_ms": same_p50_ms,
            "same_p99_ms": same_p99_ms,
        }

    def _at(self, world: World, contender: Contender, per_s: float) -> tuple[float, float]:
        """Return median and 99th percentile at one load."""
        with world.stage(Stamper) as stage, self._worker(world, contender, stage) as worker:
            place, before = stage.place, stage.receiver.request_count()
            load = host.insert(place.database_url, place.directory, clients=CLIENTS, amount=self._amount, per_s=per_s)
            wait_for(stage.receiver, before + load.count, worker, ARRIVAL_S_MAX)
            ages_ms = [it.age_ms for it in stage.receiver.ages()[before:]]
        percentiles = quantiles(ages_ms[int(len(ages_ms) * SKIPPED) :], n=100)
        return percentiles[49], percentiles[98]

    def _worker(self, world: World, contender: Contender, stage: Stage[Stamper]) -> Worker:
        """Set the stage; return the worker to be."""
        contender.install(stage.place)
        host.install(stage.place.database_url, contender.trigger())
        world.settle(stage.place.database_url)
        return _Ready(contender, stage)

    def goals(self, medians: Medians, ratios: Medians) -> Iterator[Goal]:
        text = "insert to request at half of the own peak load, median in ms: below every peer's"
        yield from beside_best(medians, P50, text)
        yield from beside_best(medians, P99, "the same, 99th percentile")
        yield from beside_best(medians, SAME_P50, f"insert to request at {SAME_LOAD:g} per s, median in ms: the same")
        yield from beside_best(medians, SAME_P99, "the same, 99th percentile")


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
