"""Identification: whose an order with contact data is, and under which phone InBoost knows that person.

    a sale commits, its deliveries wait ──rings──▶ identify ──▶ choose a phone ──▶ the deliveries go on
                                                                     └─no phone is known─▶ they wait until one is

It runs beside the rounds, in their process, with a connection of its own, and sleeps until a sale rings: a sale never
waits for identity's locks, and an order leaves some milliseconds after its commit. Every worker has one; two that meet
at an order do the same twice, and that has its effect once. What a crash leaves stands in `database.addressing`.

What is linked is what was given together with one order, or stands together in one customer of accounting's. That
accounting books two orders to one customer links nothing: shops book strangers to a customer called "retail".
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

import structlog

from outbox_worker import logs
from outbox_worker.database import addressees, addressing, directory, mapping_keys
from outbox_worker.database.addressees import Order
from outbox_worker.database.bell_session import BellSession
from outbox_worker.database.engine import explained
from outbox_worker.database.settlement import window_start
from outbox_worker.errors import OutboxWorkerError, SchemaMismatch, Unrecordable
from outbox_worker.rules.asking import EMAIL_MAX, PHONE_MAX, Ask
from outbox_worker.rules.phones import normalise
from outbox_worker.runtime.links import LinkTerms

BATCH = 100  # deliveries in one transaction
ASLEEP_S = 60.0  # how long it sleeps when nothing waits and nothing rings
COMPANY_S = 10.0  # the same beside another worker, which may die with the bell
WAITING_S = 2.0  # how often orders without a phone are looked at; no ring tells that a cluster has got one
UNKNOWN_S = 30.0  # how often orders are whose phone InBoost does not know: their look is a long one
EXPIRE_S = 3600.0
REFUSED_S = 0.2  # how soon the bell's lock is asked for again
SILENT_S = 0.5  # how often it looks where nobody ever rings
STOP_S = 1.0  # how soon a stop is noticed
SHARE = 100  # a look takes at most one part in so many of the time
AFTER_TROUBLE_S = (1.0, 2.0, 5.0, 15.0)

_log = structlog.get_logger("outbox_worker.rounds")


@dataclass(frozen=True, slots=True)
class IdentificationTerms:
    """`region` is the ISO 3166 country whose phones have no country code; `links` say how long history is."""

    region: str
    links: LinkTerms


class Identification:
    """Identifies orders until told to stop."""

    def __init__(self, conninfo: str, terms: IdentificationTerms, stop: threading.Event) -> None:
        self._conninfo = conninfo
        self._terms = terms
        self._stop = stop
        self._unknown_look = _Rarely(UNKNOWN_S)
        self._email_look = _Rarely(1.0)
        self._expiry = _Rarely(EXPIRE_S)
        self._waiting_look = _Rarely(WAITING_S)
        self._looked_up: set[str] = set()  # orders without a phone that accounting has been asked about

    def run(self) -> None:
        """Work and sleep until the stop; after trouble, begin again with a new connection."""
        troubles = 0
        while not self._stop.is_set():
            try:
                with explained(), BellSession(self._conninfo, "outbox-worker identification") as session:
                    while not self._stop.is_set():
                        self.run_once(session)
                        troubles = 0
            except OutboxWorkerError as error:
                _log.warning("orders cannot be identified", error=str(error))
            except Exception:  # or orders with contact data would silently wait for ever
                _log.exception("orders cannot be identified")
            self._stop.wait(AFTER_TROUBLE_S[min(troubles, len(AFTER_TROUBLE_S) - 1)])
            troubles += 1

    def run_once(self, session: BellSession) -> None:
        """Do all that there is to do, then sleep until there may be more."""
        self.work(session)
        if session.is_silent:
            self._wait(session, SILENT_S)
        elif session.arm():
            while not (self._stop.is_set() or self.work(session) or self._wait(session, self._sleep_s())):
                pass  # nothing waits and nothing has rung
            session.disarm()
        else:
            self._wait(session, min(self._sleep_s(), COMPANY_S) if session.somebody_sleeps() else REFUSED_S)

    def work(self, session: BellSession) -> int:
        """Identify what is to be identified, and look after what waits; return how many orders went on."""
        count = 0
        while not self._stop.is_set() and session.call(addressees.unidentified, 1):
            with session.nobody_erased():
                count += self._identify_and_address(session, session.call(addressees.unidentified, BATCH))
        return count + self._look_after(session)

    def _identify_and_address(self, session: BellSession, orders: Sequence[Order]) -> int:
        count, contact_ids = 0, self._identified(session, orders)
        # Customers first: where their orders go, the orders without a customer of the same people go too.
        for of_customers in (True, False):
            of = [n for n, it in enumerate(orders) if (it.customer_id is not None) == of_customers]
            count += self._address(session, [orders[n] for n in of], [contact_ids[n] for n in of])
        return count

    # Whose an order is.

    def _identified(self, session: BellSession, orders: Sequence[Order]) -> list[int | None]:
        """Identify orders one by one, each after what accounting has of its customer; return their contacts."""
        details = self._details_of_customers(session, orders)
        asks: list[Ask] = []
        for order in orders:
            own = details.get(order.customer_id or "", (None, None))
            asks += [self._ask(*own), self._ask(order.email, order.phone)]
        known: Collection[int] = session.call(addressees.known, asks)
        for place, ask in enumerate(asks):
            if place not in known:
                self._identify(session, ask)
        return session.call(addressees.contacts_of, asks[1::2])

    def _details_of_customers(self, session: BellSession, orders: Sequence[Order]) -> Mapping[str, tuple[str, str]]:
        customer_ids = sorted({it.customer_id for it in orders if it.customer_id is not None})
        if not customer_ids:
            return {}
        try:
            keys = session.call(mapping_keys.read)
        except SchemaMismatch:  # unmapped, for an upgrade of accounting: what the orders say themselves is enough
            return {}
        return session.call(addressees.customers, keys, customer_ids)

    def _identify(self, session: BellSession, ask: Ask) -> None:
        """Have it known whose this is; what identity does not take is told, and holds up nobody."""
        if ask.email is None and ask.phone is None:
            return
        try:
            session.call(addressees.identify, ask)
        except Unrecordable as error:
            _log.warning("contact not taken", reason=logs.clean(str(error)))

    def _ask(self, email: str | None, phone: str | None) -> Ask:
        """Make a question of what somebody typed; what is too long to be an address or a phone is none."""
        email = None if email is None or len(email) > EMAIL_MAX or not email.strip() else email
        phone = None if phone is None or len(phone) > PHONE_MAX or not phone.strip() else phone
        return Ask(email, phone, normalise(phone, self._terms.region))

    # Where it goes.

    def _address(self, session: BellSession, orders: Sequence[Order], contact_ids: Sequence[int | None]) -> int:
        if not orders:
            return 0
        blocking = self._terms.links.blocking
        addressed = session.call(addressing.address, orders, contact_ids, self._phones_of(orders), blocking)
        for it in {it.event_id: it for it in addressed if it.goes_on}.values():
            chosen_as = it.chosen_as or "no phone yet"
            _log.info("order identified", event_id=it.event_id, contact_id=it.contact_id, chosen_as=chosen_as)
        if self._waiting_look.is_wanted or any(it.goes_on and it.chosen_as is None for it in addressed):
            self._waiting_look.soon()  # clusters have grown, or there is a new one to look after
        return sum(it.goes_on and it.chosen_as is not None for it in addressed)

    def _phones_of(self, orders: Sequence[Order]) -> list[str | None]:
        return [normalise(it.customer_phone, self._terms.region) for it in orders]

    # What waits.

    def _look_after(self, session: BellSession) -> int:
        """Address anew what waits and may go on now; close what has waited for too long."""
        count = 0
        if self._waiting_look.is_due():
            with self._waiting_look:
                waiting = session.call(addressees.without_phone)
                promising = self._promising(session, waiting)
            self._waiting_look.is_wanted = bool(waiting)
            count += self._address_anew(session, promising)
            self._ask_accounting(session, waiting)
        if self._unknown_look.is_due():
            with self._unknown_look:
                promising = self._promising(session, session.call(addressees.unknown))
            count += self._address_anew(session, promising)
        if self._expiry.is_due():
            with self._expiry:
                self._expire(session)
            self._looked_up.clear()
        return count

    def _promising(self, session: BellSession, waiting: Sequence[Order]) -> list[Order]:
        found: list[Order] = []
        for orders in _batches(waiting):
            event_ids: Collection[str] = session.call(addressing.promising, orders, self._phones_of(orders))
            found += [it for it in orders if it.event_id in event_ids]
        return found

    def _address_anew(self, session: BellSession, promising: Sequence[Order]) -> int:
        return sum(self._address(session, it, [order.contact_id for order in it]) for it in _batches(promising))

    def _ask_accounting(self, session: BellSession, waiting: Sequence[Order]) -> None:
        """Look among accounting's customers for e-mail addresses of orders without a phone: of new ones, or hourly."""
        if not ({it.event_id for it in waiting} - self._looked_up and self._email_look.is_due()):
            return
        with session.nobody_erased():
            with self._email_look:
                found = session.call(addressees.customers_by_email)
            for customer_id, email, phone in found:
                self._identify(session, self._ask(email, phone))
                session.call(directory.add, [customer_id], [phone], [normalise(phone, self._terms.region)])
        self._looked_up = {it.event_id for it in waiting}
        if found:
            self._waiting_look.soon()

    def _expire(self, session: BellSession) -> None:
        links = self._terms.links
        since = session.call(window_start, links.time_zone, links.history_months)
        if count := session.call(addressees.expire, since, links.blocking):
            _log.info("orders expired", count=count)

    # Sleep.

    def _sleep_s(self) -> float:
        return self._waiting_look.wait_s() if self._waiting_look.is_wanted else ASLEEP_S

    def _wait(self, session: BellSession, seconds: float) -> bool:
        """Wait for so long, or until it rings; tell whether it did."""
        until_s = monotonic() + seconds
        while not self._stop.is_set() and (left_s := until_s - monotonic()) > 0:
            if session.wait(min(left_s, STOP_S)):
                return True
        return False


def _batches(orders: Sequence[Order]) -> Iterator[Sequence[Order]]:
    return (orders[start : start + BATCH] for start in range(0, len(orders), BATCH))


class _Rarely:
    """Something that is done every so often, and takes a small share of the time only. Enter it to do it."""

    def __init__(self, every_s: float) -> None:
        self.is_wanted = True
        self._every_s = every_s
        self._due_s = 0.0
        self._affordable_s = 0.0
        self._began_s = 0.0

    def is_due(self) -> bool:
        return monotonic() >= self._due_s

    def wait_s(self) -> float:
        return max(self._due_s - monotonic(), 0.0)

    def soon(self) -> None:
        """Have it done as soon as it can be afforded."""
        self.is_wanted, self._due_s = True, self._affordable_s

    def __enter__(self) -> None:
        self._began_s = monotonic()

    def __exit__(self, *_: object) -> None:
        now_s = monotonic()
        self._affordable_s = now_s + SHARE * (now_s - self._began_s)
        self._due_s = max(now_s + self._every_s, self._affordable_s)
