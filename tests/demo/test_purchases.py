"""What the demo sells: read from a file row by row, or drawn so that it looks like a real shop's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from outbox_worker.demo.purchases import Purchase, generate, read
from outbox_worker.errors import ConfigurationError

CDNOW = Path(__file__).parents[3] / "shared" / "data" / "cdnow.csv"
HEADER = "customer_id,date,quantity,amount\n"
needs_cdnow = pytest.mark.skipif(not CDNOW.is_file(), reason=f"the CDNOW data set is not at {CDNOW}")

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        file = tmp_path / "purchases.csv"
        file.write_text(text, encoding="utf-8")
        return file

    return write


def test_rows_become_purchases_in_order_of_date_and_repeats_stay_two(write: Write) -> None:
    file = write(HEADER + "7,1997-02-01,2,30\n8,1997-01-12,5,77.00\n8,1997-01-12,5,77.00\n")
    twice = Purchase("8", date(1997, 1, 12), 5, Decimal("77.00"))
    assert read(file) == [twice, twice, Purchase("7", date(1997, 2, 1), 2, Decimal("30.00"))]


def test_amounts_have_the_scale_of_the_accounting_column(write: Write) -> None:
    assert str(read(write(HEADER + "1,1997-01-01,1,11.5\n"))[0].amount) == "11.50"


def test_a_byte_order_mark_and_further_columns_do_no_harm(write: Write) -> None:
    assert read(write("\ufeffcustomer_id,date,quantity,amount,remark\n1,1997-01-01,1,2.00,x\n"))[0].customer == "1"


def test_only_as_many_rows_are_read_as_are_wanted(write: Write) -> None:
    assert len(read(write(HEADER + "1,1997-01-01,1,2.00\n" * 3 + "broken\n"), 3)) == 3


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("customer_id,date,quantity\n", "no column amount"),
        ("", "no column customer_id, date, quantity, amount"),
        (HEADER, "holds no purchases"),
        (HEADER + "1,1997-01-01,1,2.00\n2,01.02.1997,1,2.00\n", "line 3 "),
        (HEADER + "1,1997-01-01,one,2.00\n", "line 2 "),
        (HEADER + "1,1997-01-01,1,two\n", "line 2 "),
        (HEADER + "1,1997-01-01,1\n", "line 2 "),
        (HEADER + "1,1997-01-01,0,2.00\n", "quantity is 1 or more"),
        (HEADER + "1,1997-01-01,1,-2.00\n", "amount 0 or more"),
        (HEADER + "1,1997-01-01,1,NaN\n", "line 2 "),
    ],
)
def test_what_is_no_purchase_is_refused_with_its_line(write: Write, text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        read(write(text))


def test_the_same_seed_draws_the_same_and_another_seed_something_else() -> None:
    assert generate(7, 300) == generate(7, 300)
    assert generate(7, 300) != generate(8, 300)


def test_more_purchases_are_the_same_ones_and_some_more() -> None:
    few, many = generate(7, 300), generate(7, 3_000)
    assert len(few) == 300
    assert all(purchase in many for purchase in few)


class Shape:
    """What purchases look like from afar."""

    def __init__(self, purchases: Sequence[Purchase]) -> None:
        days = defaultdict(list)
        for purchase in purchases:
            days[purchase.customer].append(purchase.bought_on)
        self.counts = sorted(map(len, days.values()))
        self.mean_count = len(purchases) / len(days)
        self.gaps = sorted((b - a).days for each in days.values() for a, b in pairwise(each))
        self.quantities = sorted(purchase.quantity for purchase in purchases)
        self.amounts = sorted(float(purchase.amount) for purchase in purchases)
        self.span = max(max(each) for each in days.values()) - min(min(each) for each in days.values())


def quantile(values: Sequence[float], share: float) -> float:
    return values[int(share * (len(values) - 1))]


@needs_cdnow
def test_drawn_purchases_look_like_those_of_cdnow() -> None:
    real, drawn = Shape(read(CDNOW)), Shape(generate(1, 69_659))
    assert drawn.mean_count == pytest.approx(real.mean_count, rel=0.1)
    assert abs(drawn.span.days - real.span.days) <= 2
    for share in (0.5, 0.75, 0.9):
        assert quantile(drawn.counts, share) == pytest.approx(quantile(real.counts, share), abs=1)
    for share in (0.25, 0.5, 0.75, 0.9, 0.99):
        assert quantile(drawn.gaps, share) == pytest.approx(quantile(real.gaps, share), rel=0.15, abs=1)
    for share in (0.25, 0.5, 0.75, 0.9, 0.99):
        assert quantile(drawn.quantities, share) == pytest.approx(quantile(real.quantities, share), rel=0.2, abs=1)
    for share in (0.05, 0.25, 0.5, 0.75, 0.95, 0.99):
        assert quantile(drawn.amounts, share) == pytest.approx(quantile(real.amounts, share), rel=0.15)
    assert drawn.amounts.count(0.0) == pytest.approx(real.amounts.count(0.0), rel=0.5)


@needs_cdnow
def test_the_real_file_is_read_whole() -> None:
    purchases = read(CDNOW)
    assert len(purchases) == 69_659
    assert len({purchase.customer for purchase in purchases}) == 23_570
    assert len(purchases) - len(set(purchases)) > 200
