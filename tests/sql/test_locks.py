"""Accounting never waits for us: not for a relay, not for a vacuum, not for an installation.

Each till here gives up after 50 milliseconds when it has to wait for a lock. A capture that gives up is kept as a
failure, so a sale that waited would be seen in the outbox, and one that waited outside of a capture would fail.
"""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

from outbox_worker.database import schema
from tests.sql.catalogue import catalogue
from tests.sql.till import Connect, Session, beside, in_outbox, sell, until, until_waiting, value

SALE = {"event": 3, "delivery": 4, "duplicate": 0, "capture_failure": 0}


@pytest.fixture
def till(connect: Connect) -> Session:
    """A till that will not wait."""
    session = connect()
    session.execute("set lock_timeout = '50ms'")
    return session


def sell_much(session: Session, customer: int, count: int) -> None:
    statement = "insert into accounting.purchase (customer_id, total) select %s, 1 from generate_series(1, %s)"
    session.execute(statement, [customer, count])


def times(count: int) -> dict[str, int]:
    return {table: number * count for table, number in SALE.items()}


def test_sales_commit_while_housekeeping_holds_its_locks(
    till: Session, connect: Connect, dba: Session, customer: int
) -> None:
    """Its batch is not yet committed; only who records one of those very old facts again would wait for that."""
    sell(till, customer)
    dba.execute("delete from outbox.delivery; update outbox.event set recorded_at = recorded_at - interval '1 year'")
    keeper = connect()
    keeper.execute("begin")
    assert value(keeper, "select outbox.forget_events('-infinity', now() - interval '180 days', 500)") == 2
    value(keeper, "select outbox.forget_journals(now() - interval '180 days', 500)")
    for _ in range(3):
        sell(till, customer)
    keeper.execute("commit")
    assert in_outbox(dba)["event"] == 12
    assert in_outbox(dba)["capture_failure"] == 0


def test_sales_of_a_customer_commit_while_a_relay_holds_all_its_locks_on_that_customer(
    till: Session, connect: Connect, dba: Session, customer: int
) -> None:
    """What a turn does, in its order: conclude, note the destination, claim; and not yet committed."""
    for _ in range(3):
        sell(till, customer)
    relay = connect()
    relay.execute("begin")
    relay.execute("delete from outbox.delivery where operation = 'purchase_webhook'")
    relay.execute("update outbox.delivery set attempt_count = 1 where operation = 'add_purchase'")
    relay.execute("update outbox.destination set failure_count = failure_count + 1")
    relay.execute("update outbox.route set enabled = enabled")
    relay.execute("select from outbox.delivery for update")
    relay.execute(
        "insert into outbox.claim (lane, delivery_id, number, purpose, worker)"
        " select lane, min(delivery_id), 1, 'send', gen_random_uuid() from outbox.delivery group by lane"
    )
    for _ in range(3):
        sell(till, customer)
    relay.execute("commit")
    assert in_outbox(dba)["event"] == 18
    assert in_outbox(dba)["capture_failure"] == 0


def test_a_relay_that_commits_slowly_finds_nothing_locked_by_an_open_sale(
    till: Session, connect: Connect, dba: Session, customer: int
) -> None:
    """The other way round: what a sale holds makes no relay wait, and its order in the lane is kept."""
    sell(till, customer)
    till.execute("begin")
    sell(till, customer)
    till.execute("set constraints all immediate")
    relay = connect()
    relay.execute("set lock_timeout = '50ms'")
    relay.execute("delete from outbox.delivery; update outbox.destination set failure_count = 1")
    till.execute("commit")
    assert in_outbox(dba) == times(2) | {"delivery": 4}


