"""What Prometheus may ask of the worker. Labels are bounded: operations, destinations and words of the glossary.

One place counts each fact: `runtime.journal` calls these, and nothing else does.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)

attempts = Counter(
    "outbox_worker_attempts_total",
    "Attempts concluded, by operation, by what is known after them, and by what becomes of the delivery.",
    ["operation", "purpose", "outcome", "verdict"],
)
request_seconds = Histogram(
    "outbox_worker_request_seconds",
    "How long a request took, from its start to the end of its answer.",
    ["operation"],
    buckets=LATENCY_S[:14],
)
delivered_seconds = Histogram(
    "outbox_worker_delivered_seconds",
    "From the recording of an event to the answer that accepted its delivery.",
    ["operation"],
    buckets=LATENCY_S,
)
overtaken = Counter(
    "outbox_worker_overtaken_conclusions_total",
    "Conclusions that changed nothing, because the claim had been taken over.",
    ["operation"],
)
destination_failing = Gauge(
    "outbox_worker_destination_failures",
    "Failures of a destination in a row.",
    ["destination"],
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
database_up = Gauge("outbox_worker_database_up", "1 while the relay is connected to the database.")
