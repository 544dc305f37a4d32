"""The expiry notice: once a day, one event, everybody once, nobody twice of the same bonuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from threading import Event
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from outbox_worker.database.acts import Instruction
from outbox_worker.errors import ConfigurationError, SchemaMismatch
from outbox_worker.runtime.expiry_notice import ExpiryNotice
from outbox_worker.runtime.rounds import BrokenOff, Ticking
from tests.scenarios.waiting import until
from tests.scenarios.world import World

KYIV = ZoneInfo("Europe/Kyiv")
TODAY = date(2026, 3, 10)
OLENA = Instruction("olena", "a campaign")
Session = psycopg.connection.Connection[Any]


class Shop:
    """Customers with bonuses that expire, and notices about them by the rights of a worker."""

    def __init__(self, session: Session, conninfo: str) -> None:
        self.session = session
        self.notice = ExpiryNotice(conninfo, KYIV, 7, "UA")
        self.stop = Event()

    def lot(self, phone: str | None, expires_on: date | None, amount: str = "5.00", customer: int | None = None) -> int:
        """Accrue a lot; return its customer."""
        if customer is None:
            customer = self.value("insert into accounting.customer (phone) values (%s) returning customer_id", phone)
            self.session.execute("insert into accounting.bonus_account (customer_id) values (%s)", [customer])
        self.enter(customer, "accrual", amount, expires_on)
        return customer

    def enter(self, customer: int, kind: str, amount: str, expires_on: date | None = None) -> None:
        self.session.execute(
            "insert into accounting.bonus_entry (customer_id, kind, code, amount, expires_on)"
            " values (%s, %s, gen_random_uuid()::text, %s, %s)",
            [customer, kind, amount, expires_on],
        )

    def run(self, day: date = TODAY, hour: int = 10, **changes: Any) -> int:
        """Let the round run on a day, and count the notices that it makes."""
        began_at = datetime(day.year, day.month, day.day, hour, tzinfo=KYIV).astimezone(UTC)
        ticking = Ticking(began_at, began_at, self.stop, lambda: False)
        return replace(self.notice, **changes)(ticking)["event_count"]

    def notices(self) -> dict[str, list[str]]:
        rows = self.session.execute(
            "select source_id, payload::text from outbox.event where kind = 'bonus_expiry' order by sequence"
        )
        return {source_id: json.loads(payload)["phones"] for source_id, payload in rows}

    def value(self, statement: str, *parameters: Any) -> Any:
        row = self.session.execute(statement, parameters).fetchone()
        return row[0] if row else None


@pytest.fixture
def shop(database_url: str, worker_login: dict[str, str], connect: Callable[..., Session]) -> Shop:
    return Shop(connect(), make_conninfo(database_url, **worker_login))


def phone(number: int) -> str:
    return f"+38050{number:07}"


def days(number: int) -> date:
    return TODAY + timedelta(days=number)


def test_all_whose_bonuses_expire_within_the_horizon_are_in_one_event(shop: Shop) -> None:
    for number, expires_on in enumerate([days(-1), days(0), days(7), days(8), None], start=1234561):
        shop.lot(phone(number), expires_on)
    assert shop.run() == 1
    assert shop.notices() == {"2026-03-10": [phone(1234562), phone(1234563)]}
    assert shop.value("select payload ->> 'expires_before' from outbox.event where kind = 'bonus_expiry'") == str(
        days(8)
    )
    found = shop.session.execute("select operation from outbox.delivery where event_id like 'bonus_expiry%'").fetchall()
    assert found == [("expiry_webhook",)]


def test_where_nobody_is_to_be_told_there_is_no_event(shop: Shop) -> None:
    shop.lot(phone(1234561), days(30))
    assert shop.run() == 0
    assert shop.notices() == {}


def test_what_is_spent_does_not_expire(shop: Shop) -> None:
    """First-expiring-first: the redemption takes all of the lot that expires, and leaves the later one."""
    spent = shop.lot(phone(1234561), days(3), "5.00")
    shop.lot(None, days(90), "10.00", customer=spent)
    shop.enter(spent, "redemption", "5.00")
    rest = shop.lot(phone(1234562), days(3), "5.00")
    shop.enter(rest, "redemption", "4.99")
    shop.run()
    assert shop.notices() == {"2026-03-10": [phone(1234562)]}


def test_a_person_is_told_once_however_many_lots_and_spellings_there_are(shop: Shop) -> None:
    customer = shop.lot("050 123-45-67", days(1))
    shop.lot(None, days(2), customer=customer)
    shop.lot("+380501234567", days(3))
    shop.run()
    assert shop.notices() == {"2026-03-10": ["+380501234567"]}
    assert shop.value("select count(*) from outbox.told_lot") == 3


def test_nobody_is_told_twice_of_a_lot_whatever_the_horizon_and_the_day(shop: Shop) -> None:
    shop.lot(phone(1234561), days(5))
    assert shop.run() == 1
    assert shop.run(horizon_days=30) == 0
    assert shop.run(days(1), horizon_days=30) == 0
    assert shop.run(days(1), horizon_days=2) == 0
    shop.lot(phone(1234561), days(6))  # the same person, another lot
    assert shop.run(days(1)) == 1
    assert shop.notices() == {"2026-03-10": [phone(1234561)], "2026-03-11": [phone(1234561)]}


def test_a_day_that_was_missed_is_made_up_for(shop: Shop) -> None:
    shop.lot(phone(1234561), days(8))
    assert shop.run() == 0
    assert shop.run(days(4)) == 1


def test_a_day_has_one_notice_and_who_comes_later_is_told_the_next_day(shop: Shop) -> None:
    shop.lot(phone(1234561), days(5))
    shop.run()
    shop.lot(phone(1234562), days(5))
    assert shop.run(hour=12) == 0
    assert shop.run(days(1)) == 1


def test_the_day_is_the_shops_and_not_the_servers(shop: Shop) -> None:
    shop.lot(phone(1234561), days(-1))
    shop.lot(phone(1234562), days(0))
    shop.run(hour=1)  # in UTC it is still the day before
    assert shop.notices() == {"2026-03-10": [phone(1234562)]}


@pytest.mark.parametrize("day", [date(2026, 3, 29), date(2026, 10, 25)])
def test_on_the_days_when_clocks_change_there_is_one_notice(shop: Shop, day: date) -> None:
    for number, hour in enumerate((0, 3, 4, 10, 23), start=1234561):
        shop.lot(phone(number), day)
        shop.run(day, hour)
    assert list(shop.notices()) == [str(day)]


def test_who_has_no_usable_phone_is_told_once_it_is_mended(shop: Shop) -> None:
    customer = shop.lot("ask her husband", days(5))
    shop.lot(None, days(5))
    assert shop.run() == 0
    shop.session.execute("update accounting.customer set phone = %s where customer_id = %s", [phone(1234561), customer])
    assert shop.run(days(1)) == 1


def test_a_crash_before_the_commit_leaves_nothing_and_the_round_repeats_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.lot(phone(1234561), days(5))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("outbox_worker.database.expiry.record", die)
        with pytest.raises(KeyboardInterrupt):
            shop.run()
    assert shop.value("select count(*) from outbox.told_lot") == 0
    assert shop.run() == 1


def test_a_stop_comes_before_anything_is_told(shop: Shop) -> None:
    shop.lot(phone(1234561), days(5))
    shop.stop.set()
    with pytest.raises(BrokenOff):
        shop.run()
    assert shop.notices() == {}


def test_two_who_make_the_notice_at_once_tell_everybody_once(shop: Shop, connect: Callable[..., Session]) -> None:
    for number in range(1234561, 1234581):
        shop.lot(phone(number), days(5))
    observer = connect()
    with shop.session.transaction():
        shop.session.execute("lock table outbox.told_lot in share row exclusive mode")
        with ThreadPoolExecutor(2) as pool:
            made = [pool.submit(shop.run), pool.submit(shop.run, days(0), 12)]
            query = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%told_lot%'"
            try:
                until(lambda: observer.execute(query).fetchone() == (2,), "both to wait for the lots")
            finally:
                shop.session.execute("commit")
            assert sorted(it.result(20) for it in made) == [0, 1]
    assert [len(it) for it in shop.notices().values()] == [20]


def test_what_a_person_sends_is_beside_the_notice_of_the_day(shop: Shop) -> None:
    today = datetime.now(KYIV).date()
    shop.lot(phone(1234561), today + timedelta(days=1))
    before = shop.notice.preview()
    assert (before.event_id, list(before.notice.phones)) == (f"bonus_expiry:{today}-2", [phone(1234561)])
    assert shop.notices() == {}
    assert shop.notice.send(OLENA).event_id == f"bonus_expiry:{today}-2"
    assert shop.notice.send(OLENA).event_id is None
    shop.lot(phone(1234562), today + timedelta(days=1))
    assert shop.notice.send(OLENA).event_id == f"bonus_expiry:{today}-3"
    shop.lot(phone(1234563), today + timedelta(days=1))
    assert shop.run(today) == 1
    assert list(shop.notices()) == [f"{today}-2", f"{today}-3", str(today)]
    acts = shop.session.execute("select act, event_id, actor from outbox.act order by act_id").fetchall()
    assert acts == [("record", f"bonus_expiry:{today}-{number}", "olena") for number in (2, 3)]


def test_while_the_workers_do_not_send_it_nobody_counts_as_told(shop: Shop) -> None:
    shop.lot(phone(1234561), days(5))
    shop.session.execute("update outbox.route set enabled = false where kind = 'bonus_expiry'")
    with pytest.raises(ConfigurationError, match="switch expiry_webhook off"):
        shop.run()
    assert shop.value("select count(*) from outbox.told_lot") == 0


def test_a_mapping_without_lots_is_refused_with_a_sentence(shop: Shop) -> None:
    shop.session.execute("drop view integration.bonus_lot cascade")
    with pytest.raises(SchemaMismatch, match="lacks view bonus_lot"):
        shop.run()


def many(session: Session, number: int, expires_on: date) -> None:
    """Load customers with a lot each, without the triggers."""
    with session.transaction():
        session.execute("set local session_replication_role = replica")
        session.execute(
            "with customer as (insert into accounting.customer (phone) select '+38050' || (1000000 + n)"
            " from generate_series(1, %s) n returning customer_id),"
            " account as (insert into accounting.bonus_account (customer_id, balance) select customer_id, 5"
            " from customer returning customer_id)"
            " insert into accounting.bonus_entry (customer_id, kind, code, amount, expires_on)"
            " select customer_id, 'accrual', customer_id::text, 5, %s from account",
            [number, expires_on],
        )


def deliver_to(world: World, number: int) -> None:
    today = datetime.now(KYIV).date()
    with psycopg.connect(world.database_url, autocommit=True) as session:
        many(session, number, today + timedelta(days=1))
        session.execute("analyze")
    worker = world.start({"inboost.request_timeout": 30})
    world.until_asleep(worker)
    told = ExpiryNotice(world.worker_url, KYIV, 7, "UA").send(OLENA)
    assert len(told.notice.phones) == number
    world.until(lambda: world.attempts("expiry_webhook"), "the notice to be delivered", 60)
    assert world.attempts("expiry_webhook") == [("accepted", "acknowledge")]
    [effect] = world.inboost.state.ledger.effects.after(0)
    assert json.loads(bytes(effect.body))["phones"] == list(told.notice.phones)


def test_a_notice_to_thousands_is_one_request(world: World) -> None:
    deliver_to(world, 5_000)


@pytest.mark.long
def test_a_notice_to_a_hundred_thousand_is_one_request(world: World) -> None:
    deliver_to(world, 100_000)
