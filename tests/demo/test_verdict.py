"""The judge can fail: whatever is done to a ledger that was right, it says so, and says what."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox_worker.demo.books import Books, Entry, Purchase, e164
from outbox_worker.demo.control import Ledger
from outbox_worker.demo.sandbox.ledger import Effect
from outbox_worker.demo.verdict import COMPLAINTS, Fact, expected, is_same, judge

ANNA, BORYS = "+380501234567", "+380671234567"
NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
encode = msgspec.json.Encoder(decimal_format="number").encode


def purchase(purchase_id: int, phone: str, accrued: str, redeemed: str = "0.00") -> Purchase:
    line = {
        "sku": "A1",
        "name": "Чай",
        "quantity": Decimal("2.000"),
        "price": Decimal("6.25"),
        "amount": Decimal("12.50"),
    }
    other = line | {"sku": "B2", "amount": Decimal("0.00")}
    money = Decimal(accrued), Decimal(redeemed)
    return Purchase(purchase_id, phone, (line, other), NOON, Decimal("12.50"), "UAH", *money)


def entry(entry_id: int, purchase_id: int, phone: str, amount: str, kind: str = "accrual") -> Entry:
    return Entry(entry_id, purchase_id, phone, kind, f"{kind[0].upper()}-{entry_id}", Decimal(amount), NOON)


# Anna's balance goes 5.00, 7.00, 5.00, 6.00: it comes back to where it was. Borys' purchases are between hers.
BOOKS = Books(
    purchases=[
        purchase(1, ANNA, "5.00"),
        purchase(2, BORYS, "3.00"),
        purchase(4, ANNA, "2.00"),
        purchase(5, ANNA, "1.00", "2.00"),
        purchase(6, BORYS, "0.00"),
    ],
    entries=[
        entry(1, 1, ANNA, "5.00"),
        entry(2, 2, BORYS, "3.00"),
        entry(4, 4, ANNA, "2.00"),
        entry(5, 5, ANNA, "2.00", "redemption"),
        entry(6, 5, ANNA, "1.00"),
    ],
    balances={ANNA: Decimal("6.00"), BORYS: Decimal("3.00"), "+380931234567": Decimal("0.00")},
)
DESTINATIONS = {
    "add_purchase": "api",
    "set_bonus_balance": "api",
    "accrual_webhook": "accrual",
    "redemption_webhook": "redemption",
    "purchase_webhook": "purchase",
}


def effect_of(fact: Fact, sequence: int, **changes: Any) -> Effect:
    event_id = f"{fact.operation}:{fact.place}"
    body = fact.words | {"eventId": event_id} | changes
    return Effect(
        sequence=sequence,
        acted_at=0.0,
        acted_monotonic_s=0.0,
        operation=fact.operation,
        destination=DESTINATIONS[fact.operation],
        event_id=event_id,
        phone=fact.phone,
        request=sequence,
        body=msgspec.Raw(encode(body)),
    )


def in_order(books: Books) -> list[Fact]:
    """As a worker that makes no mistake has it: by transaction, balances before the purchase."""
    return sorted(expected(books), key=lambda fact: (fact.transaction, fact.operation == "add_purchase", fact.place))


FACTS = in_order(BOOKS)
RIGHT = Ledger(
    effects=[effect_of(fact, sequence) for sequence, fact in enumerate(FACTS, 1)],
    balances={ANNA: Decimal("6.00"), BORYS: Decimal("3.00")},
    purchases={ANNA: frozenset({"1", "4", "5"}), BORYS: frozenset({"2", "6"})},
)


def find(operation: str, place: int) -> int:
    return next(i for i, fact in enumerate(FACTS) if (fact.operation, fact.place) == (operation, place))


def without(operation: str, place: int) -> list[Effect]:
    index = find(operation, place)
    return [effect for i, effect in enumerate(RIGHT.effects) if i != index]


def changed(operation: str, place: int, **changes: Any) -> list[Effect]:
    index = find(operation, place)
    return [effect_of(FACTS[i], i, **(changes if i == index else {})) for i in range(len(FACTS))]


def swapped(one: tuple[str, int], other: tuple[str, int]) -> list[Effect]:
    effects = list(RIGHT.effects)
    here, there = find(*one), find(*other)
    effects[here], effects[there] = effects[there], effects[here]
    return effects


def complaints(effects: list[Effect]) -> dict[str, int]:
    verdict = judge(BOOKS, replace(RIGHT, effects=effects))
    assert verdict.is_clean is not any(map(verdict.total, COMPLAINTS))
    return {word: verdict.total(word) for word in COMPLAINTS if verdict.total(word)}


def test_a_ledger_that_is_right_is_found_right() -> None:
    verdict = judge(BOOKS, RIGHT)
    assert verdict.is_clean
    assert verdict.examples == []
    assert (
        dict(verdict.expected)
        == dict(verdict.arrived)
        == {
            "purchase_webhook": 5,
            "add_purchase": 5,
            "accrual_webhook": 4,
            "redemption_webhook": 1,
            "set_bonus_balance": 5,
        }
    )


def test_each_change_of_a_balance_is_expected_in_order_also_one_that_was_soon_changed_again() -> None:
    balances = [str(fact.words["balance"]) for fact in FACTS if fact.name[:2] == ("set_bonus_balance", ANNA)]
    assert balances == ["5.00", "7.00", "5.00", "6.00"]


def test_a_hook_is_expected_to_tell_the_balance_that_the_whole_sale_led_to() -> None:
    assert FACTS[find("redemption_webhook", 5)].words["balance"] == Decimal("6.00")


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: f"{fact.operation}-{fact.place}")
def test_any_effect_that_did_not_happen_is_lost(fact: Fact) -> None:
    assert complaints(without(fact.operation, fact.place)) == {"lost": 1}


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: f"{fact.operation}-{fact.place}")
def test_any_effect_that_happened_twice_is_duplicated(fact: Fact) -> None:
    again = RIGHT.effects[find(fact.operation, fact.place)]
    assert complaints([*RIGHT.effects, again]) == {"duplicated": 1}


@pytest.mark.parametrize(("operation", "place"), [("purchase_webhook", 1), ("add_purchase", 4), ("accrual_webhook", 2)])
def test_the_same_fact_under_another_event_id_is_duplicated_too(operation: str, place: int) -> None:
    again = msgspec.structs.replace(RIGHT.effects[find(operation, place)], event_id="another")
    assert complaints([*RIGHT.effects, again]) == {"duplicated": 1}


def test_the_receivers_own_count_of_doubled_effects_is_believed() -> None:
    verdict = judge(BOOKS, replace(RIGHT, doubled={"accrual_webhook": 2, "add_purchase": 0}))
    assert verdict.total("duplicated") == 2
    assert not verdict.is_clean


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("purchase_webhook", 1), ("purchase_webhook", 4)),
        (("add_purchase", 4), ("add_purchase", 5)),
        (("accrual_webhook", 1), ("accrual_webhook", 4)),
        (("set_bonus_balance", 5), ("set_bonus_balance", 6)),
        (("set_bonus_balance", 1), ("set_bonus_balance", 4)),
        (("set_bonus_balance", 2), ("add_purchase", 6)),  # of two sales, at one destination
    ],
)
def test_two_effects_of_one_customer_at_one_destination_that_changed_places_are_out_of_order(
    one: tuple[str, int], other: tuple[str, int]
) -> None:
    found = complaints(swapped(one, other))
    assert set(found) == {"out of order"}


def test_effects_of_two_customers_have_no_order() -> None:
    assert complaints(swapped(("purchase_webhook", 1), ("purchase_webhook", 2))) == {}


def test_a_purchase_and_the_balances_of_the_same_sale_have_no_order() -> None:
    assert complaints(swapped(("set_bonus_balance", 1), ("add_purchase", 1))) == {}


@given(st.integers())
def test_lanes_may_be_interleaved_in_any_way(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    lanes: dict[tuple[str, str | None], list[Effect]] = {}
    for effect in RIGHT.effects:
        lanes.setdefault((effect.destination, effect.phone), []).append(effect)
    places = [lane for lane, effects in lanes.items() for _ in effects]
    chance.shuffle(places)
    turns = {lane: iter(effects) for lane, effects in lanes.items()}
    assert complaints([next(turns[lane]) for lane in places]) == {}


@given(st.permutations(range(len(FACTS))))
def test_whatever_the_order_nothing_but_the_order_is_complained_of(order: list[int]) -> None:
    assert set(complaints([RIGHT.effects[index] for index in order])) <= {"out of order"}


def test_a_sale_that_was_rolled_back_is_unknown_to_accounting() -> None:
    ghost = effect_of(FACTS[find("add_purchase", 1)], 99, purchaseId="3", eventId="purchase:3")
    ghost = msgspec.structs.replace(ghost, event_id="purchase:3")
    assert complaints([*RIGHT.effects, ghost]) == {"unknown": 1}


def test_an_operation_that_nothing_calls_for_is_unknown() -> None:
    ghost = msgspec.structs.replace(RIGHT.effects[0], operation="expiry_webhook", event_id="x", phone=None)
    assert complaints([*RIGHT.effects, ghost]) == {"unknown": 1}


@pytest.mark.parametrize(
    ("operation", "place", "changes"),
    [
        ("purchase_webhook", 1, {"total": Decimal("12.5")}),
        ("purchase_webhook", 1, {"total": "12.50"}),
        ("purchase_webhook", 1, {"currency": "EUR"}),
        ("add_purchase", 1, {"total": Decimal("12.51")}),
        ("add_purchase", 1, {"bonusAccrued": Decimal("5.0")}),
        ("add_purchase", 1, {"bonusRedeemed": None}),
        ("add_purchase", 1, {"purchasedAt": "2026-01-31T12:00:01+00:00"}),
        ("add_purchase", 1, {"purchasedAt": "yesterday"}),
        ("add_purchase", 1, {"lines": []}),
        ("add_purchase", 1, {"lines": [*BOOKS.purchases[0].lines[:1], {"sku": "B2"}]}),
        ("add_purchase", 1, {"lines": list(reversed(BOOKS.purchases[0].lines))}),
        ("accrual_webhook", 2, {"amount": Decimal("3.01")}),
        ("accrual_webhook", 2, {"balance": Decimal("2.00")}),
        ("redemption_webhook", 5, {"event": "bonus_accrual"}),
        ("set_bonus_balance", 2, {"changedAt": None}),
    ],
)
def test_a_body_that_says_something_else_is_altered(operation: str, place: int, changes: dict[str, Any]) -> None:
    assert complaints(changed(operation, place, **changes)) == {"altered": 1}


def test_a_balance_that_never_was_is_unknown_and_the_right_one_lost() -> None:
    assert complaints(changed("set_bonus_balance", 2, balance=Decimal("3.0"))) == {"unknown": 1, "lost": 1}


def test_what_went_to_another_customer_is_altered() -> None:
    effects = list(RIGHT.effects)
    index = find("add_purchase", 1)
    effects[index] = msgspec.structs.replace(effects[index], phone=BORYS)
    assert complaints(effects) == {"altered": 1}


def test_an_empty_ledger_has_lost_everything() -> None:
    assert complaints([]) == {"lost": len(FACTS)}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda: replace(RIGHT, balances={ANNA: Decimal("6.0"), BORYS: Decimal("3.00")}),
        lambda: replace(RIGHT, balances={ANNA: Decimal("6.00")}),
        lambda: replace(RIGHT, balances={**RIGHT.balances, "+380931234567": Decimal("0.00")}),
        lambda: replace(RIGHT, purchases={**RIGHT.purchases, BORYS: frozenset({"2"})}),
        lambda: replace(RIGHT, purchases={**RIGHT.purchases, BORYS: frozenset({"2", "6", "7"})}),
    ],
)
def test_a_customer_whose_final_state_differs_is_counted(spoil: Callable[[], Ledger]) -> None:
    verdict = judge(BOOKS, spoil())
    assert verdict.differing_customers == 1
    assert not verdict.is_clean


def test_two_requests_of_a_lane_at_a_time_fail_the_verdict() -> None:
    assert not judge(BOOKS, replace(RIGHT, overlapping_lanes=1)).is_clean


def test_examples_name_the_fact_and_hide_the_phone() -> None:
    verdict = judge(BOOKS, replace(RIGHT, effects=without("add_purchase", 4)))
    assert verdict.examples == ["lost: add_purchase 4 of +380*******67"]


def test_money_is_the_same_only_with_its_scale() -> None:
    assert is_same(Decimal("12.50"), Decimal("12.50"))
    assert not is_same(Decimal("12.50"), Decimal("12.5"))
    assert not is_same(Decimal("12"), 12)
    assert is_same(NOON, "2026-01-31T14:00:00+02:00")


def test_the_judge_reads_phones_by_itself() -> None:
    assert e164("(050) 123-45-67") == e164("380501234567") == ANNA


GUESTS = replace(BOOKS.purchases[2], is_guests=True, has_contact=True)
WITH_A_GUEST = replace(BOOKS, purchases=[GUESTS if it.purchase_id == 4 else it for it in BOOKS.purchases])


def test_an_order_of_a_guest_must_reach_the_client_that_he_is() -> None:
    verdict = judge(WITH_A_GUEST, RIGHT)
    assert verdict.is_clean and verdict.contact_count == 1
    effects = list(RIGHT.effects)
    index = find("add_purchase", 4)
    effects[index] = msgspec.structs.replace(effects[index], phone="+380507654321")
    verdict = judge(WITH_A_GUEST, replace(RIGHT, effects=effects))
    assert verdict.total("altered") == 1 and verdict.contact_count == 0


def test_an_order_of_a_guest_may_come_whenever_it_is_known_whose_it_is_and_the_others_may_not() -> None:
    assert judge(WITH_A_GUEST, replace(RIGHT, effects=swapped(("add_purchase", 4), ("add_purchase", 5)))).is_clean
    late = judge(WITH_A_GUEST, replace(RIGHT, effects=swapped(("add_purchase", 1), ("add_purchase", 5))))
    assert late.total("out of order")
