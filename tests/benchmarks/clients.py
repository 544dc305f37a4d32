"""InBoost's list of clients as it would come, made page by page, and a process that syncs it.

    python -m tests.benchmarks.clients ours|row_by_row CONNINFO CLIENT_COUNT

A process of its own, so that its memory is its own. The time in which pages are made is not counted: they stand for
pages that have been fetched. What it measured is one JSON object on standard output.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec
import psycopg

from outbox_worker.inboost.client import Answer
from outbox_worker.inboost.listing import Page, PageReader
from outbox_worker.inboost.operations import DEFAULT
from outbox_worker.records import Evidence, Exchange
from outbox_worker.rules import clients as rules
from outbox_worker.rules.clients import Client
from outbox_worker.rules.matching import FIELDS, Winner
from outbox_worker.rules.phones import normalise
from outbox_worker.runtime.customer_sync import SyncTerms, sync
from outbox_worker.runtime.links import LinkTerms

PAGE = 1_000
CHANGED_EACH = 100  # one client in so many has changed
FIRST = 1_000_000  # of the numbers in the phones
TODAY = date(2026, 11, 21)
_encode = msgspec.json.Encoder().encode


def client(number: int, *, changed: bool) -> dict[str, object]:
    """Return one client as InBoost lists it."""
    return {
        "id": number,
        "userPhoneNumber": f"+38050{FIRST + number:07}",
        "userName": f"Олена {number}",
        "lastName": "Шевченко-Нова" if changed else "Шевченко",
        "email": f"client{number}@example.com",
        "birth": "1990-02-03",
        "source": "instagram",
        "profession": "лікар",
        "updatedAt": "2030-01-01T10:00:00+00:00" if changed else "2026-11-21T10:00:00+00:00",
    }


def before(number: int) -> Client:
    """Return a client as it was stored."""
    given = client(number, changed=False)
    fields = DEFAULT["list_clients"].fields["items"].each or {}
    return rules.read({field.source: given.get(wire) for wire, field in fields.items()}, TODAY)


def body(first: int, count: int, *, is_last: bool) -> bytes:
    """Return the body of a page."""
    items = [client(number, changed=number % CHANGED_EACH == 0) for number in range(first, first + count)]
    return _encode({"items": items, "nextCursor": None if is_last else str(first + count)})


class Fetched:
    """Pages that have been fetched; `making_s` is how long it took to make them."""

    def __init__(self, count: int) -> None:
        self.making_s = 0.0
        self.at_s: list[float] = []  # when each was asked for, the making left out
        self.memory: list[int] = []  # resident, in bytes, at the same instants
        self._count = count
        self._reader = PageReader(DEFAULT["list_clients"].fields)
        self._begun_s = time.monotonic()

    def page(self, since: datetime | None, cursor: str | None, size: int, today: date) -> Page:
        """Return a page as `Listing` does."""
        begun_s = time.monotonic()
        first = int(cursor or 0)
        made = body(first, min(size, self._count - first), is_last=first + size >= self._count)
        self.memory.append(resident_bytes())
        ended_s = time.monotonic()
        self.making_s += ended_s - begun_s
        self.at_s.append(ended_s - self._begun_s - self.making_s)
        return self._reader.read(Answer(Exchange(Evidence.ANSWERED, 200, None, made, "", 1), datetime.now(UTC)), today)


def resident_bytes() -> int:
    """Return how much memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def ours(conninfo: str, count: int) -> dict[str, float]:
    """Sync as the product does."""
    links = LinkTerms("Europe/Kyiv", 3, ("pending", "in_doubt", "waiting"))
    terms = SyncTerms("UA", dict.fromkeys(FIELDS, Winner.NEWEST), links, PAGE)
    source = Fetched(count)
    begun_s = time.monotonic()
    done = sync(conninfo, source, terms)
    took_s = time.monotonic() - begun_s - source.making_s
    tenth = max(len(source.at_s) // 10, 1)
    return {
        "per_s": count / took_s,
        "first_per_s": tenth * PAGE / (source.at_s[tenth] - source.at_s[0]),
        "last_per_s": tenth * PAGE / (source.at_s[-1] - source.at_s[-1 - tenth]),
        "before_pages_s": source.at_s[0],
        "growth_mib": (max(source.memory) - source.memory[0]) / 2**20,
        "changed": done.counts.changed_count,
    }


def row_by_row(conninfo: str, count: int) -> dict[str, float]:
    """Sync as one would by hand: each client is looked up by its phone and written, a page in a transaction."""
    source = Fetched(count)
    begun_s = time.monotonic()
    changed = 0
    with psycopg.connect(conninfo) as session:
        for page in _pages(source):
            for it in page.clients:
                changed += _upsert(session, it)
            session.commit()
    took_s = time.monotonic() - begun_s - source.making_s
    growth = (max(source.memory) - source.memory[0]) / 2**20
    return {"per_s": count / took_s, "growth_mib": growth, "changed": changed}


def _pages(source: Fetched) -> Iterator[Page]:
    cursor: str | None = None
    while True:
        page = source.page(None, cursor, PAGE, TODAY)
        yield page
        if (cursor := page.cursor) is None:
            return


def _upsert(session: psycopg.Connection, it: Client) -> int:
    values = (it.first_name, it.last_name, it.birth_date, it.source, it.specialty, normalise(it.spelled, "UA"))
    updated = session.execute(
        "update accounting.customer set first_name = %s, last_name = %s, birth_date = %s, source = %s, specialty = %s,"
        " changed_at = now() where phone = %s",
        values,
    )
    if not updated.rowcount:
        session.execute(
            "insert into accounting.customer (first_name, last_name, birth_date, source, specialty, phone)"
            " values (%s, %s, %s, %s, %s, %s)",
            values,
        )
    return 1


WAYS: dict[str, Callable[[str, int], dict[str, float]]] = {"ours": ours, "row_by_row": row_by_row}

if __name__ == "__main__":
    print(json.dumps(WAYS[sys.argv[1]](sys.argv[2], int(sys.argv[3]))))
