"""What Prometheus may ask of the worker. Labels are bounded: operations, destinations and words of the glossary.

One place counts each fact: `runtime.journal` calls these, and nothing else does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector

LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)


class Durations(Collector):
    """A histogram by operation that one thread alone observes: the library's takes two locks for each observation.

    `bounds_s` are the upper bounds of its buckets, in seconds.
    """

    def __init__(self, name: str, documentation: str, bounds_s: Sequence[float]) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds_s = bounds_s
        self._labels = [*(str(float(bound)) for bound in bounds_s), "+Inf"]
        self._counts: dict[str, list[int]] = {}
        self._sums_s: dict[str, float] = {}
        REGISTRY.register(self)

    def begin(self, operation: str) -> list[int]:
        """Let an operation begin at zero; return its counts."""
        self._sums_s.setdefault(operation, 0.0)
        return self._counts.setdefault(operation, [0] * len(self._labels))

    def observe(self, operation: str, seconds: float) -> None:
        """Count one."""
        counts = self._counts.get(operation) or self.begin(operation)
        counts[bisect_left(self._bounds_s, seconds)] += 1
        self._sums_s[operation] += seconds

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Give what Prometheus asks for."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=["operation"])
        for operation, counts in list(self._counts.items()):
            buckets = list(zip(self._labels, accumulate(counts), strict=True))
            family.add_metric([operation], buckets, self._sums_s[operation])
        yield family


attempts = Counter(
    "outbox_worker_attempts_total",
    "Attempts concluded, by operation, by what is known after them, and by what becomes of the delivery.",
    ["operation", "purpose", "outcome", "verdict"],
)
request_seconds = Durations(
    "outbox_worker_request_seconds",
    "How long a request took, from its start to the end of its answer.",
    LATENCY_S[:14],
)
delivered_seconds = Durations(
    "outbox_worker_delivered_seconds",
    "From the recording of an event to the answer that accepted its delivery.",
    LATENCY_S,
)
overtaken = Counter(
    "outbox_worker_overtaken_conclusions_total",
    "Conclusions that changed nothing, because the claim had been taken over.",
    ["operation"],
)
claim_conflicts = Counter(
    "outbox_worker_claim_conflicts_total",
    "Deliveries that were to be claimed and were not: another worker was faster, or their turn had passed.",
)
wake_ups = Counter(
    "outbox_worker_wakeups_total",
    "How often the idle relay looked for work: because the doorbell rang, or because the slow poll was due.",
    ["cause"],
)
destination_pauses = Counter(
    "outbox_worker_destination_pauses_total",
    "How often a destination was paused by the worker: credentials refused, or misdirected.",
    ["destination"],
)
database_losses = Counter(
    "outbox_worker_database_losses_total",
    "How often the connection to the database was lost, or could not be had.",
)
turns_refused = Counter(
    "outbox_worker_turns_refused_total",
    "How often the database refused what the relay asked of it, though the connection stood.",
)
turns_undone = Counter(
    "outbox_worker_turns_undone_total",
    "How often the database undid what the relay asked of it for another session's sake, a deadlock mostly.",
)
database_up = Gauge("outbox_worker_database_up", "1 while the relay is connected to the database.")
build_info = Gauge("outbox_worker_build_info", "1, with the version that runs.", ["version"])

# Of `outbox-worker web`, a process of its own: what the relay counts has no place there.
IDENTIFY = CollectorRegistry()
identify_requests = Counter(
    "outbox_worker_identify_requests_total", "Requests answered, by HTTP status.", ["status"], registry=IDENTIFY
)
identify_seconds = Histogram(
    "outbox_worker_identify_seconds",
    "How long a request took, from its head to its answer.",
    buckets=LATENCY_S[:14],
    registry=IDENTIFY,
)

WAKE_UP_CAUSES = ("doorbell", "poll")

# What can come of an attempt: purpose, outcome, verdict. A test holds it against the rules.
CONCLUSIONS = (
    ("send", "accepted", "acknowledge"),
    ("send", "duplicate", "acknowledge"),
    ("send", "not_sent", "retry"),
    ("send", "try_later", "retry"),
    ("send", "credentials", "retry"),
    ("send", "misdirected", "retry"),
    ("send", "unknown_client", "wait_for_client"),
    ("send", "rejected", "dead_letter"),
    ("send", "unsendable", "dead_letter"),
    ("send", "unsendable", "wait_for_client"),
    ("send", "in_doubt", "inquire"),
    ("send", "in_doubt", "retry"),
    ("send", "in_doubt", "hold"),
    ("inquire", "found", "acknowledge"),
    ("inquire", "not_found", "inquire"),
    ("inquire", "not_found", "retry"),
    ("inquire", "no_finding", "inquire"),
    ("inquire", "no_finding", "hold"),
    ("inquire", "not_sent", "inquire"),
    ("inquire", "try_later", "inquire"),
    ("inquire", "credentials", "inquire"),
    ("inquire", "unsendable", "hold"),
)


def begin(version: str, operations: Iterable[str], destinations: Iterable[str], inquired: Container[str]) -> None:
    """Let every label set that can occur begin at zero: a first failure is then seen as an increase.

    `inquired` are the operations that are looked up when in doubt.
    """
    build_info.labels(version).set(1)
    for cause in WAKE_UP_CAUSES:
        wake_ups.labels(cause)
    for destination in destinations:
        destination_pauses.labels(destination)
    for operation in operations:
        request_seconds.begin(operation)
        delivered_seconds.begin(operation)
        overtaken.labels(operation)
        for purpose, outcome, verdict in CONCLUSIONS:
            if purpose == "send" or operation in inquired:
                attempts.labels(operation, purpose, outcome, verdict)
