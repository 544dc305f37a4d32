"""The judge: what InBoost did against what accounting says happened. Pure; it knows nothing of the outbox.

    books ──expected──▶ facts, in accounting's order ─┐
                                                      ├─match─▶ pairs ──▶ altered, out of order
    ledger ──▶ effects, in order of their happening ──┘   └──▶ lost, duplicated, unknown

An order of somebody who did not say that he is a customer must have reached the client that he is; when it is due among
the others of that client nobody can say, for accounting does not know whose it is.

A fact is known to the ledger by a name of accounting's own: a purchase by its id, a bonus entry by its code, a change
of balance by the balance that it led to. Only a repetition is recognised by the event id, as the receiver would do it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from itertools import chain, groupby
from operator import attrgetter
from typing import Any

from outbox_worker.demo.books import Books, Entry, Purchase
from outbox_worker.demo.control import Ledger, read_body
from outbox_worker.demo.sandbox.ledger import Effect
from outbox_worker.rules.phones import mask

OPERATIONS = ("purchase_webhook", "add_purchase", "accrual_webhook", "redemption_webhook", "set_bonus_balance")
COMPLAINTS = ("lost", "duplicated", "out of order", "unknown", "altered")
EXAMPLES_MAX = 10
_NAMED_BY = {
    "purchase_webhook": "purchaseId",
    "add_purchase": "purchaseId",
    "accrual_webhook": "code",
    "redemption_webhook": "code",
    "set_bonus_balance": "balance",
}

Name = tuple[str, str, str]  # operation, phone where the name is one within a customer only, name


@dataclass(frozen=True, slots=True)
class Fact:
    """An effect that must have happened, once. Its transaction and place order it among those of its customer."""

    name: Name
    phone: str
    transaction: int
    place: int  # among the facts of its operation
    words: dict[str, Any]  # what the body must say
    is_guests: bool = False
    has_contact: bool = False

    @property
    def operation(self) -> str:
        """The operation of the interface that carries it."""
        return self.name[0]


@dataclass(slots=True)
class Verdict:
    """How many of what, by operation; and what was seen of the whole."""

    expected: Counter[str] = field(default_factory=Counter)
    arrived: Counter[str] = field(default_factory=Counter)
    counts: dict[str, Counter[str]] = field(default_factory=lambda: {word: Counter() for word in COMPLAINTS})
    contact_count: int = 0  # orders with other contact details that reached the client that their buyer is
    overlapping_lanes: int = 0
    differing_customers: int = 0
    examples: list[str] = field(default_factory=list)

    def complain(self, word: str, operation: str, about: str) -> None:
        """Count something that is wrong, and keep the first ones as examples."""
        self.counts[word][operation] += 1
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(f"{word}: {operation} {about}")

    def total(self, word: str) -> int:
        """Count one kind of complaint over all operations."""
        return self.counts[word].total()

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to complain of."""
        return not (any(map(self.total, COMPLAINTS)) or self.overlapping_lanes or self.differing_customers)


def judge(books: Books, ledger: Ledger) -> Verdict:
    """Hold the ledger against the books."""
    verdict = Verdict(overlapping_lanes=ledger.overlapping_lanes)
    facts = list(expected(books))
    verdict.expected.update(fact.operation for fact in facts)
    verdict.arrived.update(effect.operation for effect in ledger.effects)
    pairs = _match(facts, _without_repetitions(ledger.effects, verdict), verdict)
    _compare(pairs, verdict)
    _check_order(pairs, verdict)
    _check_doubled(ledger.doubled, verdict)
    verdict.differing_customers = _differing_customers(books, ledger)
    return verdict


def expected(books: Books) -> Iterator[Fact]:
    """Derive every effect that the books call for, in order of their ids."""
    for purchase in books.purchases:
        for operation, words in (("purchase_webhook", _notice(purchase)), ("add_purchase", _details(purchase))):
            fact = _fact(operation, purchase.phone, purchase.purchase_id, purchase.purchase_id, words)
            yield replace(fact, is_guests=purchase.is_guests, has_contact=purchase.has_contact)
    balances: dict[str, Decimal] = defaultdict(Decimal)
    # A customer's entries of one sale are neighbours among the customer's own, not among all.
    for phone, entries in groupby(sorted(books.entries, key=attrgetter("phone", "entry_id")), attrgetter("phone")):
        for _, of_sale in groupby(entries, attrgetter("purchase_id")):
            yield from _bonus_facts(list(of_sale), phone, balances)


def _bonus_facts(entries: list[Entry], phone: str, balances: dict[str, Decimal]) -> Iterator[Fact]:
    """Derive the changes of balance one by one; a hook tells the balance that stood when the sale was committed."""
    committed = balances[phone] + sum(entry.change for entry in entries)
    for entry in entries:
        balances[phone] += entry.change
        balance = {"balance": balances[phone], "changedAt": entry.entered_at}
        yield _fact("set_bonus_balance", phone, entry.purchase_id, entry.entry_id, balance)
        hook = {"event": f"bonus_{entry.kind}", "occurredAt": entry.entered_at, "code": entry.code}
        hook |= {"amount": entry.amount, "balance": committed}
        yield _fact(f"{entry.kind}_webhook", phone, entry.purchase_id, entry.entry_id, hook)


def _fact(operation: str, phone: str, transaction: int, place: int, words: dict[str, Any]) -> Fact:
    return Fact(_name(operation, phone, words), phone, transaction, place, words)


def _name(operation: str, phone: str | None, words: Mapping[str, Any]) -> Name:
    within = phone if operation == "set_bonus_balance" else ""
    return operation, within or "", str(words.get(_NAMED_BY.get(operation, "eventId")))


