"""Whose a client is, and what of it is stored: each rule, and that nothing is ever guessed or wiped."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox_worker.rules.clients import Client
from outbox_worker.rules.matching import (
    CONFLICTS,
    FIELDS,
    Create,
    Customer,
    Known,
    Link,
    Store,
    Unstored,
    Winner,
    changes,
    decide,
)

A, B = "+380501112233", "+380672223344"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NEWEST = dict.fromkeys(FIELDS, Winner.NEWEST)
CLIENT = Client(client_id="5", spelled=A, phone=A, first_name="Anna", updated_at=NOW)
CUSTOMER = Customer("17", "050 111 22 33", "Ганна", None, None, None, None, NOW - timedelta(days=1))
LINK = Link("17", "5", A)


def decided(known: Known, client: Client = CLIENT) -> Any:
    return decide(client, known, NEWEST, "UA")


@pytest.mark.parametrize(
    ("known", "kind", "customer_ids"),
    [
        (Known(customer_ids=("17", "18")), "shared_phone", ("17", "18")),
        (Known(by_phone=Link("17", "9", A), customer_ids=("17",), customer=CUSTOMER), "second_client", ("17",)),
        (
            Known(of_customer=Link("17", "9", B), customer_ids=("17",), customer=CUSTOMER),
            "second_client",
            ("17",),
        ),
        (Known(by_id=Link("17", "5", B), customer_ids=("18",), customer=CUSTOMER), "taken_phone", ("17", "18")),
        (Known(by_id=Link("17", "5", B), by_phone=Link("18", "9", A), customer=CUSTOMER), "taken_phone", ("17", "18")),
    ],
)
def test_where_two_could_be_meant_a_person_decides(known: Known, kind: str, customer_ids: tuple[str, ...]) -> None:
    found = decided(known)
    assert isinstance(found, Unstored)
    assert (found.kind, found.customer_ids) == (kind, customer_ids)
    assert kind in CONFLICTS
    person = decided(msgspec.structs.replace(known, is_decided=True, customer=CUSTOMER))
    assert isinstance(person, Store) and person.replaces and person.customer_id == "17"


@pytest.mark.parametrize(
    "known",
    [
        Known(customer_ids=("17",), customer=CUSTOMER),
        Known(by_id=LINK, by_phone=LINK, of_customer=LINK, customer_ids=("17",), customer=CUSTOMER),
        Known(by_id=LINK, by_phone=LINK, of_customer=LINK, customer_ids=("17", "18"), customer=CUSTOMER),
        Known(by_id=Link("17", "5", B), customer_ids=(), customer=CUSTOMER),
        Known(by_id=Link("17", "5", B), customer_ids=("17",), customer=CUSTOMER),
        Known(by_phone=Link("17", None, A), customer_ids=("17",), customer=CUSTOMER),
    ],
    ids=["new link", "as before", "somebody has its phone too", "moved", "moved on both sides", "has an id now"],
)
def test_where_one_is_meant_it_is_stored(known: Known) -> None:
    found = decided(known)
    assert isinstance(found, Store) and not found.replaces
    assert (found.customer_id, found.changes["first_name"]) == ("17", "Anna")


def test_nobody_has_the_phone_so_a_customer_is_created() -> None:
    assert decided(Known()) == Create()


def test_without_a_phone_nobody_is_created_or_matched() -> None:
    for client in (Client(client_id="5"), Client(client_id="5", spelled="050-FLOWERS")):
        found = decided(Known(by_id=LINK, customer=CUSTOMER), client)
        assert isinstance(found, Unstored) and found.kind == "no_phone"


def test_a_customer_whose_phone_has_just_changed_is_not_linked_by_the_old_one() -> None:
    moved = msgspec.structs.replace(CUSTOMER, phone="0672223344")
    found = decided(Known(customer_ids=("17",), customer=moved))
    assert isinstance(found, Unstored) and found.kind == "refused"


def test_another_spelling_of_the_phone_is_no_change() -> None:
    assert "phone" not in changes(CLIENT, CUSTOMER, dict.fromkeys(FIELDS, Winner.INBOOST), "UA")


@pytest.mark.parametrize("updated_at", [None, NOW - timedelta(days=2)])
def test_where_nobody_knows_which_is_newer_accounting_stays(updated_at: datetime | None) -> None:
    client = msgspec.structs.replace(CLIENT, updated_at=updated_at)
    assert changes(client, CUSTOMER, NEWEST, "UA") == {}
    assert changes(CLIENT, msgspec.structs.replace(CUSTOMER, changed_at=None), NEWEST, "UA") == {}


texts = st.none() | st.sampled_from(["", "Anna", "Ганна"])
instants = st.none() | st.datetimes(timezones=st.just(UTC))


@given(
    st.tuples(texts, texts, texts, texts),
    st.tuples(texts, texts, texts, texts),
    st.dates(),
    st.none() | st.dates(),
    instants,
    instants,
    st.fixed_dictionaries({name: st.sampled_from(Winner) for name in FIELDS}),
)
def test_an_empty_value_never_wipes_a_filled_one_and_a_filled_one_fills_an_empty(
    theirs: tuple[str | None, ...],
    ours: tuple[str | None, ...],
    born: date,
    born_here: date | None,
    updated_at: datetime | None,
    changed_at: datetime | None,
    winners: dict[str, Winner],
) -> None:
    names = ("first_name", "last_name", "source", "specialty")
    filled = [it or None for it in theirs]
    client = Client("5", A, A, birth_date=born, updated_at=updated_at, **dict(zip(names, filled, strict=True)))
    customer = Customer("17", A, ours[0], ours[1], born_here, ours[2], ours[3], changed_at)
    found = changes(client, customer, winners, "UA")
    for name in FIELDS:
        before, said = getattr(customer, name), getattr(client, name)
        after = found.get(name, before)
        assert after in (before, said)
        assert after or not (before or said), "what one side has is not lost"
        if before and said and winners[name] is Winner.ACCOUNTING:
            assert name not in found
