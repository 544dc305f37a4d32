"""pg-boss: it polls, every half second at most, so a full batch tells its worker to fetch again at once."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from tests.benchmarks.contenders import SLOTS, Place
from tests.benchmarks.contenders.node import NodeContender, installed
from tests.benchmarks.events import Event


class PgBoss(NodeContender):
    name = "pg-boss"
    packages = ("pg-boss", "undici")
    program = "pg_boss.mjs"
    mode = "run"
    settings = (
        "batchSize 1000, pollingIntervalSeconds 0.5 (its least), notifyWorker after a full batch,"
        f" undici with {SLOTS} connections (docs: workers)"
    )
    done = "select not exists (select from pgboss.job where name = 'post' and state < 'completed')"
    record = "insert into pgboss.job (name, data) values ('post', %(payload)s::jsonb)"
    capture = "insert into pgboss.job (name, data) values ('post', payload)"

    def fill(self, place: Place, events: Sequence[Event]) -> None:
        with psycopg.connect(place.database_url) as session:
            session.execute(
                "insert into pgboss.job (name, data) select 'post', payload::jsonb from unnest(%s::text[]) as payload",
                [[it.payload for it in events]],
            )


installed()  # so that what is missing is known when this module is loaded
CONTENDER = PgBoss()
