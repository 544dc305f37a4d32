"""What the metrics tell, where that is made by ourselves."""

from __future__ import annotations

from random import Random

from prometheus_client import REGISTRY, CollectorRegistry, Histogram
from prometheus_client.exposition import generate_latest

from outbox_worker.metrics import LATENCY_S, Durations


def test_durations_tell_what_the_librarys_histogram_would_tell() -> None:
    chance, name = Random(7), "test_durations"  # noqa: S311
    ours, own = Durations(name, "A test.", LATENCY_S), CollectorRegistry()
    theirs = Histogram(name, "A test.", ["operation"], buckets=LATENCY_S, registry=own)
    try:
        for operation in ("a", "b"):
            ours.begin(operation)
            theirs.labels(operation)
        for seconds in [*LATENCY_S, 0.0, 1e6, *(chance.expovariate(2) for _ in range(1000))]:
            ours.observe("a", seconds)
            theirs.labels("a").observe(seconds)
        told = [line for line in generate_latest(REGISTRY).decode().splitlines() if line.startswith(name)]
    finally:
        REGISTRY.unregister(ours)
    expected = [line for line in generate_latest(own).decode().splitlines() if line.startswith(name)]
    assert sorted(told) == sorted(line for line in expected if "_created" not in line)
