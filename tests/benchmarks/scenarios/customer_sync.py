"""InBoost lists clients that accounting knows and that are linked; one in a hundred has changed.

From pages that have been fetched to the last commit. Beside ours stands a sync that looks up and writes every client. A
worker that is otherwise idle delivers single commits before the sync and meanwhile: what that costs is the ratio.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from random import Random
from statistics import median

import psycopg

from tests.benchmarks import clients
from tests.benchmarks.contenders import OURS, ROOT, Contender
from tests.benchmarks.events import Event, events
from tests.benchmarks.receivers import Stamper
from tests.benchmarks.scenarios import Figure, Goal, Medians, Scenario, at_least, at_most
from tests.benchmarks.world import Worker, World

ROW_BY_ROW = "row by row"
ROW_BY_ROW_SHARE = 50  # one client in so many is enough to know its rate
GAP_S = (0.03, 0.15)
IDLE_COMMITS = 60
COMMITS_MAX = 2_000
ARRIVAL_S_MAX = 60.0

PER_S = Figure("per_s", "clients per s", more_is_better=True)
GROWTH = Figure("growth_mib", "memory growth MiB", 1)
SLOWDOWN = Figure("slowdown", "relay's median, times idle", 2)


@dataclass(frozen=True, slots=True)
class Way:
    """A way to sync; beside ours a worker delivers."""

    name: str
    way: str
    contender: Contender


class CustomerSync(Scenario):
    name = "customer_sync"
    figures = (
        PER_S,
        Figure("first_per_s", "first tenth"),
        Figure("last_per_s", "last tenth"),
        Figure("before_pages_s", "s before the first page", 2),
        GROWTH,
        Figure("changed", "changed"),
        Figure("idle_ms", "relay's median idle, ms", 2),
        Figure("p50_ms", "meanwhile, ms", 2),
        SLOWDOWN,
    )

    def __init__(self, client_count: int, idle_commits: int = IDLE_COMMITS) -> None:
        self.title = f"sync of {client_count:,} linked clients in pages of {clients.PAGE:,}, 1 % changed"
        self._count = client_count
        self._idle_commits = idle_commits

    def lineup(self, contenders: Sequence[Contender]) -> Iterator[Way]:
        for contender in contenders:
            if contender.name == OURS:
                yield Way(OURS, "ours", contender)
                yield Way(ROW_BY_ROW, "row_by_row", contender)

    def measure(self, world: World, subject: Way) -> dict[str, float]:
        is_ours = subject.way == "ours"
        count = self._count if is_ours else max(self._count // ROW_BY_ROW_SHARE, clients.PAGE)
        with world.stage(Stamper) as stage, ExitStack() as stack:
            url = stage.place.database_url
            subject.contender.install(stage.place)
            fill(url, self._count, linked=is_ours)
            world.settle(url)
            if not is_ours:
                return _blank() | _finish(_start(subject.way, url, count))
            worker = stack.enter_context(Worker(subject.contender, stage.place))
            host = stack.enter_context(psycopg.connect(url, autocommit=True))
            commits = _Commits(subject.contender, host, stage.receiver, worker)
            commits.warm()
            idle = [commits.deliver() for _ in range(self._idle_commits)]
            syncing = _start(subject.way, url, count)
            meanwhile = []
            while syncing.poll() is None and len(meanwhile) < COMMITS_MAX:
                meanwhile.append(commits.deliver())
            figures = _finish(syncing)
            relay = {"idle_ms": commits.median_ms(idle), "p50_ms": commits.median_ms(meanwhile)}
        return figures | relay | {"slowdown": relay["p50_ms"] / relay["idle_ms"]}

    def goals(self, medians: Medians, ratios: Medians) -> Iterator[Goal]:
        yield from at_least(medians, PER_S, "clients per s, the page being there: at least 10,000", 10_000)
        yield from at_most(medians, GROWTH, "memory growth in MiB: less than 50", 50)
        yield from at_most(medians, SLOWDOWN, "commit to request meanwhile: at most twice its idle median", 2)
        if ROW_BY_ROW in ratios:
            ratio = ratios[ROW_BY_ROW]["per_s"]
            yield Goal("clients per s: at least 5 × row by row", f"{ratio:.1f} ×", ratio >= 5)


class _Commits:
    """Single commits at random gaps; each is waited for until its request has arrived."""

    def __init__(self, contender: Contender, host: psycopg.Connection, receiver: Stamper, worker: Worker) -> None:
        self._contender, self._host, self._receiver, self._worker = contender, host, receiver, worker
        self._committed_ns: dict[int, int] = {}
        self._gaps = Random(1)  # noqa: S311
        self._events: Iterator[Event] = iter(events(COMMITS_MAX + IDLE_COMMITS + 10))

    def warm(self) -> None:
        """Wait until the worker listens."""
        for _ in range(10):
            self.deliver()

    def deliver(self) -> int:
        """Commit one event, wait until its request has arrived, and return its number."""
        event = next(self._events)
        self._host.execute(self._contender.record, self._contender.record_parameters(event))  # type: ignore[arg-type]
        self._committed_ns[event.number] = time.monotonic_ns()
        give_up_at_s = time.monotonic() + ARRIVAL_S_MAX
        while self._receiver.request_count() < len(self._committed_ns):
            if time.monotonic() > give_up_at_s:
                raise RuntimeError("a commit was not delivered")
            self._worker.check()
            time.sleep(0.01)
        time.sleep(self._gaps.uniform(*GAP_S))
        return event.number

    def median_ms(self, numbers: Sequence[int]) -> float:
        """Return the median time from commit to request."""
        arrivals_ns = self._receiver.arrivals_ns()
        return median((arrivals_ns[number] - self._committed_ns[number]) / 1e6 for number in numbers)


def fill(database_url: str, count: int, *, linked: bool) -> None:
    """Let accounting have these customers; `linked`: each with its client, and sent all that is owed."""
    schema = "from outbox_worker.database import schema; import psycopg, sys; "
    load = "schema.install_reference(psycopg.connect(sys.argv[1], autocommit=True))"
    subprocess.run([sys.executable, "-c", schema + load, database_url], cwd=ROOT, check=True, capture_output=True)
    with psycopg.connect(database_url) as session:
        session.execute("create index on accounting.customer (phone)")
        session.execute(
            "insert into accounting.customer (phone, first_name, last_name, birth_date, source, specialty)"
            " select '+38050' || %s + number, 'Олена ' || number, 'Шевченко', '1990-02-03', 'instagram', 'лікар'"
            " from generate_series(0, %s - 1) number",
            [clients.FIRST, count],
        )
        if not linked:
            return
        session.execute(
            "insert into outbox.customer_phone select customer_id::text, phone, phone from accounting.customer"
        )
        with session.cursor() as cursor, cursor.copy("copy outbox.client from stdin") as copy:
            for number in range(count):
                it = clients.before(number)
                then = "2026-11-21 12:00:00+00"
                copy.write_row((str(number + 1), it.client_id, it.spelled, it.digest, it.updated_at, None, *5 * [then]))


def _start(way: str, database_url: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.clients", way, database_url, str(count)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _finish(syncing: subprocess.Popen[str]) -> dict[str, float]:
    out, err = syncing.communicate(timeout=600)
    if syncing.returncode:
        raise RuntimeError(f"the sync ended with {syncing.returncode}: {err[-2000:]}")
    found: dict[str, float] = json.loads(out)
    return found


def _blank() -> dict[str, float]:
    return {figure.key: float("nan") for figure in CustomerSync.figures}
