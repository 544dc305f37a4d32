"""The writers' half of the doorbell: silent while a relay is awake, heard while it sleeps, and nobody waits for it."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from outbox_worker.database import schema
from outbox_worker.demo.postgres import PostgresServer
from tests.sql.till import DOORBELL, Connect, Session, add_customer, in_outbox, record, sell, value

NOTIFICATIONS_PAGES = 64  # the least that PostgreSQL allows


def fall_asleep(relay: Session) -> bool:
    return bool(value(relay, "select pg_try_advisory_lock(%s)", DOORBELL))


def rung(relay: Session, other: Session) -> int:
    """Count the rings so far: notifications come in order of commit, so all are there when the last one is."""
    other.execute("select pg_notify('outbox', 'the last one')")
    for count, notification in enumerate(relay.notifies(timeout=20)):
        if notification.payload == "the last one":
            return count
    raise AssertionError("the notification did not come")


@pytest.fixture
def relay(connect: Connect) -> Session:
    """A relay's connection: it listens, and is awake."""
    session = connect()
    session.execute("listen outbox")
    return session


def test_nobody_rings_while_the_relay_is_awake(relay: Session, connect: Connect, dba: Session, customer: int) -> None:
    sell(connect(), customer)
    assert rung(relay, dba) == 0


def test_every_writer_rings_once_while_the_relay_sleeps(
    relay: Session, connect: Connect, dba: Session, customer: int
) -> None:
    assert fall_asleep(relay)
    for _ in range(3):
        sell(connect(), customer)
    assert rung(relay, dba) == 3
    relay.execute("select pg_advisory_unlock(%s)", [DOORBELL])
    sell(connect(), customer)
    assert rung(relay, dba) == 0


def test_a_sale_that_is_rolled_back_does_not_ring(
    relay: Session, connect: Connect, dba: Session, customer: int
) -> None:
    assert fall_asleep(relay)
    with connect() as till, till.transaction(force_rollback=True):
        sell(till, customer)
        till.execute("set constraints all immediate")
    assert rung(relay, dba) == 0


def test_a_relay_cannot_fall_asleep_before_a_writer_that_did_not_ring_has_committed(
    relay: Session, connect: Connect, dba: Session, customer: int
) -> None:
    till = connect()
    till.execute("begin")
    sell(till, customer)
    till.execute("set constraints all immediate")
    assert not fall_asleep(relay)
    till.execute("commit")
    assert fall_asleep(relay)
    assert in_outbox(relay)["event"] == 3, "and by then it sees what the writer has written"


def test_a_writer_that_took_back_what_it_wrote_keeps_no_relay_awake(
    relay: Session, connect: Connect, customer: int
) -> None:
    till = connect()
    till.execute("begin; savepoint before")
    sell(till, customer)
    till.execute("set constraints all immediate; rollback to before")
    assert fall_asleep(relay)


def test_nobody_waits_for_the_bell(relay: Session, connect: Connect, dba: Session, customer: int) -> None:
    """Who would have to wait has 50 milliseconds; a capture that fails for that is kept as a failure."""
    assert fall_asleep(relay)
    tills = [connect() for _ in range(3)]
    for till in tills:
        till.execute("set lock_timeout = '50ms'; begin")
        sell(till, add_customer(till))
        till.execute("set constraints all immediate")
    for till in tills:
        till.execute("commit")
    assert in_outbox(dba) == {"event": 9, "delivery": 12, "duplicate": 0, "capture_failure": 0}


def test_every_relay_is_woken_where_several_listen(relay: Session, connect: Connect, dba: Session) -> None:
    other = connect()
    other.execute("listen outbox")
    assert fall_asleep(relay)
    assert not fall_asleep(other), "one relay sleeps with the lock"
    record(dba)
    assert rung(relay, dba) == 1
    assert rung(other, dba) == 1


def test_a_relay_that_dies_in_its_sleep_leaves_no_bell_behind(connect: Connect, dba: Session, relay: Session) -> None:
    dead = connect()
    assert fall_asleep(dead)
    dead.close()
    dba.execute("select pg_advisory_lock(%s)", [DOORBELL])  # when that is had, the server has noticed
    dba.execute("select pg_advisory_unlock(%s)", [DOORBELL])
    record(dba)
    assert rung(relay, dba) == 0


def test_where_transactions_can_be_prepared_the_bell_is_silent_and_a_sale_can_be_prepared(
    make_server: Callable[..., PostgresServer], connect: Connect
) -> None:
    with make_server(settings={"max_prepared_transactions": "10"}) as server:
        dba, relay, till = (connect(server.url()) for _ in range(3))
        _install(dba)
        customer = add_customer(dba)
        relay.execute("listen outbox")
        assert fall_asleep(relay)
        till.execute("begin")
        sell(till, customer)
        till.execute("prepare transaction 'sale'")
        assert in_outbox(dba)["event"] == 0
        dba.execute("commit prepared 'sale'")
        assert in_outbox(dba) == {"event": 3, "delivery": 4, "duplicate": 0, "capture_failure": 0}
        assert rung(relay, dba) == 0


def test_a_sale_commits_while_somebody_else_keeps_the_servers_queue_of_notifications_full(
    make_server: Callable[..., PostgresServer], connect: Connect
) -> None:
    """A NOTIFY that finds the queue full fails at commit, and takes the sale with it: nothing can catch it there."""
    if value(connect(), "show server_version_num") < "170000":
        pytest.skip("the queue holds 8 GB where max_notify_queue_pages cannot be set")
    with make_server(settings={"max_notify_queue_pages": str(NOTIFICATIONS_PAGES)}) as server:
        dba, relay, idler = (connect(server.url()) for _ in range(3))
        _install(dba)
        customer = add_customer(dba)
        relay.execute("listen outbox")
        idler.execute("listen anything")
        idler.execute("begin; select 1")  # while this is open, it reads nothing
        fill = f"do 'begin for i in 1..{2 * NOTIFICATIONS_PAGES} loop perform pg_notify(i::text, repeat(''x'', 7900));"
        with pytest.raises(psycopg.errors.OperationalError, match="too many notifications"):
            dba.execute(f"{fill} commit; end loop; end'")
        assert fall_asleep(relay)
        sell(dba, customer)
        assert in_outbox(dba) == {"event": 3, "delivery": 4, "duplicate": 0, "capture_failure": 0}


def _install(dba: Session) -> None:
    schema.install(dba)
    schema.install_reference(dba)
