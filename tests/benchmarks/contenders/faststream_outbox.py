"""faststream-outbox with its batched completion, run by FastStream, and aiohttp with connections kept alive."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import aiohttp
import psycopg
import uvloop
from faststream import FastStream
from faststream_outbox import OutboxBroker, make_outbox_table, outbox_autovacuum_ddl
from faststream_outbox.annotations import OutboxMessage
from sqlalchemy import MetaData
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.schema import CreateIndex, CreateTable

from tests.benchmarks.contenders import DATABASE, RECEIVER, SLOTS, Command, Contender, Place, headers, python, told
from tests.benchmarks.events import Event

WORKERS = 32
BATCH_SIZE = 100
TABLE = make_outbox_table(MetaData())


class FastStreamOutbox(Contender):
    name = "faststream-outbox"
    packages = ("faststream-outbox", "faststream", "asyncpg", "aiohttp", "uvloop")
    settings = (
        f"max_workers = {WORKERS}, fetch_batch_size = terminal_flush_batch_size = {BATCH_SIZE},"
        " min_fetch_interval = 0.001, max_fetch_interval = 1, outbox_autovacuum_ddl, no log of messages, uvloop,"
        f" aiohttp with {SLOTS} connections (docs: concepts/performance)"
    )
    done = "select not exists (select from outbox)"
    record = (
        "with inserted as (insert into outbox (queue, payload, headers)"
        " values ('events', convert_to(%(payload)s, 'UTF8'), '{\"content-type\": \"text/plain\"}') returning queue)"
        " select pg_notify('outbox_outbox', queue) from inserted"
    )
    capture = (
        "insert into outbox (queue, payload, headers)"
        " values ('events', convert_to(payload::text, 'UTF8'), '{\"content-type\": \"text/plain\"}');"
        " perform pg_notify('outbox_outbox', 'events')"
    )

    def install(self, place: Place) -> None:
        dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own
        statements = [CreateTable(TABLE), *(CreateIndex(index) for index in TABLE.indexes)]
        with psycopg.connect(place.database_url) as session:
            for statement in statements:
                session.execute(str(statement.compile(dialect=dialect)))  # type: ignore[arg-type]  # rendered
            session.execute(outbox_autovacuum_ddl(TABLE.name))  # type: ignore[arg-type]  # rendered

    def fill(self, place: Place, events: Sequence[Event]) -> None:
        with psycopg.connect(place.database_url) as session:
            session.execute(
                "insert into outbox (queue, payload, headers)"
                " select 'events', convert_to(payload, 'UTF8'), '{\"content-type\": \"text/plain\"}'"
                " from unnest(%s::text[]) as payload",
                [[it.payload for it in events]],
            )

    def command(self, place: Place) -> Command:
        return python(place, "-m", __name__)


async def main() -> None:
    """Run the worker."""
    url = told(RECEIVER)
    dsn = told(DATABASE).replace("postgresql://", "postgresql+asyncpg://", 1)
    engine = create_async_engine(dsn, pool_size=WORKERS + 1, max_overflow=0)
    broker = OutboxBroker(engine, outbox_table=TABLE, logger=None)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=SLOTS)) as client:

        @broker.subscriber(
            "events",
            max_workers=WORKERS,
            fetch_batch_size=BATCH_SIZE,
            terminal_flush_batch_size=BATCH_SIZE,
            min_fetch_interval=0.001,
            max_fetch_interval=1.0,
        )
        async def post(body: str, message: OutboxMessage) -> None:
            async with client.post(url, data=body.encode(), headers=headers(message.message_id)) as response:
                response.raise_for_status()
                await response.read()

        await FastStream(broker, logger=None).run()


CONTENDER = FastStreamOutbox()

if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(main())
