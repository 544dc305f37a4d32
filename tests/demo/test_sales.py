"""Sales: receipts that add up, customers whose numbers are valid, the same ones for the same seed."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from outbox_worker.demo.customers import invent
from outbox_worker.demo.purchases import Purchase, generate
from outbox_worker.demo.sales import LINES_MAX, Leaves, plan
from outbox_worker.rules.phones import normalise

purchases = st.builds(
    Purchase,
    customer=st.sampled_from("abc"),
    bought_on=st.dates(date(1997, 1, 1), date(1998, 6, 30)),
    quantity=st.integers(1, 120),
    amount=st.decimals(0, 1_000, places=2),
)


@given(st.lists(purchases, min_size=1, max_size=5), st.integers())
def test_a_receipt_adds_up_to_what_was_bought(bought: list[Purchase], seed: int) -> None:
    for purchase, sale in zip(bought, plan(bought, seed), strict=True):
        assert sale.total == purchase.amount == sum(line.amount for line in sale.lines)
        assert sum(line.quantity for line in sale.lines) == purchase.quantity
        assert 1 <= len(sale.lines) <= LINES_MAX
        assert all(line.quantity >= 1 and line.amount >= 0 and line.price >= 0 for line in sale.lines)
        assert 0 <= sale.redemption_max <= sale.total
        assert 0 <= sale.accrual <= sale.total
        assert all(amount == amount.quantize(Decimal("0.01")) for amount in (sale.accrual, sale.redemption_max))


def test_the_last_sale_is_of_today_and_the_others_keep_their_distance() -> None:
    days = (date(1997, 1, 1), date(1997, 1, 31), date(1998, 6, 30))
    sales = plan([Purchase("a", day, 1, Decimal("1.00")) for day in days], 1)
    assert [sale.age for sale in sales] == [timedelta(545), timedelta(515), timedelta(0)]


def test_the_same_seed_plans_the_same_and_everything_that_is_to_be_shown_occurs() -> None:
    sales = plan(generate(1, 2_000), 1)
    assert sales == plan(generate(1, 2_000), 1)
    assert 10 < sum(sale.customer is None for sale in sales) < 100
    assert 20 < sum(sale.is_broken_off_first for sale in sales) < 150
    assert 200 < sum(sale.redeems for sale in sales) < 600
    assert any(sale.accrual == 0 for sale in sales)
    assert all(sum(sale.leaves is leaves for sale in sales) > 20 for leaves in Leaves)
    assert all(sale.customer is not None for sale in sales if sale.is_guests)


def test_the_other_phone_is_left_alone_only_by_those_who_have_given_it_before() -> None:
    given: set[str] = set()
    for sale in plan(generate(2, 2_000), 2):
        if sale.leaves is Leaves.BOTH and sale.customer is not None:
            given.add(sale.customer)
        assert sale.leaves is not Leaves.PHONE or sale.customer in given


def test_nothing_bought_is_nothing_sold() -> None:
    assert plan([], 1) == []


def test_every_customer_has_a_valid_number_of_his_own_however_it_is_spelled() -> None:
    customers = invent((str(number) for number in range(3_000)), 1)
    assert len({customer.phone for customer in customers.values()}) == 3_000
    assert len({customer.spelled_phone for customer in customers.values()}) == 3_000
    assert all(normalise(each.spelled_phone, "UA") == each.phone for each in customers.values())
    assert len({len(each.spelled_phone) for each in customers.values()}) > 3  # spellings differ


def test_who_buys_twice_is_one_customer_and_the_same_seed_invents_the_same() -> None:
    assert invent(["a", "b", "a"], 1) == invent(["a", "b"], 1)
    assert len(invent(["a", "b", "a"], 1)) == 2
