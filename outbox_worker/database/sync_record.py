"""A run of the customer sync as outbox.sync_run has it; `sync_runs` writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Counts:
    """What a run has done."""

    page_count: int = 0
    read_count: int = 0
    created_count: int = 0
    changed_count: int = 0
    linked_count: int = 0
    history_count: int = 0
    balance_count: int = 0
    released_count: int = 0
    expired_count: int = 0


@dataclass(frozen=True, slots=True)
class SyncRun:
    """A run. Without `ended_at` it is to be gone on with."""

    sync_run_id: int
    begun_at: datetime
    ended_at: datetime | None
    since: datetime | None
    cursor: str | None
    watermark: datetime | None
    problem: str | None
    customer_count: int
    counts: Counts


NAMES = [field.name for field in fields(Counts)]
COLUMNS = f"sync_run_id, begun_at, ended_at, since, cursor, watermark, problem, customer_count, {', '.join(NAMES)}"

LATEST = f"select {COLUMNS} from outbox.sync_run order by sync_run_id desc limit 1"  # noqa: S608  # our names
LATEST_DONE = f"select {COLUMNS} from outbox.sync_run where ended_at is not null order by sync_run_id desc limit 1"  # noqa: S608


def run_of(row: Mapping[str, Any]) -> SyncRun:
    """Return the run of a row, by the names of its columns."""
    values = dict(row)
    counts = Counts(**{name: values.pop(name) for name in NAMES})
    return SyncRun(**values, counts=counts)
