"""What the shop of the demo sells: purchases read from a file, or drawn from the distributions that a real shop had.

The distributions are those of the CDNOW data set (P. Fader and B. Hardie): 69,659 purchases of 23,570 customers of a
music shop, who first bought between January and March 1997, seen until June 1998.
"""

from __future__ import annotations

import csv
import math
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from itertools import islice
from operator import attrgetter
from pathlib import Path
from random import Random

from outbox_worker.errors import ConfigurationError

COLUMNS = ("customer_id", "date", "quantity", "amount")
QUANTITY_MAX, AMOUNT_MAX = 1_000_000, 1_000_000_000  # what accounting's columns hold with room to spare

FIRST_DAY = date(1997, 1, 1)
ARRIVAL_DAYS = 84  # within which all customers buy for the first time
OBSERVED_DAYS = 545

# When customers come back: the BG/NBD model with the parameters that its authors fitted to CDNOW, in weeks (Fader,
# Hardie and Lee, "Counting Your Customers" the Easy Way, Marketing Science 24(2), 2005). Customers buy at rates that
# follow a gamma distribution, and after each further purchase stay away for good with a probability that follows a beta
# distribution.
RATE_SHAPE, RATE_SCALE_WEEKS = 0.243, 4.414
LEAVING_ALPHA, LEAVING_BETA = 0.793, 2.426

# Measured from the data set. The model knows days only, so purchases that share a day with another one come on top.
SAME_DAY_SHARE = 0.031
QUANTITY_STOP = 0.43  # geometric: the chance that an item is the last one in the basket
FREE_SHARE = 0.00115  # of amount 0
UNIT_PRICES = (  # quantile, price of one item
    (0.0, 3.0),
    (0.01, 5.59),
    (0.05, 9.19),
    (0.10, 10.49),
    (0.25, 12.28),
    (0.50, 13.99),
    (0.75, 15.49),
    (0.90, 20.99),
    (0.95, 27.03),
    (0.99, 49.37),
    (1.0, 104.77),
)
_QUANTILES = [quantile for quantile, _ in UNIT_PRICES]


@dataclass(frozen=True, slots=True)
class Purchase:
    """One visit to the till. Two that are equal in everything are two purchases."""

    customer: str
    bought_on: date
    quantity: int
    amount: Decimal  # two decimals


def read(path: Path, count_max: int | None = None) -> list[Purchase]:
    """Read the first `count_max` rows of a CSV file, and put them in order of date.

    The columns are customer_id, date (ISO 8601), quantity, amount. Raises ConfigurationError that names the line.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if missing := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
            raise ConfigurationError(f"{path} has no column {', '.join(missing)}; the columns are {', '.join(COLUMNS)}")
        found = [_purchase(row, f"line {rows.line_num} of {path}") for row in islice(rows, count_max)]
    if not found:
        raise ConfigurationError(f"{path} holds no purchases")
    return _in_order(found)


def generate(seed: int, count: int) -> list[Purchase]:
    """Draw `count` purchases, in order of date; the same seed draws the same."""
    return _in_order(islice(_drawn(Random(seed)), count))  # noqa: S311  # a shop's chance guards nothing


def _in_order(purchases: Iterator[Purchase] | list[Purchase]) -> list[Purchase]:
    return sorted(purchases, key=attrgetter("bought_on"))


def _purchase(row: dict[str, str], place: str) -> Purchase:
    try:
        quantity, amount = int(row["quantity"]), Decimal(row["amount"]).quantize(Decimal("0.01"))
        bought_on = date.fromisoformat(row["date"])
    except (ValueError, TypeError, InvalidOperation):
        raise ConfigurationError(
            f"{place} is no purchase: a date is like 1997-01-31, a quantity is whole, an amount is a number"
        ) from None
    if not 1 <= quantity <= QUANTITY_MAX or not amount.is_finite() or not 0 <= amount <= AMOUNT_MAX:
        raise ConfigurationError(f"{place} is no purchase: a quantity is 1 or more, an amount 0 or more")
    return Purchase(row["customer_id"], bought_on, quantity, amount)


def _drawn(chance: Random) -> Iterator[Purchase]:
    """Draw one customer after the other, for ever."""
    number = 0
    while True:
        number += 1
        for day in _days(chance):
            yield _drawn_purchase(f"{number:05}", FIRST_DAY + timedelta(days=day), chance)


def _days(chance: Random) -> Iterator[int]:
    """Draw the days on which one customer buys."""
    per_day = chance.gammavariate(RATE_SHAPE, 1 / RATE_SCALE_WEEKS) / 7
    leaving = chance.betavariate(LEAVING_ALPHA, LEAVING_BETA)
    day = chance.uniform(0, ARRIVAL_DAYS)
    while day < OBSERVED_DAYS:
        yield int(day)
        if chance.random() < SAME_DAY_SHARE:
            yield int(day)
        # The gamma distribution has much of its weight so near to 0 that a rate may be drawn as 0 itself.
        day += chance.expovariate(per_day) if per_day > 0 else math.inf
        if chance.random() < leaving and day < OBSERVED_DAYS:
            yield int(day)
            return


def _drawn_purchase(customer: str, day: date, chance: Random) -> Purchase:
    quantity = 1 + int(math.log(1 - chance.random()) / math.log(1 - QUANTITY_STOP))
    amount = 0.0 if chance.random() < FREE_SHARE else quantity * _unit_price(chance.random())
    return Purchase(customer, day, quantity, Decimal(f"{amount:.2f}"))


def _unit_price(quantile: float) -> float:
    """Return the price at a quantile in [0, 1), by straight lines between the measured ones."""
    place = bisect(_QUANTILES, quantile)
    (below, low), (above, high) = UNIT_PRICES[place - 1], UNIT_PRICES[place]
    return low + (high - low) * (quantile - below) / (above - below)
