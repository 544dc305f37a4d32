"""Phone numbers: which are taken for one valid number, and that no masked text gives one away."""

from __future__ import annotations

import re

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox_worker.rules import phones
from outbox_worker.rules.phones import is_region, mask, mask_all, normalise


@pytest.mark.parametrize(
    "raw",
    [
        "+380501234589",
        "380501234589",
        "00380501234589",
        "0501234589",
        "501234589",
        "050 123-45-89",
        "(050) 123 45 89",
        "050.123.45.89",
        "+380 (50) 123‑45‑89",
        "  +380\u00a050\u00a0123\u00a045\u00a089 ",
        "\u202a+380501234589\u202c",
        "٠٥٠١٢٣٤٥٨٩",
        "＋380501234589",
    ],
)
def test_every_common_spelling_of_a_number_is_the_same_number(raw: str) -> None:
    assert normalise(raw, "UA") == "+380501234589"


@pytest.mark.parametrize(
    "raw",
    [
        None,
        "",
        "   ",
        "-",
        "0000000",
        "0500000000",
        "0999999999",
        "+380000000000",
        "1111111111",
        "12345",
        "80501234589",
        "050-FLOWERS",
        "тел. 0501234589",
        "+380501234589 доб. 12",
        "+380501234589x12",
        "0501234589#1",
        "0501234589;ext=3",
        "0501234589~12",
        "0501234589, 0671234589",
        "0501234589/0671234589",
        "0501234589 0671234589",
        "0501234589\n0671234589",
        "+380501234589+380671234589",
        "0501234589 (Оля)",
        "name@example.com",
        "0501234589\x00",
        "5" * 300,
        "+" * 300,
    ],
)
def test_what_is_not_certainly_one_valid_number_is_none(raw: str | None) -> None:
    assert normalise(raw, "UA") is None


def test_two_short_numbers_parted_by_a_slash_are_not_glued_into_a_long_one() -> None:
    assert normalise("030 1234 5678", "DE") == "+493012345678"
    assert normalise("030 1234/5678", "DE") is None


def test_a_number_with_its_country_code_does_not_depend_on_the_region() -> None:
    assert normalise("+14155552671", "UA") == normalise("+14155552671", "US") == "+14155552671"
    assert normalise("(415) 555-2671", "US") == "+14155552671"


def test_any_number_of_customers_takes_a_bounded_memory() -> None:
    assert phones._normalise.cache_info().maxsize == 32_768


@given(st.text())
def test_whatever_a_field_holds_the_answer_is_none_or_e164(raw: str) -> None:
    found = normalise(raw, "UA")
    assert found is None or re.fullmatch(r"\+[1-9][0-9]{6,14}", found)


@given(st.integers(min_value=0, max_value=10**7 - 1))
def test_normalising_twice_is_normalising_once(subscriber: int) -> None:
    found = normalise(f"067{subscriber:07d}", "UA")
    assert found is None or normalise(found, "UA") == found


def test_a_region_is_known_or_it_is_not() -> None:
    assert is_region("UA")
    assert not is_region("UK")
    assert not is_region("ua")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("+380501234589", "+380*******89"),
        ("+380 50 123-45-89", "+380*******89"),
        ("+14155552671", "+1********71"),
        ("0501234589", "********89"),
        ("123456", "***"),
        ("Оля", "***"),
        ("", ""),
    ],
)
def test_a_masked_number_keeps_its_country_code_and_last_two_digits(text: str, masked: str) -> None:
    assert mask(text) == masked


def test_the_country_code_is_found_as_the_library_finds_it() -> None:
    for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
        assert mask(f"+{code}55555599") == f"+{code}******99"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ('{"phone":"+380501234589"}', '{"phone":"+380*******89"}'),
        ("PUT /api/MyClients/%2B380501234589/bonusBalance", "PUT /api/MyClients/+380*******89/bonusBalance"),
        ("050 123 45 89 is unknown", "********89 is unknown"),
        ("+380501234589,+380671234511", "+380*******89,+380*******11"),
        ("tel0501234589!", "tel********89!"),
        ("٠٥٠١٢٣٤٥٨٩", "********٨٩"),
    ],
)
def test_a_number_is_masked_wherever_it_stands_in_a_text(text: str, masked: str) -> None:
    assert mask_all(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no answer after 10001 ms from portal.inboost.ai:443",
        "connect to 192.168.100.200 port 5432 failed",
        "due at 2026-11-21T10:11:12.123456+00:00",
        "worker 123e4567-e89b-12d3-a456-426614174000",
        "purchase:1234567",
    ],
)
def test_what_an_operator_must_read_stays_legible(text: str) -> None:
    assert mask_all(text) == text


@given(st.text(), st.integers(min_value=0, max_value=10**9 - 1), st.text())
def test_no_text_around_a_number_keeps_it_from_being_masked(before: str, number: int, after: str) -> None:
    assert f"{number:09d}"[:7] not in mask_all(f"{before}+380{number:09d}{after}")
