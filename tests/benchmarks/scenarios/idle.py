"""Nothing to do: what a worker asks of the database and of the processor while it waits.

The statements are those that the server logs for the worker's database; the processor time is that of the worker
process with its children and of the sessions that it holds.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.benchmarks.contenders import Contender
from tests.benchmarks.events import events
from tests.benchmarks.meters import processor_s
from tests.benchmarks.receivers import Stamper
from tests.benchmarks.scenarios import Figure, Goal, Medians, Scenario, at_most, beside_best
from tests.benchmarks.world import Worker, World, record, wait_for

ARRIVAL_S_MAX = 60.0
SETTLE_S = 15.0  # a worker's start is not its idleness
STATEMENT = re.compile(rb"LOG:  (statement|execute [^:]*): ")
QUERIES = Figure("queries_per_s", "statements per s", 2)
PERCENT = Figure("percent", "% of a processor", 3)
QUERIES_MAX = 1.0
PERCENT_MAX = 0.1


class Idle(Scenario):
    name = "idle"
    figures = (
        QUERIES,
        PERCENT,
        Figure("worker_percent", "of that the worker", 3),
        Figure("server_percent", "its sessions", 3),
    )

    def __init__(self, seconds: float, settle_s: float = SETTLE_S) -> None:
        self.title = f"an idle worker for {seconds:g} s"
        self._seconds = seconds
        self._settle_s = settle_s

    def measure(self, world: World, contender: Contender) -> dict[str, float]:
        with world.stage(Stamper) as stage:
            contender.install(stage.place)
            world.session.execute(f"alter database {stage.dbname} set log_statement = 'all'")  # type: ignore[arg-type]
            with Worker(contender, stage.place) as worker:
                record(contender, stage.place.database_url, events(1))
                wait_for(stage.receiver, 1, worker, ARRIVAL_S_MAX)
                time.sleep(self._settle_s)
                return self._watch(world, worker, stage.dbname)

    def _watch(self, world: World, worker: Worker, dbname: str) -> dict[str, float]:
        log = getattr(world.server, "log", None)
        count, worker_s, sessions_s = statement_count(log), worker.processor_s(), _sessions_s(world, dbname)
        time.sleep(self._seconds)
        worker_share = (worker.processor_s() - worker_s) / self._seconds * 100
        later_s = _sessions_s(world, dbname)
        server_s = sum(later_s[pid] - before_s for pid, before_s in sessions_s.items() if pid in later_s)
        server_share = server_s / self._seconds * 100
        worker.check()
        return {
            "queries_per_s": (statement_count(log) - count) / self._seconds,
            "percent": worker_share + server_share,
            "worker_percent": worker_share,
            "server_percent": server_share,
        }

    def goals(self, medians: Medians, ratios: Medians) -> Iterator[Goal]:
        text = f"idle, statements per s: at most {QUERIES_MAX:g}"
        yield from at_most(medians, QUERIES, text, QUERIES_MAX)
        text = f"idle, worker and its sessions, % of a processor: at most {PERCENT_MAX:g}"
        yield from at_most(medians, PERCENT, text, PERCENT_MAX)
        yield from beside_best(medians, PERCENT, "the same: at most the best peer's")


def _sessions_s(world: World, dbname: str) -> dict[int, float]:
    """Return the processor time of each session in a database; of none when the server is on another machine."""
    query = "select pid from pg_stat_activity where datname = %s and backend_type = 'client backend'"
    found_s = {}
    for (pid,) in world.session.execute(query, [dbname]) if world.processes else ():
        with suppress(OSError):  # it has just ended
            found_s[pid] = processor_s(pid)
    return found_s


def statement_count(log: Path | None) -> float:
    """Count the statements in the server's log; not a number when the log is not at hand."""
    return len(STATEMENT.findall(log.read_bytes())) if log else float("nan")
