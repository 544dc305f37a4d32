"""One INSERT … SELECT of very many purchases: how much longer it takes when they are captured, and whom it holds up.

Ours is the reference accounting system with its mapping as shipped: each purchase is an event with two deliveries, read
again at commit. The others capture the bare row. Strong locks are those that a writer could wait for; those on the
transaction itself are not counted, nor is the doorbell's, for which nobody waits. "Others held up" is how many of three
other users do not come through within a second before the load commits: they sell to a customer of the load, change
that customer, and add another.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg
from psycopg.errors import LockNotAvailable, QueryCanceled

from tests.benchmarks import host
from tests.benchmarks.contenders import OURS, ROOT, Contender, Place
from tests.benchmarks.contenders.outbox_worker import OutboxWorker
from tests.benchmarks.events import CUSTOMERS
from tests.benchmarks.meters import Counters
from tests.benchmarks.scenarios import Figure, Goal, Medians, Scenario
from tests.benchmarks.scenarios.host_inserts import INTO_OUTBOX, ONE_ROW, OUTBOX
from tests.benchmarks.world import World

ACCOUNTING = ROOT / "sql" / "accounting" / "reference_schema.sql"
MAPPING = "sql/accounting/reference_mapping.sql"
PAYLOAD = """json_build_object('purchase_id', new.purchase_id::text, 'purchased_at', new.purchased_at,
                               'total', new.total, 'currency', new.currency)"""
LOAD = "insert into accounting.purchase (customer_id, total) select 1 + n %% %s, 10.50 from generate_series(1, %s) n"
LOCKS = """
select count(*), count(*) filter (where mode in ('AccessExclusiveLock', 'ExclusiveLock', 'ShareLock',
                                                 'ShareRowExclusiveLock', 'ShareUpdateExclusiveLock')
                                  and locktype not in ('virtualxid', 'transactionid', 'advisory'))
from pg_locks where pid = pg_backend_pid()
"""
OTHERS = (
    "insert into accounting.purchase (customer_id, total) values (1, 10.50)",
    "update accounting.customer set first_name = 'other' where customer_id = 1",
    "insert into accounting.customer (first_name) values ('new')",
)
LOAD_MS_MAX = 60_000
TIMES_MAX = 2.0
SECONDS = Figure("seconds", "seconds", 2)


@dataclass(frozen=True, slots=True)
class Shop:
    """The reference accounting system with one way to capture purchases."""

    name: str
    sql: str = ""
    contender: Contender | None = None

    def install(self, place: Place) -> None:
        """Make the contender's schema, the accounting system and the trigger."""
        if self.contender:
            self.contender.install(place)
        with psycopg.connect(place.database_url) as session:
            session.execute(ACCOUNTING.read_bytes())
            session.execute(
                "insert into accounting.customer (phone) select '+38050' || 1000000 + n from generate_series(1, %s) n",
                [CUSTOMERS],
            )
        with psycopg.connect(place.database_url) as session:
            session.execute(self._capture().encode() or b"select")

    def _capture(self) -> str:
        if isinstance(self.contender, OutboxWorker):
            return (self.contender.root / MAPPING).read_text()
        if self.contender:
            return host.trigger(self.contender.capture, "accounting.purchase", PAYLOAD)
        return self.sql


class BulkLoad(Scenario):
    name = "bulk load"
    figures = (
        SECONDS,
        Figure("wal_bytes", "WAL bytes each"),
        Figure("locks", "locks held"),
        Figure("strong_locks", "of them strong"),
        Figure("held_up", "others held up"),
    )

    def __init__(self, count: int) -> None:
        self.title = f"one INSERT … SELECT of {count:,} purchases, to the end of its commit"
        self._count = count

    def lineup(self, contenders: Sequence[Contender]) -> Iterator[Shop]:
        yield Shop("no trigger")
        yield Shop(ONE_ROW, OUTBOX + host.trigger(INTO_OUTBOX, "accounting.purchase", PAYLOAD))
        yield from (Shop(contender.name, contender=contender) for contender in contenders)

    def measure(self, world: World, subject: Shop) -> dict[str, float]:
        with world.database() as dbname, world.place(dbname, "http://127.0.0.1:9") as place:
            subject.install(place)
            world.settle(place.database_url)
            before = Counters.read(world.session, dbname)
            with psycopg.connect(place.database_url) as session:
                begun_s = time.monotonic()
                self._load(session)
                loaded_s = time.monotonic()
                locks, strong_locks = session.execute(LOCKS).fetchone() or (0, 0)
                held_up = sum(_is_held_up(place, other) for other in OTHERS)
                committing_s = time.monotonic()
                session.commit()
                took_s = loaded_s - begun_s + time.monotonic() - committing_s
            wal_bytes = Counters.read(world.session, dbname).wal_bytes - before.wal_bytes
            return {
                "seconds": took_s,
                "wal_bytes": wal_bytes / self._count,
                "locks": locks,
                "strong_locks": strong_locks,
                "held_up": held_up,
            }

    def _load(self, session: psycopg.Connection) -> None:
        session.execute(f"set statement_timeout = {LOAD_MS_MAX}")  # type: ignore[arg-type]  # a constant
        try:
            session.execute(LOAD, [CUSTOMERS, self._count])
            session.execute("set constraints all immediate")  # what waits for the commit is done here
        except QueryCanceled:
            raise RuntimeError(f"not over after {LOAD_MS_MAX / 1000:.0f} s") from None

    def goals(self, medians: Medians, ratios: Medians) -> Iterator[Goal]:
        if OURS not in medians:
            return
        ours = medians[OURS]
        if ONE_ROW in medians:
            plain_s = medians[ONE_ROW]["seconds"]
            yield Goal(
                f"{self.title}: at most {TIMES_MAX:g} × the {ONE_ROW}",
                f"{ours['seconds']:.2f} s ({ours['seconds'] / plain_s:.2f} ×)",
                ours["seconds"] <= TIMES_MAX * plain_s,
                f"{ONE_ROW}: {plain_s:.2f} s",
            )
        yield Goal("the same: nobody held up", f"{ours['held_up']:.0f}", ours["held_up"] == 0)


def _is_held_up(place: Place, statement: str) -> bool:
    with psycopg.connect(place.database_url) as session:
        session.execute("set lock_timeout = '1s'")
        session.execute("set statement_timeout = '2s'")
        try:
            session.execute(statement)  # type: ignore[arg-type]  # a constant
            session.commit()
        except (LockNotAvailable, QueryCanceled):
            return True
        return False
