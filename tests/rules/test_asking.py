"""What is read of a request to identify."""

from __future__ import annotations

import pytest

from outbox_worker.errors import Unreadable
from outbox_worker.rules.asking import Ask, read


@pytest.mark.parametrize(
    ("body", "ask"),
    [
        (b'{"email": "a@x"}', Ask("a@x", None, None)),
        (b'{"email": null, "phoneNumber": "050 123-45-67"}', Ask(None, "050 123-45-67", "+380501234567")),
        (b'{"phoneNumber": 380501234567}', Ask(None, "380501234567", "+380501234567")),
        (b'{"phoneNumber": 1.0}', Ask(None, "1", None)),
        (b'{"email": " ", "phoneNumber": "12"}', Ask(" ", "12", None)),
        (b"{}", Ask(None, None, None)),
    ],
)
def test_values_are_taken_as_they_were_given_and_a_phone_in_its_normal_form_too(body: bytes, ask: Ask) -> None:
    assert read(body, "UA") == ask


def test_the_region_decides_how_a_national_number_is_read() -> None:
    assert read(b'{"phoneNumber": "0171 2345678"}', "DE").phone_normal == "+491712345678"


def test_a_refusal_names_the_field_and_never_the_value() -> None:
    with pytest.raises(Unreadable) as refused:
        read(b'{"phoneNumber": ["+380501234567"]}', "UA")
    assert refused.value.field == "phoneNumber"
    assert "380" not in str(refused.value)
