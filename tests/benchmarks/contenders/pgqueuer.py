"""pgqueuer, run as its guide to programmatic runs has it, and aiohttp with connections kept alive.

(Its command does the same; with the typer of today, 0.29, that of 1.6.0 ends in its own option for the log's level.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
import asyncpg
import pgqueuer
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from tests.benchmarks.contenders import DATABASE, RECEIVER, SLOTS, Command, Contender, Place, headers, python, told
from tests.benchmarks.events import Event

BATCH_SIZE = 50  # the fastest of 10, 25, 50, 100 and 200, with and without max_concurrent_tasks


class PgQueuerContender(Contender):
    name = "pgqueuer"
    packages = ("pgqueuer", "asyncpg", "aiohttp", "uvloop")
    settings = (
        f"batch_size = {BATCH_SIZE}, `pgq autovac`, durability durable, one asyncpg connection, uvloop,"
        f" aiohttp with {SLOTS} connections (docs: guides/performance-tuning)"
    )
    done = "select not exists (select from pgqueuer)"
    record = (  # what Queries.enqueue executes for one job, without the arrays
        "with inserted as ("
        " insert into pgqueuer (priority, entrypoint, payload, execute_after, status)"
        " values (0, 'post', convert_to(%(payload)s, 'UTF8'), now(), 'queued') returning id, entrypoint, priority)"
        " insert into pgqueuer_log (job_id, status, entrypoint, priority)"
        " select id, 'queued', entrypoint, priority from inserted"
    )
    capture = (
        "with inserted as ("
        " insert into pgqueuer (priority, entrypoint, payload, execute_after, status)"
        " values (0, 'post', convert_to(payload::text, 'UTF8'), now(), 'queued') returning id, entrypoint, priority)"
        " insert into pgqueuer_log (job_id, status, entrypoint, priority)"
        " select id, 'queued', entrypoint, priority from inserted"
    )

    def install(self, place: Place) -> None:
        async def install() -> None:
            async with _queries(place.database_url) as queries:
                await queries.install()
                await queries.optimize_autovacuum()

        asyncio.run(install())

    def fill(self, place: Place, events: Sequence[Event]) -> None:
        async def fill() -> None:
            async with _queries(place.database_url) as queries:
                await queries.enqueue(["post"] * len(events), [it.payload.encode() for it in events], [0] * len(events))

        asyncio.run(fill())

    def command(self, place: Place) -> Command:
        return python(place, "-m", __name__)


@asynccontextmanager
async def _queries(database_url: str) -> AsyncIterator[Queries]:
    connection = await asyncpg.connect(database_url)
    try:
        yield Queries(AsyncpgDriver(connection))
    finally:
        await connection.close()


@asynccontextmanager
async def worker() -> AsyncIterator[PgQueuer]:
    """Set up what the worker process runs."""
    url = told(RECEIVER)
    connection = await asyncpg.connect(told(DATABASE))
    connector = aiohttp.TCPConnector(limit=SLOTS)
    async with aiohttp.ClientSession(connector=connector) as client:
        pgq = PgQueuer(AsyncpgDriver(connection))

        @pgq.entrypoint("post")
        async def post(job: Job) -> None:
            async with client.post(url, data=job.payload, headers=headers(job.id)) as response:
                response.raise_for_status()
                await response.read()

        yield pgq
    await connection.close()


CONTENDER = PgQueuerContender()

if __name__ == "__main__":
    uvloop.run(pgqueuer.run(worker, batch_size=BATCH_SIZE))
