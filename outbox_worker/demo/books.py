"""What the accounting tables say happened: the one side of the verdict. Read with accounting's own rights.

Nothing of the outbox is looked at, and nothing of our mapping: no schema but `accounting` occurs here.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import phonenumbers
import psycopg

REGION = "UA"

_PURCHASES = """
    select p.purchase_id, c.phone, p.purchased_at, p.total, p.currency,
           coalesce(sum(e.amount) filter (where e.kind = 'accrual'), 0.00),
           coalesce(sum(e.amount) filter (where e.kind = 'redemption'), 0.00)
    from accounting.purchase p
    join accounting.customer c on c.customer_id = p.customer_id
    left join accounting.bonus_entry e on e.purchase_id = p.purchase_id
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
    """A purchase of a known customer; `phone` is E.164, `lines` have the field names of the interface."""

    purchase_id: int
    phone: str
    lines: tuple[dict[str, Any], ...]
    purchased_at: datetime
    total: Decimal
    currency: str
    accrued: Decimal
    redeemed: Decimal


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
        purchases = [
            Purchase(purchase_id, e164(phone), tuple(lines[purchase_id]), *words)
            for purchase_id, phone, *words in connection.execute(_PURCHASES)
        ]
        entries = [
            Entry(entry_id, purchase_id, e164(phone), *words)
            for entry_id, purchase_id, phone, *words in connection.execute(_ENTRIES)
        ]
        balances = {e164(phone): balance for phone, balance in connection.execute(_BALANCES)}
    return Books(purchases, entries, balances)


def e164(spelled: str) -> str:
    """Read a phone as the standard has it; `rules.phones`, which is on trial, is not asked."""
    number = phonenumbers.parse(spelled, REGION)
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))
