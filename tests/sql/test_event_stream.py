"""`outbox.event` as a change-data-capture connector sees it: PostgreSQL's own `pgoutput`, read as a connector reads it.

The README's note on growing names the columns for an outbox router; what is asserted here is what it relies on.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator

import psycopg
import pytest

from outbox_worker.database import schema
from outbox_worker.demo.postgres import PostgresServer

PUBLICATION = "create publication outbox_event for table outbox.event with (publish = 'insert')"
RECORD = "select outbox.record_event('purchase', %s, '7', '{\"total\": 10.50}', '2026-11-21 10:00+00')"
READ = """
select data from pg_logical_slot_get_binary_changes(
    'connector', null, null, 'proto_version', '1', 'publication_names', 'outbox_event')
"""


@pytest.fixture(scope="module")
def logical_server(make_server: Callable[..., PostgresServer]) -> Iterator[PostgresServer]:
    with make_server(settings={"wal_level": "logical", "max_wal_senders": "2"}) as server:
        with psycopg.connect(server.url(), autocommit=True) as session:
            schema.install(session)
            session.execute(PUBLICATION)
            session.execute("select pg_create_logical_replication_slot('connector', 'pgoutput')")
        yield server


def test_the_stream_has_the_events_in_the_order_of_their_commits(logical_server: PostgresServer) -> None:
    url = logical_server.url()
    with psycopg.connect(url) as first, psycopg.connect(url) as second, psycopg.connect(url, autocommit=True) as reader:
        first.execute(RECORD, ["begun first"])
        second.execute(RECORD, ["committed first"])
        second.commit()
        first.commit()
        events = list(streamed(reader))
    assert [it["event_id"] for it in events] == ["purchase:committed first", "purchase:begun first"]
    assert int(events[0]["sequence"] or 0) > int(events[1]["sequence"] or 0)


def test_every_column_that_the_router_is_told_of_is_in_the_stream(logical_server: PostgresServer) -> None:
    with psycopg.connect(logical_server.url(), autocommit=True) as session:
        session.execute(RECORD, ["1234"])
        [event] = streamed(session)
    assert {name: event[name] for name in ("event_id", "kind", "source_id", "customer_id", "historic")} == {
        "event_id": "purchase:1234",
        "kind": "purchase",
        "source_id": "1234",
        "customer_id": "7",
        "historic": "f",
    }
    assert event["payload"] == '{"total": 10.50}', "the scale of the number went"
    assert json.loads(event["payload"]) and event["occurred_at"] and event["recorded_at"]


def test_what_is_rolled_back_recorded_again_or_tidied_away_is_not_in_the_stream(
    logical_server: PostgresServer,
) -> None:
    with psycopg.connect(logical_server.url()) as session:
        session.execute(RECORD, ["never"])
        session.rollback()
        session.execute(RECORD, ["once"])
        session.execute(RECORD, ["once"])
        session.execute("update outbox.delivery set state = 'dead', reason = 'refused'")
        session.execute("delete from outbox.event where event_id = 'purchase:once'")
        session.commit()
        assert [it["event_id"] for it in streamed(session)] == ["purchase:once"]


def streamed(session: psycopg.Connection) -> Iterator[dict[str, str | None]]:
    """Take the inserted rows from the slot: messages Relation and Insert of the logical replication protocol."""
    columns: dict[int, list[str]] = {}
    for (data,) in session.execute(READ, binary=True).fetchall():
        kind, (relation,) = data[:1], struct.unpack_from(">I", data, 1) if len(data) > 4 else (0,)
        if kind == b"R":
            columns[relation] = list(_columns(data[5:]))
        elif kind == b"I":
            yield dict(zip(columns[relation], _values(data[6:]), strict=True))
        else:
            assert kind in b"BCOY", f"message {kind!r} is no insert"


def _columns(data: bytes) -> Iterator[str]:
    _, _, rest = data.split(b"\0", 2)  # schema, table
    (count,) = struct.unpack_from(">H", rest, 1)
    rest = rest[3:]
    for _ in range(count):
        name, _, rest = rest[1:].partition(b"\0")
        yield name.decode()
        rest = rest[8:]  # type and its modifier


def _values(data: bytes) -> Iterator[str | None]:
    (count,) = struct.unpack_from(">H", data)
    data = data[2:]
    for _ in range(count):
        if data[:1] == b"n":
            yield None
            data = data[1:]
            continue
        (length,) = struct.unpack_from(">I", data, 1)
        yield data[5 : 5 + length].decode()
        data = data[5 + length :]
