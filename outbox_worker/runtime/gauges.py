"""Gauges read from the database when Prometheus asks: one cheap reading per scrape, and how it went."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from outbox_worker.database.backlog import Status
from outbox_worker.errors import DatabaseUnavailable, SchemaMismatch

STATES = ("pending", "in_doubt", "held", "waiting", "dead")


class BacklogGauges(Collector):
    """What waits, by destination and state; the lag; paused destinations; capture failures.

    When the reading fails, only `outbox_worker_backlog_read_ok` is 0, and nothing else is said.
    """

    def __init__(self, read: Callable[[], Status]) -> None:
        self._read = read

    def describe(self) -> list[Metric]:
        """Name nothing in advance, so that registering does not read the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read the outbox and tell."""
        begun_s = perf_counter()
        try:
            status = self._read()
        except (DatabaseUnavailable, SchemaMismatch):
            yield _gauge("outbox_worker_backlog_read_ok", "1 if the outbox could be read for this scrape.", 0)
            return
        yield _gauge("outbox_worker_backlog_read_ok", "1 if the outbox could be read for this scrape.", 1)
        yield _gauge("outbox_worker_backlog_read_seconds", "How long that took.", perf_counter() - begun_s)
        yield _gauge("outbox_worker_lag_seconds", "How long the oldest delivery waits that is due.", status.lag_s)
        yield _gauge("outbox_worker_claimed_deliveries", "Requests in flight, of all workers.", status.claimed_count)
        yield _gauge(
            "outbox_worker_capture_failures", "Facts not recorded and not repaired.", status.capture_failure_count
        )
        yield from _by_destination(status)


def _by_destination(status: Status) -> Iterator[Metric]:
    counts = {(it.destination, state): 0 for it in status.destinations for state in STATES}
    for row in status.waiting:
        counts[row.destination, row.state] += row.delivery_count
    deliveries = GaugeMetricFamily(
        "outbox_worker_deliveries", "Deliveries not done, by state.", labels=["destination", "state"]
    )
    for labels, count in counts.items():
        deliveries.add_metric(labels, count)
    paused = GaugeMetricFamily(
        "outbox_worker_destination_paused", "1 while a destination is paused.", labels=["destination"]
    )
    for destination in status.destinations:
        paused.add_metric([destination.destination], int(destination.paused_at is not None))
    yield deliveries
    yield paused


def _gauge(name: str, text: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, text)
    family.add_metric([], value)
    return family
