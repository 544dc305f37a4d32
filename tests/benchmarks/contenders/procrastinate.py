"""procrastinate, run by its own command, and aiohttp with connections kept alive."""

from __future__ import annotations

from collections.abc import Sequence

import aiohttp
import procrastinate

from tests.benchmarks.contenders import DATABASE, RECEIVER, SLOTS, Command, Contender, Place, headers, python, told
from tests.benchmarks.events import Event

TASK = "post"


class Procrastinate(Contender):
    name = "procrastinate"
    packages = ("procrastinate", "psycopg", "aiohttp")
    settings = (
        f"procrastinate worker --concurrency {SLOTS} --delete-jobs successful, log at level warning,"
        f" aiohttp with {SLOTS} connections (docs: howto/production)"
    )
    done = "select not exists (select from procrastinate_jobs where status in ('todo', 'doing'))"
    record = (
        "select procrastinate_defer_jobs_v1(array[row('default', 'post', 0, null, null,"
        " json_build_object('payload', %(payload)s::text), null)]::procrastinate_job_to_defer_v1[])"
    )
    capture = (
        "perform procrastinate_defer_jobs_v1(array[row('default', 'post', 0, null, null,"
        " json_build_object('payload', payload::text), null)]::procrastinate_job_to_defer_v1[])"
    )

    def install(self, place: Place) -> None:
        with _app(place.database_url).open() as opened:
            opened.schema_manager.apply_schema()

    def fill(self, place: Place, events: Sequence[Event]) -> None:
        with _app(place.database_url).open() as opened:
            opened.configure_task(TASK).batch_defer(*({"payload": it.payload} for it in events))

    def command(self, place: Place) -> Command:
        options = ["--concurrency", str(SLOTS), "--delete-jobs", "successful"]
        return python(
            place, "-m", "procrastinate", "--app", f"{__name__}.app", "--log-level", "warning", "worker", *options
        )


def _app(database_url: str) -> procrastinate.App:
    return procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=database_url))


def __getattr__(name: str) -> procrastinate.App:
    """Make the worker process's application when its command asks for it; here nothing is told of a place."""
    if name != "app":
        raise AttributeError(name)
    worker = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=told(DATABASE)))
    url, clients = told(RECEIVER), []

    @worker.task(name=TASK, pass_context=True)
    async def post(context: procrastinate.JobContext, payload: str) -> None:
        if not clients:
            clients.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=SLOTS)))
        async with clients[0].post(url, data=payload.encode(), headers=headers(context.job.id)) as response:
            response.raise_for_status()
            await response.read()

    return worker


CONTENDER = Procrastinate()
