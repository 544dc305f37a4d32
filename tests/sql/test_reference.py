"""The reference accounting system and what the mapping shows of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sql.till import Session, add_customer, column, enter, sell, value

COLUMNS = {
    "customer": "customer_id bigint, phone text, email text, first_name text, last_name text, birth_date date,"
    " source text, specialty text, changed_at timestamp with time zone",
    "purchase": "purchase_id bigint, customer_id bigint, phone text, purchased_at timestamp with time zone,"
    " total numeric, currency text, bonus_accrued numeric, bonus_redeemed numeric, lines json,"
    " contact_email text, contact_phone text",
    "bonus_balance": "customer_id bigint, phone text, balance numeric, changed_at timestamp with time zone",
    "bonus_lot": "bonus_lot_id bigint, customer_id bigint, phone text, expires_on date, remaining numeric",
}

TODAY = date(2026, 1, 1)
amounts = st.decimals("0.01", "99.99", places=2)
expiries = st.none() | st.integers(0, 4).map(lambda months: TODAY + timedelta(days=30 * months))


@dataclass
class Lots:
    """The bonus programme as one would do it by hand: lots that are there, the first to expire taken from first."""

    remaining: dict[int, Decimal] = field(default_factory=dict)
    expires_on: dict[int, date | None] = field(default_factory=dict)

    def accrue(self, lot: int, amount: Decimal, expires_on: date | None) -> None:
        self.remaining[lot], self.expires_on[lot] = amount, expires_on

    def redeem(self, amount: Decimal) -> None:
        for lot in sorted(self.remaining, key=lambda lot: (self.expires_on[lot] or date.max, lot)):
            taken = min(self.remaining[lot], amount)
            self.remaining[lot] -= taken
            amount -= taken


def accrue(session: Session, customer: int, amount: Decimal, expires_on: date | None) -> int:
    statement = (
        "insert into accounting.bonus_entry (customer_id, kind, code, amount, expires_on)"
        " values (%s, 'accrual', gen_random_uuid()::text, %s, %s) returning bonus_entry_id"
    )
    return int(value(session, statement, customer, amount, expires_on))


def lots(session: Session, customer: int) -> dict[int, Decimal]:
    rows = session.execute(
        "select bonus_lot_id, remaining from integration.bonus_lot where customer_id = %s", [customer]
    )
    return {int(lot): remaining for lot, remaining in rows}


def balance(session: Session, customer: int) -> Decimal:
    return Decimal(value(session, "select balance from integration.bonus_balance where customer_id = %s", customer))


@pytest.mark.parametrize("name", COLUMNS)
def test_a_view_has_the_columns_and_types_that_are_promised(dba: Session, name: str) -> None:
    found = column(
        dba,
        "select attname || ' ' || format_type(atttypid, -1) from pg_attribute where attrelid = %s::regclass"
        " and attnum > 0 order by attnum",
        f"integration.{name}",
    )
    assert ", ".join(found) == COLUMNS[name]


def test_an_entry_moves_the_balance(dba: Session, customer: int) -> None:
    enter(dba, customer, None, "accrual", "10.00")
    enter(dba, customer, None, "redemption", "2.50")
    assert balance(dba, customer) == Decimal("7.50")


def test_an_entry_of_one_customer_moves_no_other_balance(dba: Session, customer: int) -> None:
    other = add_customer(dba)
    enter(dba, other, None, "accrual", "10.00")
    assert balance(dba, customer) == 0


@pytest.mark.parametrize(
    "entry",
    ["'gift', 'c', 1, null", "'accrual', 'c', 0, null", "'accrual', 'c', -1, null", "'redemption', 'c', 1, now()"],
)
def test_an_entry_that_makes_no_sense_is_refused(dba: Session, customer: int, entry: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        dba.execute(
            "insert into accounting.bonus_entry (customer_id, kind, code, amount, expires_on)"
            f" values ({customer}, {entry})"
        )


def test_a_code_is_given_once(dba: Session, customer: int) -> None:
    entry = "insert into accounting.bonus_entry (customer_id, kind, code, amount) values (%s, 'accrual', 'c', 1)"
    dba.execute(entry, [customer])
    with pytest.raises(psycopg.errors.UniqueViolation):
        dba.execute(entry, [customer])


def test_a_lot_that_came_after_a_redemption_is_not_touched_by_it(dba: Session, customer: int) -> None:
    """All redemptions were once taken from all lots, this one among them: its notice would never have gone out."""
    in_december, in_june = TODAY.replace(month=12), TODAY.replace(month=6)
    spent = accrue(dba, customer, Decimal(100), in_december)
    enter(dba, customer, None, "redemption", "100")
    kept = accrue(dba, customer, Decimal(50), in_june)
    assert lots(dba, customer) == {spent: 0, kept: 50}


def test_what_is_redeemed_without_lots_takes_nothing_from_later_ones(dba: Session, customer: int) -> None:
    enter(dba, customer, None, "redemption", "100")
    lot = accrue(dba, customer, Decimal(50), None)
    assert lots(dba, customer) == {lot: 50}


def test_the_remaining_amount_has_the_scale_of_money(dba: Session, customer: int) -> None:
    accrue(dba, customer, Decimal(1), None)
    enter(dba, customer, None, "redemption", "1")
    accrue(dba, customer, Decimal(2), None)
    assert column(dba, "select remaining::text from integration.bonus_lot order by bonus_lot_id") == ["0.00", "2.00"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(amounts, expiries, st.booleans()), max_size=12))
def test_each_redemption_takes_from_the_lots_that_are_there_the_first_to_expire_first(
    dba: Session, entries: list[tuple[Decimal, date | None, bool]]
) -> None:
    by_hand = Lots()
    with dba.transaction(force_rollback=True):
        customer, other = add_customer(dba), add_customer(dba)
        overdrawn = Decimal(0)
        for amount, expires_on, is_accrual in entries:
            if is_accrual:
                by_hand.accrue(accrue(dba, customer, amount, expires_on), amount, expires_on)
                accrue(dba, other, amount, expires_on)
            else:
                overdrawn += max(amount - sum(by_hand.remaining.values()), Decimal(0))
                enter(dba, customer, None, "redemption", str(amount))
                by_hand.redeem(amount)
        assert lots(dba, customer) == by_hand.remaining
        assert sum(by_hand.remaining.values()) == balance(dba, customer) + overdrawn


def test_the_lots_that_expire_soon_are_found_without_looking_at_the_others(dba: Session) -> None:
    """The notice asks for a window of days: only the entries of customers with a lot in it are added up."""
    plan = "\n".join(
        column(dba, "explain (costs off) select * from integration.bonus_lot where expires_on between now() and now()")
    )
    assert re.search(r"on bonus_entry lot\n +(Recheck Cond|Index Cond|Filter): .*expires_on >=", plan), plan


def test_changing_a_customer_changes_that_customer_alone(dba: Session, customer: int) -> None:
    other = add_customer(dba, "+380671112233")
    before = column(dba, "select c::text from accounting.customer c where customer_id = %s", customer)
    dba.execute(
        "select integration.change_customer(%s, '+380509999999', 'Ганна', 'Рубан', '1990-02-03', 'InBoost', 'nurse')",
        [str(other)],
    )
    assert column(dba, "select c::text from accounting.customer c where customer_id = %s", customer) == before
    row = dba.execute("select phone, first_name, last_name, birth_date, source, specialty from integration.customer"
                      " where customer_id = %s", [other]).fetchone()  # fmt: skip
    assert row == ("+380509999999", "Ганна", "Рубан", date(1990, 2, 3), "InBoost", "nurse")


def test_purchases_of_nobody_are_in_no_view(dba: Session, customer: int) -> None:
    sell(dba, None)
    known = sell(dba, customer)
    assert column(dba, "select purchase_id from integration.purchase") == [known]
