"""The home-made solution that is usual: a table, SKIP LOCKED, a pool of threads with requests, LISTEN for what is new.

It holds its transaction open over the requests, keeps no journal and no order per customer, and sends everything of a
batch again when it dies: that is what is usual too.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event as Flag
from threading import local

import psycopg
import requests

from tests.benchmarks.contenders import DATABASE, RECEIVER, Command, Contender, Place, headers, python, told
from tests.benchmarks.events import Event

THREADS = 16
BATCH_SIZE = 100
SCHEMA = """
create table outbox (id bigint primary key generated always as identity, payload text not null,
                     created_at timestamptz not null default now());
create function outbox_notify() returns trigger language plpgsql as $$
begin
    perform pg_notify('outbox', '');
    return null;
end
$$;
create trigger outbox_notify after insert on outbox for each statement execute function outbox_notify();
"""


class ByHand(Contender):
    name = "by hand"
    packages = ("psycopg", "requests")
    settings = f"for update skip locked limit {BATCH_SIZE}, {THREADS} threads with a requests session each, delete"
    done = "select not exists (select from outbox)"
    record = "insert into outbox (payload) values (%(payload)s)"
    capture = "insert into outbox (payload) values (payload::text)"

    def install(self, place: Place) -> None:
        with psycopg.connect(place.database_url) as session:
            session.execute(SCHEMA)

    def fill(self, place: Place, events: Sequence[Event]) -> None:
        with psycopg.connect(place.database_url) as session:
            session.execute("insert into outbox (payload) select unnest(%s::text[])", [[it.payload for it in events]])

    def command(self, place: Place) -> Command:
        return python(place, "-m", __name__)


_of_thread = local()


def _post(url: str, number: int, payload: str) -> int:
    if not hasattr(_of_thread, "client"):
        _of_thread.client = requests.Session()
    _of_thread.client.post(url, data=payload.encode(), headers=headers(number), timeout=10).raise_for_status()
    return number


def main() -> None:
    """Run the worker."""
    stop = Flag()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    url = told(RECEIVER)
    with (
        psycopg.connect(told(DATABASE)) as session,
        psycopg.connect(told(DATABASE), autocommit=True) as bell,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        bell.execute("listen outbox")
        while not stop.is_set():
            with session.transaction():
                rows = session.execute(
                    "select id, payload from outbox order by id limit %s for update skip locked", [BATCH_SIZE]
                ).fetchall()
                sent = list(pool.map(lambda row: _post(url, *row), rows))
                if sent:
                    session.execute("delete from outbox where id = any (%s)", [sent])
            if not rows:
                for _ in bell.notifies(timeout=1, stop_after=1):
                    pass


CONTENDER = ByHand()

if __name__ == "__main__":
    main()
