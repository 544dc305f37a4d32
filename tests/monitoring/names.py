"""The names of the metrics that there are, and those that a text asks for."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from prometheus_client import REGISTRY

from outbox_worker import metrics
from outbox_worker.database.backlog import DestinationStatus, Status
from outbox_worker.database.round_states import RoundState
from outbox_worker.database.sync_figures import SyncFigures
from outbox_worker.database.sync_record import Counts, SyncRun
from outbox_worker.runtime.customer_gauges import CustomerGauges
from outbox_worker.runtime.gauges import BacklogGauges

NOW = datetime.now(UTC)
ROUND = RoundState("customer_sync", NOW, None, None, None, 0, 0, 0, 0, None, None, NOW, is_running=False)
STATUS = Status(NOW, [], [DestinationStatus("api", None, None, 0, None)], 0, 0, 0, 0, 0, 0.0, [ROUND])

FIGURES = SyncFigures(SyncRun(1, NOW, NOW, None, None, None, None, 0, Counts()), False, {}, 0)


def metric_names() -> set[str]:
    """Return the names of the samples that a worker exposes, whatever is due or not."""
    metrics.begin("0", ["add_purchase"], ["api"], ["add_purchase"])
    gauges = (BacklogGauges(lambda: STATUS), CustomerGauges(lambda: FIGURES))
    families = [*REGISTRY.collect(), *(family for each in gauges for family in each.collect())]
    names = {sample.name for family in families for sample in family.samples if family.name.startswith("outbox_")}
    return names | {"outbox_worker_oldest_due_timestamp_seconds"}


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\boutbox_worker_[a-z_]+", text))
