"""graphile-worker: as it comes, and with its local queue, which takes hundreds of jobs at once."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from tests.benchmarks.contenders import SLOTS, Place
from tests.benchmarks.contenders.node import NodeContender, installed
from tests.benchmarks.events import Event


class GraphileWorker(NodeContender):
    packages = ("graphile-worker", "undici")
    program = "graphile_worker.mjs"
    done = "select not exists (select from graphile_worker.jobs)"
    record = "select graphile_worker.add_job('post', %(payload)s::json)"
    capture = "perform graphile_worker.add_job('post', payload)"

    def __init__(self, name: str, mode: str, settings: str) -> None:
        self.name = name
        self.mode = mode
        self.settings = (  # type: ignore[misc]  # each mode has its own
            f"concurrentJobs {SLOTS}, maxPoolSize 20, {settings}, no log, undici with {SLOTS} connections"
            " (docs: performance)"
        )

    def fill(self, place: Place, events: Sequence[Event]) -> None:
        with psycopg.connect(place.database_url) as session:
            session.execute(
                "select count(*) from graphile_worker.add_jobs(array("
                " select row('post', payload::json, null, null, null, null, null, null)::graphile_worker.job_spec"
                " from unnest(%s::text[]) as payload))",
                [[it.payload for it in events]],
            )


installed()  # so that what is missing is known when this module is loaded
CONTENDER = GraphileWorker("graphile-worker", "default", "one job at a time")
LOCAL_QUEUE = GraphileWorker(
    "graphile-worker with local queue",
    "local-queue",
    "localQueue.size 500, completeJobBatchDelay and failJobBatchDelay 0",
)
