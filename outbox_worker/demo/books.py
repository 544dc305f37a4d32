"""What the accounting tables say happened: the one side of the verdict. Read with accounting's own rights.

Nothing of the outbox is looked at, and nothing of our mapping: no schema but `accounting` occurs here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import phonenumbers
import psycopg

REGION = "UA"

_CUSTOMERS = "select customer_id, phone, email from accounting.customer"
_ORDERS = """
    select customer_id, contact_phone, contact_email from accounting.purchase
    where contact_phone is not null or contact_email is not null
"""
_PURCHASES = """
    select p.purchase_id, c.phone, p.contact_phone, p.contact_email, p.purchased_at, p.total, p.currency,
           coalesce(sum(e.amount) filter (where e.kind = 'accrual'), 0.00),
           coalesce(sum(e.amount) filter (where e.kind = 'redemption'), 0.00)
    from accounting.purchase p
    left join accounting.customer c on c.customer_id = p.customer_id
    left join accounting.bonus_entry e on e.purchase_id = p.purchase_id
    where p.customer_id is not null or p.contact_phone is not null or p.contact_email is not null
    group by p.purchase_id, c.phone
    order by p.purchase_id
"""
_LINES = """
    select purchase_id, sku, name, quantity, price, amount
    from accounting.purchase_line order by purchase_id, line_number
"""
_ENTRIES = """
    select e.bonus_entry_id, e.purchase_id, c.phone, e.kind, e.code, e.amount, e.entered_at
    from accounting.bonus_entry e join accounting.customer c on c.customer_id = e.customer_id
    order by e.bonus_entry_id
"""
_BALANCES = """
    select c.phone, a.balance
    from accounting.bonus_account a join accounting.customer c on c.customer_id = a.customer_id
"""


@dataclass(frozen=True, slots=True)
class Purchase:
    """A purchase; `phone` is its buyer's, in E.164, `lines` have the field names of the interface.

    `is_guests`: accounting knows no customer, and the buyer is known by what was left with the order.
    """

    purchase_id: int
    phone: str
    lines: tuple[dict[str, Any], ...]
    purchased_at: datetime
    total: Decimal
    currency: str
    accrued: Decimal
    redeemed: Decimal
    is_guests: bool = False
    has_contact: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One accrual or redemption."""

    entry_id: int
    purchase_id: int  # entries of one purchase are committed together
    phone: str
    kind: str
    code: str
    amount: Decimal
    entered_at: datetime

    @property
    def change(self) -> Decimal:
        """What it adds to the balance."""
        return self.amount if self.kind == "accrual" else -self.amount


@dataclass(frozen=True, slots=True)
class Books:
    """Everything, each list in the order of its ids: for one customer that is the order of commit."""

    purchases: list[Purchase]
    entries: list[Entry]
    balances: dict[str, Decimal]  # of every customer, by phone


def read(conninfo: str) -> Books:
    """Read the books in one transaction and one snapshot."""
    with psycopg.connect(conninfo, application_name="demo verdict") as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        lines = defaultdict(list)
        for purchase_id, *words in connection.execute(_LINES):
            lines[purchase_id].append(dict(zip(("sku", "name", "quantity", "price", "amount"), words, strict=True)))
        buyers = Buyers(connection.execute(_CUSTOMERS).fetchall(), connection.execute(_ORDERS).fetchall())
        purchases = [_purchase(row, lines, buyers) for row in connection.execute(_PURCHASES)]
        entries = [
            Entry(entry_id, purchase_id, e164(phone), *words)
            for entry_id, purchase_id, phone, *words in connection.execute(_ENTRIES)
        ]
        balances = {e164(phone): balance for phone, balance in connection.execute(_BALANCES)}
    return Books(purchases, entries, balances)


def _purchase(row: tuple[Any, ...], lines: Mapping[int, list[dict[str, Any]]], buyers: Buyers) -> Purchase:
    purchase_id, phone, contact_phone, contact_email, *words = row
    has_contact = (contact_phone, contact_email) != (None, None)
    buyers_phone = e164(phone) if phone else buyers.phone_of(contact_phone, contact_email)
    found = Purchase(purchase_id, buyers_phone, tuple(lines.get(purchase_id, ())), *words)
    return replace(found, is_guests=phone is None, has_contact=has_contact)


class Buyers:
    """Who is who, by what accounting has: details that one person gave together, joined wherever they share one.

    The rules are those of the task, done once more without the product: a person is a customer if he has a detail of
    the customer's, or one that was left with an order of the customer's.
    """

    def __init__(
        self, customers: Iterable[tuple[int, str, str | None]], orders: Iterable[tuple[int | None, str, str]]
    ) -> None:
        self._joined: dict[str, str] = {}
        self._phones: dict[int, str] = {}
        named: list[tuple[int, str]] = []
        for customer_id, phone, email in customers:
            self._phones[customer_id] = e164(phone)
            named += [(customer_id, it) for it in self._join(phone, email)]
        for ordered_by, phone, email in orders:
            details = self._join(phone, email)
            named += [(ordered_by, it) for it in details if ordered_by is not None]
        self._customers: dict[str, set[int]] = defaultdict(set)
        for customer_id, detail in named:
            self._customers[self._root(detail)].add(customer_id)

    def phone_of(self, phone: str | None, email: str | None) -> str:
        """Return the phone of the customer who left this; empty where that is nobody, or more than one."""
        found = self._customers.get(self._root(next(_details(phone, email))), set())
        return self._phones[next(iter(found))] if len(found) == 1 else ""

    def _join(self, phone: str | None, email: str | None) -> list[str]:
        details = list(_details(phone, email))
        for detail in details[1:]:
            self._joined[self._root(detail)] = self._root(details[0])
        return details

    def _root(self, detail: str) -> str:
        while (above := self._joined.get(detail, detail)) != detail:
            detail = above
        return detail


def _details(phone: str | None, email: str | None) -> Iterator[str]:
    if phone is not None:
        yield e164(phone)
    if email is not None:
        yield email.lower()


def e164(spelled: str) -> str:
    """Read a phone as the standard has it; `rules.phones`, which is on trial, is not asked."""
    number = phonenumbers.parse(spelled, REGION)
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))
