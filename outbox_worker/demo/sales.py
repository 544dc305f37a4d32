"""From purchases to sales: what is on the receipt, who redeems bonuses, who leaves which contact details with an order,
and which sale is broken off at first.

Pure: the same purchases and the same seed make the same sales.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import ROUND_DOWN, Decimal
from enum import StrEnum
from random import Random

from outbox_worker.demo.purchases import Purchase

CENT = Decimal("0.01")
ACCRUED_SHARE = Decimal("0.05")  # of the total
REDEEMED_SHARE_MAX = Decimal("0.30")  # of the total that may be paid with bonuses

ANONYMOUS_CHANCE = 0.02  # the buyer does not say who he is
REDEMPTION_CHANCE = 0.20
BREAK_OFF_CHANCE = 0.03
# Contact details that are left with an order: those of a known customer who gives another phone and an e-mail address;
# and those of one who orders without saying that he is a customer, and leaves that e-mail address or that phone alone.
OTHER_PHONE_CHANCE = 0.08
EMAIL_ALONE_CHANCE = 0.04
PHONE_ALONE_CHANCE = 0.5  # once he has given the other phone
LINES_MAX = 3
_TITLES = ("Платівка", "Компакт-диск", "Касета", "Збірка «Найкраще»", 'Сингл 7"', "Box set")


class Leaves(StrEnum):
    """What the buyer leaves with an order."""

    NOTHING = "nothing"
    BOTH = "both"  # an e-mail address and another phone than the one that he is known by
    EMAIL = "email"
    PHONE = "phone"  # that other one


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a receipt."""

    sku: str
    name: str
    quantity: int
    price: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Sale:
    """What happens at the till. `age` is how long before the last sale of all; `customer` None buys without a name."""

    customer: str | None
    age: timedelta
    total: Decimal
    lines: tuple[Line, ...]
    redeems: bool
    is_broken_off_first: bool  # entered, rolled back, and entered again
    leaves: Leaves = Leaves.NOTHING

    @property
    def is_guests(self) -> bool:
        """Whether the buyer does not say that he is a customer, and leaves something by which he can be found."""
        return self.leaves in (Leaves.EMAIL, Leaves.PHONE)

    @property
    def accrual(self) -> Decimal:
        """What it earns; 0 for a small or free purchase."""
        return (self.total * ACCRUED_SHARE).quantize(CENT, ROUND_DOWN)

    @property
    def redemption_max(self) -> Decimal:
        """What may be paid with bonuses, balance permitting."""
        return (self.total * REDEEMED_SHARE_MAX).quantize(CENT, ROUND_DOWN) if self.redeems else Decimal(0)


def plan(purchases: Iterable[Purchase], seed: int) -> list[Sale]:
    """Make a sale of each purchase, in their order."""
    chance = Random(seed)  # noqa: S311  # guards nothing
    ordered = list(purchases)
    last_day = max((purchase.bought_on for purchase in ordered), default=None)
    sales = [_sale(purchase, last_day - purchase.bought_on, chance) for purchase in ordered if last_day is not None]
    return list(_with_contacts(sales, Random(seed)))  # noqa: S311


def _with_contacts(sales: Iterable[Sale], chance: Random) -> Iterator[Sale]:
    known: set[str] = set()  # who has given another phone before
    for sale in sales:
        leaves = Leaves.NOTHING
        if sale.customer is not None:
            if sale.customer in known and chance.random() < PHONE_ALONE_CHANCE:
                leaves = Leaves.PHONE
            elif (drawn := chance.random()) < OTHER_PHONE_CHANCE:
                leaves = Leaves.BOTH
                known.add(sale.customer)
            elif drawn < OTHER_PHONE_CHANCE + EMAIL_ALONE_CHANCE:
                leaves = Leaves.EMAIL
        yield replace(sale, leaves=leaves)


def discreet(sales: Iterable[Sale]) -> frozenset[str]:
    """Return the customers whose e-mail address accounting learns from their orders, and from nothing else."""
    return frozenset(sale.customer for sale in sales if sale.customer is not None and sale.leaves is Leaves.BOTH)


def _sale(purchase: Purchase, age: timedelta, chance: Random) -> Sale:
    return Sale(
        customer=None if chance.random() < ANONYMOUS_CHANCE else purchase.customer,
        age=age,
        total=purchase.amount,
        lines=tuple(_lines(purchase, chance)),
        redeems=chance.random() < REDEMPTION_CHANCE,
        is_broken_off_first=chance.random() < BREAK_OFF_CHANCE,
    )


def _lines(purchase: Purchase, chance: Random) -> list[Line]:
    """Spread the quantity over one to three lines whose amounts add up to the total."""
    price = (purchase.amount / purchase.quantity).quantize(CENT, ROUND_DOWN)
    lines: list[Line] = []
    for quantity in _parts(purchase.quantity, chance):
        number = chance.randrange(100_000)
        name = f"{_TITLES[number % len(_TITLES)]} № {number}"
        lines.append(Line(f"MZ-{number:05}", name, quantity, price, price * quantity))
    # Prices were rounded down, so what is missing is never negative.
    rest = purchase.amount - sum(line.amount for line in lines)
    last = lines.pop()
    return [*lines, Line(last.sku, last.name, last.quantity, last.price, last.amount + rest)]


def _parts(quantity: int, chance: Random) -> list[int]:
    count = chance.randint(1, min(quantity, LINES_MAX))
    cuts = sorted(chance.sample(range(1, quantity), count - 1))
    return [end - start for start, end in zip([0, *cuts], [*cuts, quantity], strict=True)]
