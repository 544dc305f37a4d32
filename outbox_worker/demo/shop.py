"""The shop: an accounting system with several tills, which knows nothing of the outbox and has no right on it.

    sales ──parted by customer──▶ 4 sessions ──▶ transactions: purchase, its lines, its bonus entries

One customer's sales all go through one session, so their order is defined by accounting itself.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from time import monotonic
from types import TracebackType
from typing import Self

import psycopg

from outbox_worker.demo.customers import Customer
from outbox_worker.demo.sales import Leaves, Line, Sale

SESSIONS = 4
BONUS_LIFE = timedelta(days=365)

_REGISTER = """
    with registered as (
        insert into accounting.customer (phone, first_name, last_name, source)
        select phone, first_name, last_name, 'demo'
        from unnest(%s::text[], %s::text[], %s::text[]) as given (phone, first_name, last_name)
        returning customer_id, phone
    ), opened as (
        insert into accounting.bonus_account (customer_id) select customer_id from registered
    )
    select phone, customer_id from registered
"""
_EMAIL = "update accounting.customer set email = %s where customer_id = %s"
_PURCHASE = """
    insert into accounting.purchase (customer_id, purchased_at, total, contact_email, contact_phone)
    values (%s, %s, %s, %s, %s) returning purchase_id
"""
_LINE = """
    insert into accounting.purchase_line (purchase_id, line_number, sku, name, quantity, price, amount)
    values (%s, %s, %s, %s, %s, %s, %s)
"""
_BALANCE = "select balance from accounting.bonus_account where customer_id = %s for update"
_ENTRY = """
    insert into accounting.bonus_entry (customer_id, purchase_id, kind, code, amount, expires_on)
    values (%s, %s, %s, %s, %s, %s)
