"""Several worker processes on one database, with a receiver that takes 20 ms: whether more of them deliver more.

Which is the limit stands beside the rate: how busy the receiver's one processor and all processors were. A request is
out of order when it comes before the one before it, of the same customer, has been answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from tests.benchmarks.contenders import OURS, SLOTS, Contender
from tests.benchmarks.contenders.outbox_worker import OutboxWorker
from tests.benchmarks.events import CUSTOMERS, events
from tests.benchmarks.meters import machine_s
from tests.benchmarks.receivers import SlowStamper
from tests.benchmarks.scenarios import Figure, Goal, Medians, Scenario
from tests.benchmarks.world import Worker, World, wait_for

COUNTS = (1, 2, 4, 8)
FIRST_S_MAX = 60.0
RATE_MIN = 100.0  # deliveries per second, below which a run is given up
EARLY_NS = 2_000_000  # the receiver's timer counts milliseconds
SCALES_MIN = 1.6  # times as many per second with twice as many workers, where nothing else is the limit
SLOWER_MIN = 0.9  # where something else is: the receiver or the processors
RECEIVER_BUSY = 0.8
PROCESSORS_BUSY = 0.9


@dataclass(frozen=True, slots=True)
class Fleet:
    """Some worker processes of one contender."""

    contender: Contender
    count: int

    @property
    def name(self) -> str:
        return f"{self.contender.name} × {self.count}"


class Workers(Scenario):
    name = "workers"
    figures = (
        Figure("per_s", "deliveries per s", more_is_better=True),
        Figure("receiver_busy", "receiver's processor", 2),
        Figure("processors_busy", "all processors", 2),
        Figure("out_of_order", "out of order"),
        Figure("requests", "requests each", 3),
    )

    def __init__(self, event_count: int, counts: Sequence[int] = COUNTS) -> None:
        self.title = (
            f"several worker processes, {event_count:,} waiting events, a receiver that takes {SlowStamper.delay_ms} ms"
            f" ({SLOTS} in flight each: at most {SLOTS * 1000 // SlowStamper.delay_ms:,} per s and worker)"
        )
        self._count = event_count
        self._counts = counts

    def lineup(self, contenders: Sequence[Contender]) -> Iterator[Fleet]:
        for contender in contenders:
            counts = self._counts if isinstance(contender, OutboxWorker) else (self._counts[0], self._counts[-1])
            yield from (Fleet(contender, count) for count in counts)

    def measure(self, world: World, fleet: Fleet) -> dict[str, float]:
        with world.stage(SlowStamper) as stage, ExitStack() as stack:
            fleet.contender.install(stage.place)
            fleet.contender.fill(stage.place, events(self._count))
            world.settle(stage.place.database_url)
            for _ in range(fleet.count):
                place = stack.enter_context(world.place(stage.dbname, stage.receiver.url))
                worker = stack.enter_context(Worker(fleet.contender, place))
            wait_for(stage.receiver, 1, worker, FIRST_S_MAX)
            receiver_s, all_s = stage.receiver.processor_s(), machine_s()
            wait_for(stage.receiver, self._count, worker, self._count / RATE_MIN)
            receiver_s, all_s = stage.receiver.processor_s() - receiver_s, machine_s() - all_s
            arrivals_ns = stage.receiver.arrivals_ns()
            took_s = (max(arrivals_ns.values()) - min(arrivals_ns.values())) / 1e9
            return {
                "per_s": (len(arrivals_ns) - 1) / took_s,
                "receiver_busy": receiver_s / took_s,
                "processors_busy": all_s / took_s / world.processor_count,
                "out_of_order": out_of_order_count(arrivals_ns),
                "requests": stage.receiver.request_count() / self._count,
            }

    def goals(self, medians: Medians, ratios: Medians) -> Iterator[Goal]:
        ours = {count: medians[name] for count in self._counts if (name := f"{OURS} × {count}") in medians}
        for fewer, more in zip(ours, list(ours)[1:], strict=False):
            times = ours[more]["per_s"] / ours[fewer]["per_s"]
            limit = _limit(ours[more])
            yield Goal(
                f"{more} workers: {SCALES_MIN:g} × as fast as {fewer}, or at a limit and no slower",
                f"{ours[more]['per_s']:,.0f} per s, {times:.2f} ×{limit and f', {limit}'}",
                times >= (SLOWER_MIN if limit else SCALES_MIN),
            )
        if ours:
            count = sum(row["out_of_order"] for row in ours.values())
            yield Goal("no request out of order, however many workers", f"{count:.0f}", count == 0)


def _limit(row: dict[str, float]) -> str:
    if row["receiver_busy"] >= RECEIVER_BUSY:
        return "the receiver's processor is busy"
    return "all processors are busy" if row["processors_busy"] >= PROCESSORS_BUSY else ""


def out_of_order_count(arrivals_ns: dict[int, int]) -> int:
    """Count the requests that came before the one before them, of the same customer, was answered."""
    least_ns = SlowStamper.delay_ms * 1_000_000 - EARLY_NS
    return sum(
        number - CUSTOMERS in arrivals_ns and arrived < arrivals_ns[number - CUSTOMERS] + least_ns
        for number, arrived in arrivals_ns.items()
    )
