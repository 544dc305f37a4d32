"""What the customer sync asks for each page goes by indexes: of ours and of accounting's, analyzed or not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, text

from outbox_worker.database import clients, mapping_keys, settlement
from outbox_worker.database.engine import engine, transaction
from outbox_worker.rules.clients import Client

COUNT = 3_000
BIG = ("customer", "client", "customer_phone", "event", "purchase", "bonus_account")
FILL = f"""
insert into accounting.customer (phone) select '+38050' || 1000000 + it from generate_series(1, {COUNT}) it;
insert into outbox.customer_phone select customer_id::text, phone, phone from accounting.customer;
insert into outbox.client (customer_id, client_id, phone, digest, history_sent_at, balance_sent_at, released_at)
select customer_id::text, customer_id::text, phone, '', now(), now(), now() from accounting.customer;
insert into accounting.bonus_account select customer_id from accounting.customer;
insert into accounting.purchase (customer_id, total) select customer_id, 1 from accounting.customer;
update outbox.client set history_sent_at = null, balance_sent_at = null where customer_id < '12';
"""


@pytest.fixture(params=["analyzed", "not analyzed"])
def connection(
    request: pytest.FixtureRequest, database_url: str, connect: Callable[..., psycopg.Connection[Any]]
) -> Iterator[Connection]:
    session = connect()
    session.execute(FILL)
    if request.param == "analyzed":
        session.execute("analyze")
    with transaction(engine(database_url, application_name="plans")) as connection:
        yield connection


def walked(connection: Connection, statement: str, given: dict[str, Any]) -> list[str]:
    """Return the big tables that a statement walks through from one end to the other."""
    plan = "\n".join(connection.scalars(text(f"explain {statement}"), given))
    return [name for name in re.findall(r"Seq Scan on (\w+)", plan) if name in BIG]


def test_clients_and_customers_are_looked_up_one_by_one(connection: Connection) -> None:
    clients.stage(connection, [Client(client_id=str(n), phone=f"+38050{1000000 + n}", digest=b"2") for n in range(250)])
    keys = mapping_keys.read(connection)
    page = {"keys": ["id:1"] * 1000, "client_ids": ["1"] * 1000, "phones": [None] * 1000, "digests": [b"1"] * 1000}
    links = {"customer_ids": [str(n) for n in range(1, 101)], "since": "2026-01-01"}
    assert walked(connection, clients._DIFFERING.text, page) == []
    assert walked(connection, clients._KNOWN.format(customer=keys.customer), {}) == []
    assert walked(connection, settlement._HISTORY.format(purchase=keys.purchase), links) == []
    assert walked(connection, settlement._BALANCES.format(balance=keys.balance), links) == []
    assert walked(connection, settlement._UNSETTLED.text, {"after": "", "count_max": 100}) == []