"""


def register(conninfo: str, customers: Iterable[Customer], discreet: Collection[str] = frozenset()) -> dict[str, int]:
    """Enter the customers and open an account for each; return their ids by name.

    The discreet give no e-mail address.
    """
    by_phone = {customer.spelled_phone: customer for customer in customers}
    given = list(by_phone.values())
    columns = [list(by_phone), [each.first_name for each in given], [each.last_name for each in given]]
    with psycopg.connect(conninfo, application_name="shop") as connection:
        rows = connection.execute(_REGISTER, columns).fetchall()
        customer_ids = {by_phone[phone].name: int(customer_id) for phone, customer_id in rows}
        told = [(_email(number), number) for name, number in customer_ids.items() if name not in discreet]
        connection.cursor().executemany(_EMAIL, told)
    return customer_ids


def _email(customer_id: int) -> str:
    return f"buyer.{customer_id}@example.com"


def _left(sale: Sale, customer_id: int | None) -> tuple[str | None, str | None]:
    """Return the e-mail address and the phone that are left with an order, however they are written today."""
    if customer_id is None or sale.leaves is Leaves.NOTHING:
        return None, None
    email, other_phone = _email(customer_id), f"091 {1_234_567 + customer_id}"
    if sale.leaves is Leaves.BOTH:
        return email, other_phone
    return (email.upper(), None) if sale.leaves is Leaves.EMAIL else (None, f"+38{other_phone}")


class Replay:
    """Sells, from entry of the block to its end. `commits` tells when what became known: monotonic seconds.

    Its keys are the purchase's id and the codes of its bonus entries. `rate` is sales per second, 0 as fast as they go.
    """

    def __init__(self, conninfo: str, sales: Sequence[Sale], customer_ids: Mapping[str, int], *, rate: float) -> None:
        self._conninfo = conninfo
        self._customer_ids = customer_ids
        self._sales = sales
        self._rate = rate
        self._began_s = 0.0
        self._stop = threading.Event()
        self._executor = ThreadPoolExecutor(SESSIONS, thread_name_prefix="till")
        self._sessions: list[Future[None]] = []
        self.commits: dict[str, float] = {}
        self._counts = [0] * SESSIONS  # one for each session, so that no two add to the same

    def __enter__(self) -> Self:
        self._began_s = monotonic()
        self._sessions = [self._executor.submit(self._run, number) for number in range(SESSIONS)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._executor.shutdown()

    @property
    def committed_count(self) -> int:
        """How many sales are committed."""
        return sum(self._counts)

    def is_over(self) -> bool:
        """Tell whether all is sold. Raises what a session raised."""
        for session in self._sessions:
            if session.done():
                session.result()
        return all(session.done() for session in self._sessions)

    def _run(self, number: int) -> None:
        with psycopg.connect(self._conninfo, autocommit=True, application_name=f"shop till {number}") as connection:
            for position, sale in enumerate(self._sales):
                if self._till_of(sale, position) != number:
                    continue
                if self._waits_in_vain(position):
                    return
                self._sell(connection, sale)
                self._counts[number] += 1

    def _till_of(self, sale: Sale, position: int) -> int:
        return (position if sale.customer is None else self._customer_ids[sale.customer]) % SESSIONS

    def _waits_in_vain(self, position: int) -> bool:
        """Wait until a sale is due; tell whether the shop was closed meanwhile."""
        due_s = self._began_s + position / self._rate if self._rate else 0.0
        return self._stop.wait(max(due_s - monotonic(), 0.0))

    def _sell(self, connection: psycopg.Connection, sale: Sale) -> None:
        if sale.is_broken_off_first:
            with connection.transaction(force_rollback=True):
                self._enter(connection, sale)
                # What accounting and the capture do at commit is done too, and taken back with the rest.
                connection.execute("set constraints all immediate")
        with connection.transaction():
            names = self._enter(connection, sale)
        committed_s = monotonic()
        self.commits.update((name, committed_s) for name in names)

    def _enter(self, connection: psycopg.Connection, sale: Sale) -> list[str]:
        """Write one sale; return by which names the world will hear of it."""
        buyer_id = None if sale.customer is None else self._customer_ids[sale.customer]
        customer_id = None if sale.is_guests else buyer_id
        purchased_at = datetime.now(UTC) - sale.age
        given = [customer_id, purchased_at, sale.total, *_left(sale, buyer_id)]
        row = connection.execute(_PURCHASE, given).fetchone()
        purchase_id = int(row[0]) if row else 0
        with connection.cursor() as cursor:
            cursor.executemany(_LINE, [_row(purchase_id, number, line) for number, line in enumerate(sale.lines, 1)])
        if customer_id is None:
            return [str(purchase_id)] if sale.is_guests else []
        codes = _enter_bonuses(connection, sale, customer_id, purchase_id, purchased_at)
        return [str(purchase_id), *codes]


def _enter_bonuses(
    connection: psycopg.Connection, sale: Sale, customer_id: int, purchase_id: int, purchased_at: datetime
) -> list[str]:
    """Redeem first, then accrue: nobody pays with what the same purchase earns. Return the codes."""
    codes = []
    redemption = min(sale.redemption_max, _balance(connection, customer_id)) if sale.redeems else Decimal(0)
    for kind, amount, expires_on in (
        ("redemption", redemption, None),
        ("accrual", sale.accrual, (purchased_at + BONUS_LIFE).date()),
    ):
        if amount > 0:
            code = f"{kind[0].upper()}-{purchase_id}"
            connection.execute(_ENTRY, [customer_id, purchase_id, kind, code, amount, expires_on])
            codes.append(code)
    return codes


def _balance(connection: psycopg.Connection, customer_id: int) -> Decimal:
    row = connection.execute(_BALANCE, [customer_id]).fetchone()
    return Decimal(row[0]) if row else Decimal(0)


def _row(purchase_id: int, number: int, line: Line) -> list[object]:
    return [purchase_id, number, line.sku, line.name, line.quantity, line.price, line.amount]
