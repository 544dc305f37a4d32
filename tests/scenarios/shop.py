"""The accounting side of a scenario: facts, each recorded in a transaction of its own, as a till would."""

from __future__ import annotations

from decimal import Decimal
from itertools import count
from random import Random
from typing import Any, Self

import psycopg

A_NEW_ONE = "a new one"


class Shop:
    """One till: one session, so that facts of one customer are recorded in the order of the calls."""

    _numbers = count(1)  # of codes and phones, for all tills of this process

    def __init__(self, database_url: str) -> None:
        self._session = psycopg.connect(database_url, application_name="till")

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def customer(self, phone: str | None = A_NEW_ONE) -> int:
        """Add a customer with this phone, or one that nobody has had."""
        given = f"+38050{next(self._numbers):07}" if phone is A_NEW_ONE else phone
        with self._session.transaction():
            number = self._number("insert into accounting.customer (phone) values (%s) returning customer_id", given)
            self._session.execute("insert into accounting.bonus_account (customer_id) values (%s)", [number])
        return number

    def customers(self, number: int) -> list[int]:
        """Add so many customers."""
        return [self.customer() for _ in range(number)]

    def buy(self, customer: int, total: str = "120.50", *, accrued: str = "", redeemed: str = "") -> int:
        """Sell something, with what is accrued and redeemed for it."""
        with self._session.transaction():
            return self.record_purchase(customer, total, accrued=accrued, redeemed=redeemed)

    def accrue(self, customer: int, amount: str = "1.20") -> int:
        """Give a bonus for nothing: an accrual and a new balance, and no purchase."""
        with self._session.transaction():
            return self._enter(customer, None, "accrual", amount)

    def record_purchase(self, customer: int, total: str, *, accrued: str = "", redeemed: str = "") -> int:
        """Do what `buy` does inside a transaction of the caller's."""
        purchase = self._number(
            "insert into accounting.purchase (customer_id, total) values (%s, %s) returning purchase_id",
            customer,
            total,
        )
        self._session.execute(
            "insert into accounting.purchase_line (purchase_id, line_number, sku, name, quantity, price, amount)"
            " values (%(id)s, 1, 'A-1', 'Чай «Карпатський»', 2.000, %(price)s, %(total)s),"
            " (%(id)s, 2, 'B-2', 'Coffee \"strong\"', 0.250, 0.00, 0.00)",
            {"id": purchase, "total": total, "price": Decimal(total) / 2},
        )
        for kind, amount in (("redemption", redeemed), ("accrual", accrued)):
            if amount:
                self._enter(customer, purchase, kind, amount)
        return purchase

    def trade(self, customers: list[int], chance: Random, sales: int) -> None:
        """Record sales, accruals and redemptions of customers drawn by chance."""
        for _ in range(sales):
            customer = chance.choice(customers)
            if chance.random() < 0.3:
                self.accrue(customer, f"{chance.randint(1, 999) / 100:.2f}")
            else:
                bonus = f"{chance.randint(1, 500) / 100:.2f}"
                word = chance.choice(["accrued", "redeemed", ""])
                self.buy(customer, f"{chance.randint(100, 99_999) / 100:.2f}", **({word: bonus} if word else {}))

    def _enter(self, customer: int, purchase: int | None, kind: str, amount: str) -> int:
        return self._number(
            "insert into accounting.bonus_entry (customer_id, purchase_id, kind, code, amount)"
            " values (%s, %s, %s, %s, %s) returning bonus_entry_id",
            customer,
            purchase,
            kind,
            f"{kind[0].upper()}-{next(self._numbers)}",
            amount,
        )

    def _number(self, statement: str, *parameters: Any) -> int:
        row = self._session.execute(statement, parameters).fetchone()
        assert row is not None
        return int(row[0])
