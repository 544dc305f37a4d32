"""All scenarios, in the order in which they run and are told of."""

from __future__ import annotations

from dataclasses import dataclass

from tests.benchmarks.host import Amount
from tests.benchmarks.scenarios import Scenario
from tests.benchmarks.scenarios.drain import Drain
from tests.benchmarks.scenarios.host_inserts import HostInserts
from tests.benchmarks.scenarios.latency import Latency

NAMES = (Drain.name, Latency.name, HostInserts.name)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    events: int = 20_000  # that wait in the drain
    commits: int = 200  # that the latency is taken from
    seconds: int = 5  # of each run that is not over by itself
    long: bool = False  # whether to take the sizes that take minutes for each contender


def scenarios(sizes: Sizes) -> list[Scenario]:
    """Return every scenario of NAMES."""
    return [Drain(sizes.events), Latency(sizes.commits), HostInserts(Amount(sizes.seconds))]
