"""Housekeeping: what is old is forgotten, what is open stays, and nothing that was forgotten is ever sent again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from outbox_worker.runtime.housekeeping import Housekeeping
from outbox_worker.runtime.reconciliation import Terms, reconcile
from outbox_worker.runtime.rounds import BrokenOff, Ticking
from tests.database.rows import Rows
from tests.scenarios.shop import Shop
from tests.sql.till import record

KEEP = timedelta(days=180)
OLD = "200 days"
Session = psycopg.Connection[Any]


class House:
    def __init__(self, session: Session, conninfo: str) -> None:
        self.session = session
        self.conninfo = conninfo
        self.rows = Rows(session)
        self.stop = Event()

    def keep(self, *, batch_max: int = 500, day: int = 2) -> dict[str, int]:
        """Keep house, with the rights of a worker; `day` is that of the month."""
        ticking = Ticking(datetime(2026, 3, day, tzinfo=UTC), datetime.now(UTC), self.stop, lambda: False)
        return dict(Housekeeping(self.conninfo, KEEP, batch_max, pause_s=0)(ticking))

    def age(self, interval: str = OLD) -> None:
        """Let everything have been recorded so long ago."""
        self.session.execute(f"update outbox.event set recorded_at = recorded_at - '{interval}'::interval")
        self.session.execute(f"update outbox.duplicate set refused_at = refused_at - '{interval}'::interval")
        self.session.execute(f"update outbox.act set acted_at = acted_at - '{interval}'::interval")

    def events(self) -> dict[str, bool]:
        """Return the events, with whether they have their story."""
        found = self.session.execute("select event_id, payload::text <> 'null' from outbox.event order by sequence")
        return dict(found.fetchall())

    def count(self, table: str) -> int:
        return int(self.rows.all(f"select count(*) from outbox.{table}")[0][0])


@pytest.fixture
def house(database_url: str, worker_login: dict[str, str], connect: Callable[..., Session]) -> House:
    return House(connect(), make_conninfo(database_url, **worker_login))


def delivered(house: House, number: int) -> str:
    """A purchase with its attempts and an act, all of it over."""
    event_id = house.rows.purchase(number)
    for operation in ("add_purchase", "purchase_webhook"):
        house.rows.delivered(event_id, operation)
    house.rows.do(
        "insert into outbox.act (act, event_id, actor, reason) values ('record', %s, 'olena', 'by hand')", event_id
    )
    return event_id


def test_of_an_old_event_its_name_is_left_and_a_younger_one_is_whole(house: House) -> None:
    old = delivered(house, 1)
    house.age()
    young = delivered(house, 2)
    house.age("100 days")
    house.rows.do("update outbox.event set recorded_at = recorded_at + interval '100 days' where event_id = %s", old)
    assert house.keep()["event_count"] == 1
    assert house.events() == {old: False, young: True}
    assert house.rows.all("select distinct event_id from outbox.attempt") == [(young,)]
    assert house.rows.all("select distinct event_id from outbox.act") == [(young,)]
    assert house.rows.all("select customer_id from outbox.event where event_id = %s", old) == [(None,)]


def test_what_was_forgotten_is_not_recorded_again_by_whomever(house: House, database_url: str) -> None:
    """By the door, by the trigger that sees the buyer named again, by reconciliation: the name is known."""
    shop = Shop(database_url)
    purchase = shop.buy(shop.customer(), accrued="1.20")
    shop.close()
    house.rows.do("delete from outbox.delivery")
    house.age()
    house.keep()
    before = house.events()
    assert before[f"purchase:{purchase}"] is False
    assert record(house.session, str(purchase)) is False
    house.rows.do("update accounting.purchase set customer_id = null")
    house.rows.do("update accounting.purchase set customer_id = 1")
    for table, column in (("purchase", "purchased_at"), ("bonus_entry", "entered_at"), ("bonus_account", "changed_at")):
        house.rows.do(f"update accounting.{table} set {column} = {column} - interval '200 days'")
    found = reconcile(house.conninfo, since=datetime.now(UTC) - timedelta(days=400), terms=Terms(all_balances=True))
    assert found.is_whole
    assert house.events() == before
    assert house.count("delivery") == 0
    assert house.count("duplicate") == 2


@pytest.mark.parametrize("state", ["pending", "in_doubt", "held", "dead", "waiting"])
def test_an_event_with_an_open_delivery_stays_and_is_forgotten_on_the_first_of_a_month(
    house: House, state: str
) -> None:
    event_id = house.rows.purchase(1)
    house.rows.delivered(event_id, "purchase_webhook")
    house.rows.do("update outbox.delivery set state = %s, reason = 'x'", state)
    house.age()
    assert house.keep()["event_count"] == 0
    assert house.events() == {event_id: True}
    assert house.count("attempt") == 1
    house.rows.delivered(event_id)
    assert house.keep()["event_count"] == 0  # it is behind the watermark
    assert house.keep(day=1)["event_count"] == 1


def test_of_the_changes_of_a_balance_the_last_of_each_customer_stays(house: House) -> None:
    for number, customer in enumerate(["7", "7", "8", "7", "70"], start=1):
        record(
            house.session,
            f"{customer}-{number}",
            kind="bonus_balance",
            customer_id=customer,
            payload='{"phone": "+380501234567", "balance": 1.00, "changed_at": "2026-01-01T00:00:00+02:00"}',
        )
    house.rows.do("delete from outbox.delivery")
    house.age()
    assert house.keep()["event_count"] == 2
    left = {"bonus_balance:8-3": True, "bonus_balance:7-4": True, "bonus_balance:70-5": True}
    assert house.events() == left
    assert house.keep(day=1)["event_count"] == 0


def test_the_database_refuses_to_forget_what_is_younger_than_120_days(house: House, connect: Any) -> None:
    with connect(house.conninfo) as worker:
        for call in ("forget_events('-infinity', now() - interval '119 days', 10)", "forget_journals(now(), 10)"):
            with pytest.raises(psycopg.errors.InvalidParameterValue, match="younger than 120 days"):
                worker.execute(f"select outbox.{call}")


def test_small_batches_each_a_transaction_and_a_stop_keeps_what_was_done(house: House) -> None:
    for number in range(5):
        delivered(house, number)
    house.age()
    xids = "select count(distinct xmin::text) from outbox.event where payload::text = 'null'"
    assert house.keep(batch_max=2)["event_count"] == 5
    assert house.rows.all(xids) == [(3,)]
    for number in range(5, 10):
        delivered(house, number)
    house.rows.do(
        "update outbox.event set recorded_at = recorded_at - interval '200 days' where payload::text <> 'null'"
    )
    house.rows.do("update outbox.round set watermark = null")
    house.stop.set()
    with pytest.raises(BrokenOff):
        house.keep(batch_max=2)
    assert sum(house.events().values()) == 3
    house.stop.clear()
    assert house.keep(batch_max=2)["event_count"] == 3


def test_the_next_run_goes_on_where_the_last_one_came_to(house: House) -> None:
    delivered(house, 1)
    house.age()
    house.keep()
    [(first,)] = house.rows.all("select watermark from outbox.round where round = 'housekeeping'")
    assert abs(datetime.now(UTC) - KEEP - first) < timedelta(minutes=1)
    delivered(house, 2)
    house.rows.do(
        "update outbox.event set recorded_at = %s where payload::text <> 'null'", first + timedelta(seconds=0)
    )
    house.rows.do("select pg_sleep(0.01)")
    assert house.keep()["event_count"] == 1


def test_old_journals_go_and_what_nobody_has_repaired_stays(house: House) -> None:
    house.rows.purchase(1)
    house.rows.purchase(1)
    house.rows.do("insert into outbox.act (act, destination, actor, reason) values ('pause', 'api', 'olena', 'x')")
    house.rows.do(
        "insert into outbox.capture_failure (kind, sqlstate, message, failed_at, repaired_at) values"
        " ('purchase', 'x', 'repaired', now() - interval '300 days', now() - interval '200 days'),"
        " ('purchase', 'x', 'open', now() - interval '300 days', null)"
    )
    house.rows.do(
        "insert into outbox.round_run (round, planned_for, began_at, ended_at, outcome) values"
        " ('housekeeping', now(), now() - interval '200 days', now() - interval '200 days', 'done'),"
        " ('housekeeping', now(), now(), now(), 'done')"
    )
    house.rows.do(
        "insert into outbox.sync_run (begun_at, ended_at) select at, at from"
        " (values (now() - interval '202 days'), (now() - interval '201 days')) it (at)"
    )
    house.rows.do(
        "insert into outbox.told_lot values ('1', 'e', current_date - 200, now()), ('2', 'e', current_date, now())"
    )
    house.age()
    assert house.keep(batch_max=1)["journal_count"] == 6
    assert house.rows.all("select message from outbox.capture_failure") == [("open",)]
    assert (house.count("duplicate"), house.count("act"), house.count("round_run"), house.count("told_lot")) == (
        0,
        0,
        1,
        1,
    )