@pytest.mark.parametrize("table", ["event", "delivery", "route"])
def test_sales_commit_while_a_table_of_the_outbox_is_vacuumed(
    till: Session, connect: Connect, dba: Session, customer: int, table: str
) -> None:
    dba.execute(
        "insert into accounting.purchase (customer_id, total) select %s, 1 from generate_series(1, 500)", [customer]
    )
    dba.execute("update outbox.route set enabled = enabled")
    before = in_outbox(dba)
    cleaner = connect()
    cleaner.execute("set vacuum_cost_delay = 100; set vacuum_cost_limit = 1; set vacuum_cost_page_hit = 10000")
    progress = "select phase from pg_stat_progress_vacuum where pid = %s"

    def vacuum() -> bool:
        try:
            cleaner.execute(f"vacuum outbox.{table}")
        except psycopg.errors.QueryCanceled:
            return False
        return True

    with beside(vacuum) as ended:
        until(lambda: dba.execute(progress, [cleaner.info.backend_pid]).fetchone(), "a vacuum under way")
        sell(till, customer)
        assert dba.execute(progress, [cleaner.info.backend_pid]).fetchone(), "it is still under way"
        dba.execute("select pg_cancel_backend(%s)", [cleaner.info.backend_pid])
    assert ended.result() is False
    after = in_outbox(dba)
    assert {name: after[name] - before[name] for name in after} == SALE


@pytest.mark.parametrize("table", ["event", "delivery", "claim"])
def test_a_vacuum_gives_no_pages_back_for_that_locks_out_those_who_insert(
    dba: Session, customer: int, table: str
) -> None:
    dba.execute(
        "insert into accounting.purchase (customer_id, total) select %s, 1 from generate_series(1, 200)", [customer]
    )
    dba.execute(
        "insert into outbox.claim (lane, delivery_id, number, purpose, worker)"
        " select i, i, 1, 'send', gen_random_uuid() from generate_series(1, 200) i"
    )
    dba.execute(f"delete from outbox.{table}")
    before = value(dba, f"select pg_relation_size('outbox.{table}')")
    dba.execute(f"vacuum outbox.{table}")
    assert value(dba, f"select pg_relation_size('outbox.{table}')") == before > 0


def test_to_install_again_disturbs_no_sale_and_is_disturbed_by_none(
    till: Session, connect: Connect, dba: Session, customer: int
) -> None:
    open_sale = connect()
    open_sale.execute("begin")
    sell(open_sale, customer)
    open_sale.execute("set constraints all immediate")  # it holds all the locks that a sale ever has
    with dba.transaction():
        schema.install(dba)
        sell(till, value(till, "insert into accounting.customer default values returning customer_id"), accrued="")
        sell(till, customer, accrued="")
    open_sale.execute("commit")
    assert in_outbox(dba) == {"event": 5, "delivery": 8, "duplicate": 0, "capture_failure": 0}


def test_an_installation_that_would_have_to_wait_gives_up_changes_nothing_and_disturbs_no_sale_meanwhile(
    till: Session, connect: Connect, dba: Session, customer: int
) -> None:
    before = catalogue(dba)
    reader, installer = connect(), connect()
    reader.execute("begin; select from outbox.backlog")

    def install() -> str:
        with pytest.raises(psycopg.errors.LockNotAvailable) as refused:
            schema.install(installer)
        return str(refused.value)

    with beside(install) as told:
        until_waiting(dba, installer)
        sell(till, customer)
    assert "lock timeout" in told.result()
    assert in_outbox(dba) == SALE
    assert catalogue(dba) == before


def test_a_mapping_that_would_have_to_wait_for_a_sale_gives_up_and_changes_nothing(
    connect: Connect, dba: Session, customer: int
) -> None:
    before = catalogue(dba)
    open_sale, installer = connect(), connect()
    open_sale.execute("begin")
    sell(open_sale, customer)  # its change of the balance was captured at once, through a view that is now in use
    with pytest.raises(psycopg.errors.LockNotAvailable):
        installer.execute(sql.SQL(schema.script("accounting/reference_mapping.sql")))
    open_sale.execute("commit")
    assert catalogue(dba) == before
