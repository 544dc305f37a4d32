"""The accounting side of these tests: sales as a till makes them, and what the outbox has of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg

Session = psycopg.Connection[Any]
Connect = Callable[..., Session]
T = TypeVar("T")

PATIENCE_S = 20.0
DOORBELL = 122550254464888


def add_customer(session: Session, phone: str | None = "+380501234567") -> int:
    """Add a customer with a bonus account."""
    number = value(session, "insert into accounting.customer (phone) values (%s) returning customer_id", phone)
    session.execute("insert into accounting.bonus_account (customer_id) values (%s)", [number])
    return int(number)


def sell(session: Session, customer: int | None, *, accrued: str = "1.00", name: str = "Чай") -> int:
    """Record a purchase of two lines, and what is accrued for it, in one transaction (or inside the open one)."""
    with session.transaction():
        purchase = add_purchase(session, customer)
        session.execute(
            "insert into accounting.purchase_line (purchase_id, line_number, sku, name, quantity, price, amount)"
            " values (%(id)s, 1, 'A1', %(name)s, 1.000, 10.00, 10.00), (%(id)s, 2, 'B2', 'Coffee', 2.500, 8.00, 20.00)",
            {"id": purchase, "name": name},
        )
        if accrued and customer is not None:
            enter(session, customer, purchase, "accrual", accrued)
        return purchase


def add_purchase(session: Session, customer: int | None, total: str = "30.00") -> int:
    """Record a purchase without lines."""
    statement = "insert into accounting.purchase (customer_id, total) values (%s, %s) returning purchase_id"
    return int(value(session, statement, customer, total))


def enter(session: Session, customer: int, purchase: int | None, kind: str, amount: str) -> int:
    """Enter an accrual or a redemption; accounting moves the balance."""
    statement = (
        "insert into accounting.bonus_entry (customer_id, purchase_id, kind, code, amount)"
        " values (%s, %s, %s, gen_random_uuid()::text, %s) returning bonus_entry_id"
    )
    return int(value(session, statement, customer, purchase, kind, amount))


def record(session: Session, source_id: str | None = "1", **changes: Any) -> bool:
    """Record a purchase at the door."""
    given = {"kind": "purchase", "customer_id": "7", "payload": "{}", "occurred_at": "2026-01-02 03:04:05+02"}
    fact = given | {"source_id": source_id, "historic": False} | changes
    return bool(
        value(
            session,
            "select outbox.record_event(%(kind)s, %(source_id)s, %(customer_id)s, %(payload)s, %(occurred_at)s,"
            " %(historic)s)",
            fact,
        )
    )


def value(session: Session, statement: str, *parameters: Any) -> Any:
    """Return the one value that a statement brings."""
    given = parameters[0] if parameters and isinstance(parameters[0], dict) else parameters
    row = session.execute(statement, given).fetchone()
    assert row is not None, statement
    return row[0]


def column(session: Session, statement: str, *parameters: Any) -> list[Any]:
    """Return the first column of what a statement brings."""
    return [row[0] for row in session.execute(statement, parameters)]


def event_ids(session: Session) -> list[str]:
    """Return the events in order of recording."""
    return column(session, "select event_id from outbox.event order by sequence")


def duplicates(session: Session) -> list[str]:
    """Return the events that were refused because they were known."""
    return column(session, "select event_id from outbox.duplicate order by duplicate_id")


def failures(session: Session) -> list[tuple[str, str | None, str]]:
    """Return kind, source id and SQLSTATE of what could not be captured."""
    statement = "select kind, source_id, sqlstate from outbox.capture_failure order by capture_failure_id"
    return [(kind, source_id, sqlstate) for kind, source_id, sqlstate in session.execute(statement)]


def in_outbox(session: Session) -> dict[str, int]:
    """Return how many rows each table has that capture writes to."""
    tables = ("event", "delivery", "duplicate", "capture_failure")
    return {table: value(session, f"select count(*) from outbox.{table}") for table in tables}


def until(condition: Callable[[], T | None], what: str) -> T:
    """Return what the condition returns as soon as that is true."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < give_up_at, f"waited {PATIENCE_S} s in vain for {what}"
        time.sleep(0.002)
    return found


def until_waiting(observer: Session, session: Session) -> None:
    """Return when a session is seen waiting for a lock."""
    statement = "select wait_event_type = 'Lock' from pg_stat_activity where pid = %s"
    until(lambda: value(observer, statement, session.info.backend_pid), "a session that waits for a lock")


@contextmanager
def beside(act: Callable[[], T]) -> Iterator[Future[T]]:
    """Do something in another thread; at the end of the block it must be over."""
    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(act)
        yield future
        future.result(PATIENCE_S)
