"""A large backlog: whether the rate stays and the worker's memory too, from the first tenth of it to the last."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks.contenders import Contender
from tests.benchmarks.events import events
from tests.benchmarks.receivers import Receiver, fast
from tests.benchmarks.scenarios import Figure, Goal, Medians, Scenario, at_least, at_most
from tests.benchmarks.world import Worker, World, wait_for

CHUNK = 50_000
FIRST_S_MAX = 120.0
RATE_MIN = 100.0  # deliveries per second, below which a run is given up
KEPT = Figure("kept", "last tenth / first", 2, more_is_better=True)
GROWN = Figure("grown", "memory, end / first tenth", 2)
KEPT_MIN = 0.9
GROWN_MAX = 1.05


class LargeBacklog(Scenario):
    name = "large backlog"
    figures = (
        Figure("first_per_s", "first tenth, per s", more_is_better=True),
        Figure("last_per_s", "last tenth, per s", more_is_better=True),
        KEPT,
        Figure("memory_mib", "memory at the end, MiB", 1),
        GROWN,
    )

    def __init__(self, event_count: int, receiver: Callable[[Path], Receiver] = fast) -> None:
        self.title = f"{event_count:,} waiting events, one worker process"
        self._count = event_count
        self._receiver = receiver

    def measure(self, world: World, contender: Contender) -> dict[str, float]:
        with world.stage(self._receiver) as stage:
            contender.install(stage.place)
            for first in range(1, self._count + 1, CHUNK):
                contender.fill(stage.place, events(min(CHUNK, self._count + 1 - first), first))
            world.settle(stage.place.database_url)
            with Worker(contender, stage.place) as worker:
                return self._follow(stage.receiver, worker)

    def _follow(self, receiver: Receiver, worker: Worker) -> dict[str, float]:
        wait_for(receiver, 1, worker, FIRST_S_MAX)
        begun = _mark(receiver)
        tenth = self._reach(receiver, worker, self._count // 10)
        memory_of_tenth = worker.memory_bytes()
        nine = self._reach(receiver, worker, self._count - self._count // 10)
        memory_at_end = worker.memory_bytes()
        end = self._reach(receiver, worker, self._count)
        first_per_s, last_per_s = _rate(begun, tenth), _rate(nine, end)
        return {
            "first_per_s": first_per_s,
            "last_per_s": last_per_s,
            "kept": last_per_s / first_per_s,
            "memory_mib": memory_at_end / 2**20,
            "grown": memory_at_end / memory_of_tenth,
        }

    def _reach(self, receiver: Receiver, worker: Worker, count: int) -> tuple[float, int]:
        wait_for(receiver, count, worker, self._count / RATE_MIN)
        return _mark(receiver)

    def goals(self, medians: Medians, ratios: Medians) -> Iterator[Goal]:
        title = f"{self.title}: rate of the last tenth, times the first: at least {KEPT_MIN:g}"
        yield from at_least(medians, KEPT, title, KEPT_MIN)
        yield from at_most(medians, GROWN, "the same: memory at the end, times that of the first tenth", GROWN_MAX)


def _mark(receiver: Receiver) -> tuple[float, int]:
    return time.monotonic(), receiver.request_count()


def _rate(begun: tuple[float, int], ended: tuple[float, int]) -> float:
    return (ended[1] - begun[1]) / (ended[0] - begun[0])
