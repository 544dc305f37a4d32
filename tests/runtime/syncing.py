"""What the tests of the customer sync share: terms, InBoost's list as the sync reads it, what came of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from outbox_worker.database.sync_record import SyncRun
from outbox_worker.demo.sandbox import SandboxServer
from outbox_worker.inboost.client import Client
from outbox_worker.inboost.listing import Listing
from outbox_worker.inboost.operations import DEFAULT
from outbox_worker.inboost.profile import Profile
from outbox_worker.rules.matching import FIELDS, Winner
from outbox_worker.rules.schedule import Timetable
from outbox_worker.runtime.customer_sync import SyncTerms
from outbox_worker.runtime.links import LinkTerms
from tests.database.rows import Rows

TERMS = SyncTerms(
    region="UA",
    winners=dict.fromkeys(FIELDS, Winner.NEWEST),
    links=LinkTerms("Europe/Kyiv", 3, ("pending", "in_doubt", "waiting")),
    change_share_max=1.0,
)
QUICK = Timetable(first=timedelta(milliseconds=1), longest=timedelta(milliseconds=2), tries_max=4)

Sync = Callable[..., SyncRun]


@contextmanager
def listing(url: str) -> Iterator[Listing]:
    """Read a sandbox's list of clients."""
    profile = Profile(
        operations=DEFAULT, base_url=url, authorization="Authorize: Bearer sandbox-token", hooks={}, phone_region="UA"
    )
    with Client(connect_timeout=timedelta(seconds=1), request_timeout=timedelta(seconds=5), timetable=QUICK) as client:
        yield Listing(client, profile)


def put(portal: SandboxServer, *clients: dict[str, Any] | str) -> None:
    """Make clients known to InBoost, updated at an instant in the past unless they say another."""
    portal.do(portal.state.register, clients, 1_790_000_000.0)


def counts(done: SyncRun) -> dict[str, int]:
    """Return what a run has done, without what it has not."""
    return {name: number for name, number in asdict(done.counts).items() if number and name != "page_count"}


def kept(rows: Rows) -> list[tuple[Any, ...]]:
    """Return what could not be stored: its key, why, who it may be."""
    return rows.all("select client_key, kind, customer_ids from outbox.unstored_client order by unstored_client_id")


def links(rows: Rows) -> list[tuple[Any, ...]]:
    """Return who is linked with whom."""
    return rows.all("select customer_id, client_id, phone from outbox.client order by customer_id")