def _notice(purchase: Purchase) -> dict[str, Any]:
    return {
        "event": "purchase",
        "occurredAt": purchase.purchased_at,
        "purchaseId": str(purchase.purchase_id),
        "total": purchase.total,
        "currency": purchase.currency,
    }


def _details(purchase: Purchase) -> dict[str, Any]:
    return {
        "purchaseId": str(purchase.purchase_id),
        "purchasedAt": purchase.purchased_at,
        "total": purchase.total,
        "currency": purchase.currency,
        "bonusAccrued": purchase.accrued,
        "bonusRedeemed": purchase.redeemed,
        "lines": list(purchase.lines),
    }


def _without_repetitions(effects: Iterable[Effect], verdict: Verdict) -> Iterator[Effect]:
    """Let the first effect of each event id pass, per operation, and count the others as duplicated."""
    seen: set[tuple[str, str]] = set()
    for effect in effects:
        key = (effect.operation, effect.event_id or "")
        if effect.event_id is not None and key in seen:
            verdict.complain("duplicated", effect.operation, f"event {effect.event_id}")
            continue
        seen.add(key)
        yield effect


Pair = tuple[Fact, Effect, dict[str, Any]]


def _match(facts: Iterable[Fact], effects: Iterable[Effect], verdict: Verdict) -> list[Pair]:
    """Find the fact of each effect."""
    open_facts: dict[Name, list[Fact]] = defaultdict(list)
    for fact in facts:
        open_facts[fact.name].append(fact)
    place: dict[tuple[str, str], int] = defaultdict(int)  # of the latest pair, where a name can occur again
    pairs = []
    for effect in effects:
        words = read_body(effect.body) or {}
        operation, within, name = _name(effect.operation, effect.phone, words)
        candidates = open_facts.get((operation, within, name))
        if candidates:
            fact = _take(candidates, place[operation, within])
            place[operation, within] = fact.place
            pairs.append((fact, effect, words))
        else:
            verdict.complain(
                "unknown" if candidates is None else "duplicated", operation, f"{name} of {_shown(effect)}"
            )
    for fact in chain.from_iterable(open_facts.values()):
        verdict.complain("lost", fact.operation, f"{fact.name[2]} of {mask(fact.phone)}")
    return pairs


def _take(facts: list[Fact], place: int) -> Fact:
    """Take the fact of an effect out of those of its name.

    They are more than one where a balance comes back to what it was. The first that does not go back in time is meant;
    only where there is none, something is out of order.
    """
    later = (index for index, fact in enumerate(facts) if fact.place > place)
    return facts.pop(next(later, 0))


def _compare(pairs: Iterable[Pair], verdict: Verdict) -> None:
    for fact, effect, words in pairs:
        wrong = [word for word, value in fact.words.items() if not is_same(value, words.get(word))]
        if effect.phone != fact.phone:
            wrong.append("phone")
        elif fact.has_contact and fact.operation == "add_purchase":
            verdict.contact_count += 1
        if wrong:
            verdict.complain("altered", fact.operation, f"{fact.name[2]} of {mask(fact.phone)}: {', '.join(wrong)}")


def is_same(ours: Any, theirs: Any) -> bool:
    """Compare a value of the books with one of a body: 12.50 is not 12.5, for money keeps its scale on the wire."""
    if isinstance(ours, Decimal):
        return isinstance(theirs, Decimal) and str(ours) == str(theirs)
    if isinstance(ours, datetime):
        return isinstance(theirs, str) and ours == _instant(theirs)
    if isinstance(ours, list):
        return isinstance(theirs, list) and len(ours) == len(theirs) and all(map(is_same, ours, theirs))
    if isinstance(ours, dict):
        return isinstance(theirs, dict) and all(is_same(value, theirs.get(key)) for key, value in ours.items())
    return bool(ours == theirs)


def _instant(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _check_order(pairs: Iterable[Pair], verdict: Verdict) -> None:
    """Count what came after something that it should have come before, per customer and destination.

    Accounting orders the transactions of a customer and the facts of one kind; between a purchase and a bonus entry
    that were committed together there is no order.
    """
    newest: dict[tuple[str, ...], int] = defaultdict(int)
    for fact, effect, _ in pairs:
        if fact.is_guests:
            continue
        lane = (effect.destination, fact.phone)
        kind = (*lane, fact.operation)
        if fact.transaction < newest[lane] or fact.place < newest[kind]:
            verdict.complain("out of order", fact.operation, f"{fact.name[2]} of {mask(fact.phone)}")
        newest[lane] = max(newest[lane], fact.transaction)
        newest[kind] = max(newest[kind], fact.place)


def _check_doubled(doubled: Mapping[str, int], verdict: Verdict) -> None:
    """Believe the sandbox's own count where it is higher than ours."""
    duplicated = verdict.counts["duplicated"]
    for operation, count in doubled.items():
        duplicated[operation] = max(duplicated[operation], count)


def _differing_customers(books: Books, ledger: Ledger) -> int:
    """Count the customers of whom InBoost has, in the end, another balance or other purchases than accounting."""
    purchases: dict[str, set[str]] = defaultdict(set)
    for purchase in books.purchases:
        purchases[purchase.phone].add(str(purchase.purchase_id))
    moved = {entry.phone for entry in books.entries}  # a balance that never changed is told to nobody
    return sum(
        purchases[phone] != ledger.purchases.get(phone, frozenset())
        or not is_same(balance if phone in moved else None, ledger.balances.get(phone))
        for phone, balance in books.balances.items()
    )


def _shown(effect: Effect) -> str:
    return mask(effect.phone) if effect.phone else "nobody"
