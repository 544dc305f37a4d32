"""What capture costs the host: single-row inserts per second, by 8 clients and by 32, each a durable commit of its own.

Beside the contenders stand a table without a trigger, the cheapest usual outbox, and the same with NOTIFY. Ours is
measured in three states: alone (no worker runs: the same as a worker that is awake, for nobody rings), beside a worker
that drains a backlog, and with a sleeper that every commit rings for and that never wakes, which no real worker does.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Flag
from threading import Thread

import psycopg

from tests.benchmarks import host
from tests.benchmarks.contenders import OURS, Contender, Place
from tests.benchmarks.contenders.outbox_worker import DOORBELL, OutboxWorker
from tests.benchmarks.events import Event, events
from tests.benchmarks.meters import Counters
from tests.benchmarks.receivers import Receiver, fast
from tests.benchmarks.scenarios import Figure, Goal, Medians, Scenario, beside_best
from tests.benchmarks.world import Worker, World

PER_S = {clients: Figure(f"per_s_{clients}", f"per s, {clients} clients", more_is_better=True) for clients in (8, 32)}
BACKLOG = 20_000
SHARE_MIN = 0.9
NO_DROP = 0.97  # two rates nearer than this are the same to this measurement

ONE_ROW = "one-row outbox"
BUSY = f"{OURS}, worker busy"
OUTBOX = """
create table outbox (id bigint primary key generated always as identity, customer_id bigint not null,
                     payload json not null, created_at timestamptz not null default now());
"""
INTO_OUTBOX = "insert into outbox (customer_id, payload) values (new.customer_id, payload)"


@dataclass(frozen=True, slots=True)
class Host:
    """A table with one way to capture, and what runs beside it."""

    name: str
    contender: Contender | None = None
    sql: str = ""  # the trigger, and what it needs, where there is no contender
    beside: Callable[[Contender, Place, Sequence[Event]], AbstractContextManager[None]] | None = None

    def install(self, place: Place) -> None:
        """Make the contender's schema, the table and the trigger."""
        if self.contender:
            self.contender.install(place)
        host.install(place.database_url, self.contender.trigger() if self.contender else self.sql)


class HostInserts(Scenario):
    name = "host inserts"
    figures = (
        *PER_S.values(),
        Figure("server_us", "PostgreSQL µs each", 1),
        Figure("wal_bytes", "WAL bytes each"),
    )

    def __init__(
        self, amount: host.Amount, backlog: int = BACKLOG, receiver: Callable[[Path], Receiver] = fast
    ) -> None:
        self.title = f"single-row inserts by pgbench, {amount.seconds} s each, durable commits"
        self._amount = amount
        self._backlog = events(backlog)
        self._receiver = receiver

    def lineup(self, contenders: Sequence[Contender]) -> Iterator[Host]:
        yield Host("no trigger")
        yield Host(ONE_ROW, sql=OUTBOX + host.trigger(INTO_OUTBOX))
        yield Host(
            f"{ONE_ROW} with NOTIFY",
            sql=OUTBOX + host.trigger(f"{INTO_OUTBOX}; perform pg_notify('outbox', '')"),
        )
        for contender in contenders:
            yield Host(contender.name, contender)
            if isinstance(contender, OutboxWorker):
                yield Host(f"{contender.name}, worker busy", contender, beside=_busy)
                yield Host(f"{contender.name}, every commit rings", contender, beside=_sleeper)

    def measure(self, world: World, subject: Host) -> dict[str, float]:
        with world.stage(self._receiver) as stage, ExitStack() as stack:
            place = stage.place
            subject.install(place)
            if subject.contender and subject.beside:
                stack.enter_context(subject.beside(subject.contender, place, self._backlog))
            loads = {}
            world.settle(place.database_url)
            before, before_s = Counters.read(world.session, stage.dbname), world.server_s()
            for clients in PER_S:
                loads[clients] = host.insert(place.database_url, place.directory, clients=clients, amount=self._amount)
            count = sum(load.count for load in loads.values())
            wal_bytes = Counters.read(world.session, stage.dbname).wal_bytes - before.wal_bytes
            return {f"per_s_{clients}": load.per_s for clients, load in loads.items()} | {
                "server_us": (world.server_s() - before_s) / count * 1e6,
                "wal_bytes": wal_bytes / count,
            }

    def goals(self, medians: Medians, ratios: Medians) -> Iterator[Goal]:
        if OURS not in medians:
            return
        for clients, figure in PER_S.items():
            if ONE_ROW in medians:
                for state in (OURS, BUSY):
                    yield _share(medians, figure, state, clients)
            yield from beside_best(medians, figure, f"inserts per s, {clients} clients: ahead of every peer's enqueue")
        few, many = (medians[OURS][figure.key] for figure in PER_S.values())
        yield Goal("no drop from 8 to 32 clients", f"{many / few:.2f} ×", many >= few * NO_DROP)


def _share(medians: Medians, figure: Figure, state: str, clients: int) -> Goal:
    text = f"inserts per s, {clients} clients, {state}: {SHARE_MIN:g} × the {ONE_ROW}"
    if state not in medians:
        return Goal(text, "not measured", met=False)
    ours, plain = medians[state][figure.key], medians[ONE_ROW][figure.key]
    return Goal(text, f"{ours:,.0f} ({ours / plain:.2f} ×)", ours >= SHARE_MIN * plain, f"{ONE_ROW}: {plain:,.0f}")


@contextmanager
def _busy(contender: Contender, place: Place, backlog: Sequence[Event]) -> Iterator[None]:
    """Keep a worker busy with a backlog, and with what is captured meanwhile."""
    contender.fill(place, backlog)
    with Worker(contender, place) as worker:
        yield
        worker.check()


@contextmanager
def _sleeper(_: Contender, place: Place, __: Sequence[Event]) -> Iterator[None]:
    """Hold the doorbell's lock and listen, as a sleeping worker does, and never wake."""
    stop = Flag()
    with psycopg.connect(place.database_url, autocommit=True) as session:
        session.execute("select pg_advisory_lock(%s)", [DOORBELL])
        session.execute("listen outbox")
        reader = Thread(target=_read, args=(session.pgconn, stop))
        reader.start()
        try:
            yield
        finally:
            stop.set()
            reader.join()


def _read(connection: psycopg.pq.abc.PGconn, stop: Flag) -> None:
    """Take in what comes, as cheaply as it goes: a listener that does not read stops the server's queue."""
    while not stop.is_set():
        if select.select([connection.socket], [], [], 0.1)[0]:
            connection.consume_input()
            while connection.notifies():
                pass
