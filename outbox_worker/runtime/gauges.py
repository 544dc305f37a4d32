"""Gauges read from the database when Prometheus asks: one cheap reading per scrape, and how it went."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from time import perf_counter

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from outbox_worker.database.backlog import Status
from outbox_worker.errors import DatabaseUnavailable, SchemaMismatch

LAG = "How long the oldest delivery waits that is due, of the first 10,000 of each destination."
STATES = ("pending", "in_doubt", "held", "waiting", "dead")


class BacklogGauges(Collector):
    """What waits, by destination and state; the lag; what people must look at; what disturbs the database.

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
        yield from _of_the_whole(status)
        yield from _by_destination(status)
        yield from _by_round(status)


def _of_the_whole(status: Status) -> Iterator[Metric]:
    yield _gauge("outbox_worker_lag_seconds", LAG, status.lag_s)
    if status.oldest_due_at is not None:
        text = "Since when the oldest delivery is due; absent when none is."
        yield _gauge("outbox_worker_oldest_due_timestamp_seconds", text, status.oldest_due_at.timestamp())
    text = "Deliveries not done, about: PostgreSQL's own estimate, for when there are too many to be counted."
    yield _gauge("outbox_worker_deliveries_estimated", text, status.estimated_count)
    lanes = "Customers whose deliveries wait until InBoost knows them, up to a minute ago."
    yield _gauge("outbox_worker_waiting_lanes", lanes, status.waiting_lane_count)
    orders = "How long the oldest order with contact data waits to be identified; 0 if none does."
    yield _gauge("outbox_worker_unidentified_seconds", orders, status.unidentified_s)
    phoneless = "Deliveries that wait until a phone of their buyer is known."
    yield _gauge("outbox_worker_deliveries_without_phone", phoneless, status.without_phone_count)
    yield _gauge("outbox_worker_claimed_deliveries", "Requests in flight, of all workers.", status.claimed_count)
    yield _gauge("outbox_worker_capture_failures", "Facts not recorded and not repaired.", status.capture_failure_count)
    if status.oldest_snapshot_s is not None:
        text = "How long the oldest snapshot is held, by whomever; absent without pg_read_all_stats."
        yield _gauge("outbox_worker_oldest_snapshot_seconds", text, status.oldest_snapshot_s)


def _by_destination(status: Status) -> Iterator[Metric]:
    counts = {(it.destination, state): 0 for it in status.destinations for state in STATES}
    for row in status.waiting:
        counts[row.destination, row.state] += row.delivery_count
    deliveries = GaugeMetricFamily(
        "outbox_worker_deliveries",
        "Deliveries not done, by state: of those pending or in doubt the first 10,000 of a destination; of the others "
        "all, and where very much waits as they were up to a minute ago.",
        labels=["destination", "state"],
    )
    for labels, count in counts.items():
        deliveries.add_metric(labels, count)
    yield deliveries
    paused = {it.destination: it.paused_at is not None for it in status.destinations}
    yield _labelled("outbox_worker_destination_paused", "1 while a destination is paused.", paused)
    failures = {it.destination: it.failure_count for it in status.destinations}
    yield _labelled("outbox_worker_destination_failures", "Failures of a destination in a row.", failures)


def _by_round(status: Status) -> Iterator[Metric]:
    """Tell of the rounds that a worker's settings have run; those that are switched off are neither fresh nor stale."""
    rounds = {it.round: it for it in status.rounds if it.fresh_s is not None}
    text = "How long ago a round last succeeded, or was switched on."
    ages = {name: it.fresh_s or 0.0 for name, it in rounds.items()}
    yield _labelled("outbox_worker_round_age_seconds", text, ages, "round")
    tries = {name: it.try_count for name, it in rounds.items()}
    yield _labelled("outbox_worker_round_tries", "Runs of a round begun since the last that succeeded.", tries, "round")
    runs = CounterMetricFamily("outbox_worker_round_runs", "Runs of a round, by outcome.", labels=["round", "outcome"])
    for name, it in rounds.items():
        for outcome, count in (("done", it.done_count), ("failed", it.failed_count), ("crashed", it.crashed_count)):
            runs.add_metric([name, outcome], count)
    yield runs


def _labelled(name: str, text: str, values: Mapping[str, float], label: str = "destination") -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for of, value in values.items():
        family.add_metric([of], value)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, text)
    family.add_metric([], value)
    return family
