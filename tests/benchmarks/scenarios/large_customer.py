"""One customer with very many waiting events among 2,000 others with a few each, all of them recorded later.

The receiver takes 20 ms. Once the others are drained alone, once with the one before them: they should hardly notice,
and when they are done the one should go as fast as the receiver takes one request after another. A contender that is
through with the one before that has its rate beside the others.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator, Sequence

from tests.benchmarks.contenders import Contender
from tests.benchmarks.events import CUSTOMERS, Event, events
from tests.benchmarks.receivers import SlowStamper
from tests.benchmarks.scenarios import Figure, Goal, Medians, Scenario, at_least, beside_best
from tests.benchmarks.world import Worker, World

ONE = CUSTOMERS + 1
FIRST_S_MAX = 60.0
RATE_MIN = 100.0  # deliveries per second, below which a run is given up
PROBES = 50
AFTER_S = 3.0
KEPT = Figure("kept", "others, with it / alone", 2, more_is_better=True)
SPEED = Figure("speed", "the one, of the receiver's speed", 2, more_is_better=True)
KEPT_MIN = 0.9
SPEED_MIN = 0.9


class LargeCustomer(Scenario):
    name = "large customer"
    figures = (
        Figure("alone_per_s", "others alone, per s", more_is_better=True),
        Figure("beside_per_s", "beside the one", more_is_better=True),
        KEPT,
        Figure("one_beside_per_s", "the one beside them", more_is_better=True),
        Figure("one_per_s", "the one after them", more_is_better=True),
        SPEED,
    )

    def __init__(self, one_count: int, other_count: int, after_s: float = AFTER_S) -> None:
        self.title = f"one customer with {one_count:,} waiting, {other_count:,} of {CUSTOMERS:,} others behind them"
        self._after_s = after_s
        self._others = events(other_count)
        self._one = [Event(number, ONE) for number in range(other_count + 1, other_count + one_count + 1)]

    def measure(self, world: World, contender: Contender) -> dict[str, float]:
        alone_per_s, _, _, _ = self._drain(world, contender, [])
        beside_per_s, one_beside_per_s, one_per_s, receiver_per_s = self._drain(world, contender, self._one)
        return {
            "alone_per_s": alone_per_s,
            "beside_per_s": beside_per_s,
            "kept": beside_per_s / alone_per_s,
            "one_beside_per_s": one_beside_per_s,
            "one_per_s": one_per_s,
            "speed": one_per_s / receiver_per_s,
        }

    def _drain(self, world: World, contender: Contender, one: Sequence[Event]) -> tuple[float, float, float, float]:
        """Return the rates of the others and of the one until the last of the others has come, of the one after that,
        and the receiver's."""
        with world.stage(SlowStamper) as stage:
            contender.install(stage.place)
            contender.fill(stage.place, [*one, *self._others])
            world.settle(stage.place.database_url)
            receiver_per_s = _one_after_another(stage.receiver)
            with Worker(contender, stage.place) as worker:
                arrivals_ns = self._follow(stage.receiver, worker, len(one))
        begun_ns = min(arrivals_ns.values())
        ended_ns = max(arrivals_ns[event.number] for event in self._others)
        took_s = (ended_ns - begun_ns) / 1e9
        ones_ns = [arrivals_ns[event.number] for event in one if event.number in arrivals_ns]
        one_per_s = sum(came_ns <= ended_ns for came_ns in ones_ns) / took_s
        after = [came_ns for came_ns in ones_ns if came_ns > ended_ns]
        after_per_s = (len(after) - 1) / ((after[-1] - after[0]) / 1e9) if len(after) > 1 else one_per_s
        return len(self._others) / took_s, one_per_s, after_per_s, receiver_per_s

    def _follow(self, receiver: SlowStamper, worker: Worker, one_count: int) -> dict[int, int]:
        """Wait until all of the others have come, and a while for the one; return all arrivals."""
        give_up_at = time.monotonic() + FIRST_S_MAX + (len(self._others) + one_count) / RATE_MIN
        while time.monotonic() < give_up_at:
            worker.check()
            time.sleep(0.2)
            if receiver.request_count() >= len(self._others):
                arrivals_ns = receiver.arrivals_ns()
                if all(event.number in arrivals_ns for event in self._others):
                    time.sleep(self._after_s if one_count else 0)
                    return receiver.arrivals_ns()
        raise RuntimeError(f"gave up after {receiver.request_count()} requests")

    def goals(self, medians: Medians, ratios: Medians) -> Iterator[Goal]:
        text = f"the others beside one customer with {len(self._one):,} waiting: at least {KEPT_MIN:g} × without"
        yield from at_least(medians, KEPT, text, KEPT_MIN)
        yield from beside_best(medians, KEPT, "the same: at least the best peer's")
        yield from at_least(
            medians, SPEED, f"the one, when they are done: {SPEED_MIN:g} × the receiver's speed", SPEED_MIN
        )


def _one_after_another(receiver: SlowStamper) -> float:
    """Return how many requests per second the receiver takes from one who waits for each answer."""
    client = http.client.HTTPConnection("127.0.0.1", receiver.port)
    begun_s = time.monotonic()
    for _ in range(PROBES):
        client.request("POST", "/", body=b"probe")
        client.getresponse().read()
    took_s = time.monotonic() - begun_s
    client.close()
    return PROBES / took_s
