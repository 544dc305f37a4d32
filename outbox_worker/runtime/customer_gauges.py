"""Gauges of the customer sync, read from the database when Prometheus asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from outbox_worker.database.sync_figures import SyncFigures
from outbox_worker.errors import DatabaseUnavailable, SchemaMismatch

KINDS = ("shared_phone", "second_client", "taken_phone", "no_phone", "unreadable", "refused")


class CustomerGauges(Collector):
    """What the latest sync did, whether it has stopped, and which clients could not be stored.

    When the reading fails, nothing is said; that it fails is said by `outbox_worker_backlog_read_ok`.
    """

    def __init__(self, read: Callable[[], SyncFigures]) -> None:
        self._read = read

    def describe(self) -> list[Metric]:
        """Name nothing in advance, so that registering does not read the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read and tell."""
        try:
            figures = self._read()
        except (DatabaseUnavailable, SchemaMismatch):
            return
        unstored = dict.fromkeys(KINDS, 0) | figures.unstored
        yield _family(
            "outbox_worker_unstored_clients", "Clients of InBoost that could not be stored.", "kind", unstored
        )
        unsettled = GaugeMetricFamily(
            "outbox_worker_unsettled_links", "Links whose history, balance or waiting deliveries are still to be sent."
        )
        unsettled.add_metric([], figures.unsettled_count)
        yield unsettled
        stopped = GaugeMetricFamily(
            "outbox_worker_customer_sync_stopped", "1 while the customer sync has stopped before its end."
        )
        stopped.add_metric([], figures.is_stopped)
        yield stopped
        if figures.done is not None and figures.done.ended_at is not None:
            ended = GaugeMetricFamily(
                "outbox_worker_customer_sync_ended_timestamp_seconds", "When a customer sync last came to its end."
            )
            ended.add_metric([], figures.done.ended_at.timestamp())
            yield ended
            text = "What the customer sync did that last came to its end."
            counts = {name.removesuffix("_count"): number for name, number in asdict(figures.done.counts).items()}
            yield _family("outbox_worker_customer_sync", text, "what", counts)


def _family(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value_of, value in values.items():
        family.add_metric([value_of], value)
    return family
