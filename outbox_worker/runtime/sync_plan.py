"""What a customer sync would do, by the same statements and rules, with nothing written but the directory of phones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from outbox_worker.database import clients as database
from outbox_worker.database import mapping_keys, sync_runs
from outbox_worker.database.engine import explained
from outbox_worker.database.mapping_keys import MappingKeys
from outbox_worker.database.sync_session import SyncSession
from outbox_worker.rules.clients import Client, identify
from outbox_worker.rules.matching import Create, Decision, Unstored
from outbox_worker.runtime.customer_sync import BATCH, SyncTerms, batches, decisions, newest_of_each, refresh_directory
from outbox_worker.runtime.pages import Pages, Source

EXAMPLES_MAX = 20  # of each kind of decision


@dataclass(slots=True)
class Plan:
    """How many clients were read, and what would become of those that are not as they were stored.

    The words counted are create, change, link (with a customer as it is), keep (linked, and nothing changes), and the
    kinds of what cannot be stored. A client without a phone changes nothing from page to page; one that comes in two
    pages is counted twice.
    """

    customer_count: int = 0
    read_count: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[tuple[Client, Decision]]] = field(default_factory=dict)


def plan(
    conninfo: str, source: Source, terms: SyncTerms, *, progress: Callable[[Plan], None] = lambda plan: None
) -> Plan:
    """Read what the next sync would read, and say what it would do. Raises what `customer_sync.sync` raises."""
    with explained(), SyncSession(conninfo) as session:
        refresh_directory(session, terms.region, lambda: None)
        keys = session.call(mapping_keys.read)
        run = session.call(sync_runs.next_run, whole=terms.whole)
        found = Plan(customer_count=run.customer_count)
        for page in Pages(source, run.since, run.cursor, terms.page_size):
            known = [it if it.client_id is not None else identify(it, terms.region) for it in page.clients]
            differing = session.call(database.differing, newest_of_each(known))
            for batch in batches(differing, BATCH):
                session.call(_plan, keys, [identify(it, terms.region) for it in batch], terms, found)
            found.read_count += len(page.clients) + len(page.unreadable)
            found.counts["unreadable"] += len(page.unreadable)
            progress(found)
        return found


def _plan(connection: Any, keys: MappingKeys, batch: Sequence[Client], terms: SyncTerms, found: Plan) -> None:
    database.stage(connection, batch)
    known = database.known(connection, keys)
    for client, before, decision in zip(batch, known, decisions(batch, known, terms), strict=True):
        word = _word(decision, is_linked=before.of_customer is not None)
        found.counts[word] += 1
        examples = found.examples.setdefault(word, [])
        if len(examples) < EXAMPLES_MAX:
            examples.append((client, decision))


def _word(decision: Decision, *, is_linked: bool) -> str:
    if isinstance(decision, Create):
        return "create"
    if isinstance(decision, Unstored):
        return decision.kind
    if decision.changes:
        return "change"
    return "keep" if is_linked else "link"
