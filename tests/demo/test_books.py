"""Who bought, by accounting alone: the judge's own reading of who is who."""

from __future__ import annotations

from outbox_worker.demo.books import Buyers

ANNA, BORYS = "+380501234567", "+380671234567"
CUSTOMERS = [(1, "050 123 45 67", "anna@example.com"), (2, BORYS, None)]


def test_a_buyer_is_found_by_a_detail_of_the_customers_own() -> None:
    buyers = Buyers(CUSTOMERS, [(None, "050 765 43 21", "Anna@Example.com")])
    assert buyers.phone_of("+380507654321", None) == ANNA
    assert buyers.phone_of(None, "ANNA@example.com") == ANNA


def test_a_buyer_is_found_by_what_was_left_with_an_order_of_the_customers() -> None:
    buyers = Buyers(CUSTOMERS, [(2, "0631112233", "b@example.com"), (None, None, "b@example.com")])
    assert buyers.phone_of(None, "b@example.com") == buyers.phone_of("063 111 22 33", None) == BORYS


def test_who_could_be_two_customers_or_nobody_is_nobody() -> None:
    buyers = Buyers(CUSTOMERS, [(2, None, "anna@example.com"), (None, "0631112233", None)])
    assert buyers.phone_of(None, "anna@example.com") == ""
    assert buyers.phone_of("0631112233", None) == ""
