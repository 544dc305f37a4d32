"""The customer sync, once, when all is sold: InBoost's clients and accounting's customers brought together.

Some clients are not known to accounting. The others have bought, and all of their purchases have gone out live, so the
history that a new link sends must bring InBoost nothing that it has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

import psycopg

from outbox_worker.database import backlog
from outbox_worker.database.connecting import look
from outbox_worker.demo.world import World
from outbox_worker.errors import OutboxWorkerError

NEWCOMERS: Sequence[dict[str, str]] = (
    {"userPhoneNumber": "+380441234501", "userName": "Леся", "lastName": "Гнатюк", "birth": "1987-02-25",
     "source": "Instagram", "profession": "stylist"},
    {"userPhoneNumber": "+380441234502", "userName": "Mykola", "lastName": "Lys", "birth": "1990-12-01"},
    {"userPhoneNumber": "+380441234503", "userName": "Ірина"},
)  # fmt: skip
TRIES_MAX = 10  # the stand-in's faults strike the sync too; what was read is stored, and the next run goes on there
SETTLE_S_MAX = 60.0
LOOK_EVERY_S = 0.1

_STORED = """
    select count(*) from accounting.customer customer join unnest(%s::text[], %s::text[]) known (phone, first_name)
    on customer.phone = known.phone and customer.first_name = known.first_name
"""


@dataclass(frozen=True, slots=True)
class Synced:
    """What the sync says of itself, what accounting and InBoost have afterwards, and what should be there."""

    counts: dict[str, int]
    stored_count: int  # newcomers whom accounting now has
    purchase_count: int  # purchases of which InBoost was told, before and after it
    purchase_count_after: int
    took_s: float

    @property
    def is_right(self) -> bool:
        """Whether everybody is known on both sides, and nothing was told twice."""
        created = self.counts["created_count"] == self.stored_count == len(NEWCOMERS)
        return created and self.counts["linked_count"] > 0 and self.purchase_count == self.purchase_count_after

    def __str__(self) -> str:
        again = self.purchase_count_after - self.purchase_count
        return (
            f"Customer sync: {self.counts['read_count']:,} clients read, {self.stored_count} whom accounting did not "
            f"know created there, {self.counts['linked_count']:,} linked, {self.counts['balance_count']:,} balances "
            f"sent; {again or 'none'} of {self.purchase_count:,} purchases sent again, {self.took_s:.0f} s."
        )


def sync(stage: World) -> Synced:
    """Let newcomers become clients of InBoost, give the command, and wait until what follows from it is delivered."""
    began_s = monotonic()
    before = _purchase_count(stage)
    stage.control.register(NEWCOMERS)
    counts = _run(stage)
    _until_settled(stage)
    return Synced(counts, _stored_count(stage), before, _purchase_count(stage), monotonic() - began_s)


def _run(stage: World) -> dict[str, int]:
    """Sync until all clients are read. Raises OutboxWorkerError with the last words when that is in vain."""
    file = f"--configuration={stage.configuration_file}"
    for _ in range(TRIES_MAX):
        if stage.processes.run("customer-sync", "customers", "sync", "--force", "--json", file) == 0:
            break
    found = list(_documents(stage))
    if not found:
        raise OutboxWorkerError(f"the customer sync came to no end: {_words(stage)[-2000:]}")
    return {name: int(number) for name, number in found[-1]["counts"].items()}


def _documents(stage: World) -> Iterator[dict[str, Any]]:
    for line in _words(stage).splitlines():
        with suppress(ValueError):
            yield json.loads(line)


def _words(stage: World) -> str:
    return stage.processes.log("customer-sync").read_text(encoding="utf-8", errors="replace")


def _until_settled(stage: World) -> None:
    give_up_at_s = monotonic() + SETTLE_S_MAX
    while monotonic() < give_up_at_s:
        with look(stage.worker_url, "outbox-worker demo") as connection:
            found = backlog.read(connection)
        if not found.count("pending") and not found.count("in_doubt"):
            return
        stage.processes.check()
        sleep(LOOK_EVERY_S)


def _purchase_count(stage: World) -> int:
    counts = stage.control.summary().operations.get("add_purchase")
    return counts.effects if counts else 0


def _stored_count(stage: World) -> int:
    phones, names = zip(*((it["userPhoneNumber"], it["userName"]) for it in NEWCOMERS), strict=True)
    with psycopg.connect(stage.shop_url, application_name="shop") as connection:
        row = connection.execute(_STORED, (list(phones), list(names))).fetchone()
    return int(row[0]) if row else 0
