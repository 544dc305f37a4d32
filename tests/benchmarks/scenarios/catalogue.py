"""All scenarios, in the order in which they run and are told of."""

from __future__ import annotations

from dataclasses import dataclass

from tests.benchmarks.host import Amount
from tests.benchmarks.scenarios import Scenario
from tests.benchmarks.scenarios.bulk_load import BulkLoad
from tests.benchmarks.scenarios.customer_sync import CustomerSync
from tests.benchmarks.scenarios.drain import Drain
from tests.benchmarks.scenarios.held_snapshot import HeldSnapshot
from tests.benchmarks.scenarios.host_inserts import HostInserts
from tests.benchmarks.scenarios.host_latency import HostLatency
from tests.benchmarks.scenarios.identify import Identify
from tests.benchmarks.scenarios.idle import Idle
from tests.benchmarks.scenarios.large_backlog import LargeBacklog
from tests.benchmarks.scenarios.large_customer import LargeCustomer
from tests.benchmarks.scenarios.latency import Latency
from tests.benchmarks.scenarios.loaded_latency import LoadedLatency
from tests.benchmarks.scenarios.workers import Workers

KINDS = (
    Drain,
    Latency,
    LoadedLatency,
    HostInserts,
    HostLatency,
    LargeBacklog,
    HeldSnapshot,
    LargeCustomer,
    Idle,
    Workers,
    BulkLoad,
    Identify,
    CustomerSync,
)
NAMES = tuple(kind.name for kind in KINDS)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    events: int = 20_000  # that wait in the drain
    commits: int = 200  # that the latency is taken from
    seconds: int = 5  # of each load by pgbench
    long: bool = False  # whether to take the sizes that take minutes for each contender
    clients: int = 100_000  # of InBoost, in the sync of customers


def scenarios(sizes: Sizes) -> list[Scenario]:
    """Return one of each of KINDS."""
    amount = Amount(sizes.seconds)
    return [
        Drain(sizes.events),
        Latency(sizes.commits),
        LoadedLatency(amount),
        HostInserts(amount),
        HostLatency(amount, 60_000),
        LargeBacklog(1_000_000 if sizes.long else 100_000),
        HeldSnapshot(1200 if sizes.long else 60),
        LargeCustomer(20_000, 10_000),
        Idle(60),
        Workers(20_000),
        BulkLoad(100_000),
        Identify(sizes.seconds),
        CustomerSync(1_000_000 if sizes.long else sizes.clients),
    ]
