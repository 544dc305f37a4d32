"""Bodies: what accounting wrote arrives as it was written, whatever it is, under InBoost's names, and nothing else."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox_worker.errors import Unsendable
from outbox_worker.inboost import body
from outbox_worker.inboost.body import BodyMap
from outbox_worker.inboost.operations import Field

LINES = BodyMap({"rows": Field("lines", each={"sku": Field("sku", required=False), "q": Field("quantity")})})

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def mapped(fields: dict[str, Field], payload: str) -> bytes:
    return BodyMap(fields)(body.read(payload))


@pytest.mark.parametrize(
    "number", ["12.50", "0.10", "-0", "-0.00", "1e400", "1E-7", "0", "123456789012345678901234567890.10", "1.0"]
)
def test_a_number_travels_digit_by_digit(number: str) -> None:
    assert mapped({"t": Field("total")}, f'{{"total": {number} }}') == f'{{"t":{number}}}'.encode()


@given(st.decimals(allow_nan=False, allow_infinity=False, places=2))
def test_money_keeps_its_scale(amount: Decimal) -> None:
    text = mapped({"a": Field("amount")}, f'{{"amount":{amount:f}}}').decode()
    assert text == f'{{"a":{amount:f}}}'


@given(anything)
def test_any_value_arrives_as_the_text_it_was(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        if value is not None and "\\ud" not in text.lower():  # lone surrogates: see below
            assert mapped({"x": Field("given")}, f'{{"given":{text}}}') == b'{"x":' + text.encode() + b"}"


@given(st.text())
def test_any_wire_name_can_be_configured(name: str) -> None:
    if name.encode("utf-8", "ignore").decode() == name:
        assert json.loads(mapped({name: Field("given")}, '{"given":1}')) == {name: 1}


def test_a_text_of_a_megabyte_passes() -> None:
    name = json.dumps('«кава» \\ " 😀 ' * 60_000, ensure_ascii=False)
    assert len(name.encode()) > 1_000_000
    assert mapped({"n": Field("name")}, f'{{"name":{name}}}') == b'{"n":' + name.encode() + b"}"


def test_of_a_key_that_is_there_twice_the_last_one_counts_as_in_postgresql() -> None:
    assert mapped({"t": Field("total")}, '{"total":1,"total":2.50}') == b'{"t":2.50}'


def test_nothing_leaves_that_is_not_mapped() -> None:
    payload = '{"total":1,"margin":0.4,"lines":[{"sku":"A","quantity":2,"cost":1.10}]}'
    assert LINES(body.read(payload)) == b'{"rows":[{"sku":"A","q":2}]}'


def test_a_constant_stands_whatever_the_event_says() -> None:
    assert mapped({"event": Field(constant=b'"purchase"')}, '{"":1,"event":"x"}') == b'{"event":"purchase"}'


def test_what_may_be_missing_is_left_out_and_a_null_stays_a_null() -> None:
    fields = {"a": Field("a", required=False), "b": Field("b", required=False), "c": Field("c")}
    assert mapped(fields, '{"b":null,"c":""}') == b'{"b":null,"c":""}'


@pytest.mark.parametrize("payload", ['{"a":1}', '{"total":null}'])
def test_a_required_value_that_is_missing_is_named(payload: str) -> None:
    with pytest.raises(Unsendable, match="total") as refusal:
        mapped({"t": Field("total")}, payload)
    assert not refusal.value.waits


@pytest.mark.parametrize("value", ['"NaN"', '"12.50"', "true", "[1]", "{}"])
def test_money_that_is_no_number_is_not_sent(value: str) -> None:
    with pytest.raises(Unsendable, match="total is not a number"):
        mapped({"t": Field("total")}, f'{{"total":{value}}}')
    with pytest.raises(Unsendable, match="quantity is not a number"):
        LINES(body.read(f'{{"lines":[{{"quantity":{value}}}]}}'))


@pytest.mark.parametrize(
    "value", ["2026-11-21T10:11:12.123456+00:00", "2026-11-21T10:11:12+03:00", "2026-11-21T10:11:12Z"]
)
def test_an_instant_passes_as_postgresql_wrote_it(value: str) -> None:
    assert mapped({"at": Field("purchased_at")}, f'{{"purchased_at":"{value}"}}') == f'{{"at":"{value}"}}'.encode()


@pytest.mark.parametrize("value", ['"2026-11-21T10:11:12"', '"2026-11-21"', '"infinity"', "1763719872", '""'])
def test_an_instant_without_an_offset_is_not_sent(value: str) -> None:
    with pytest.raises(Unsendable, match="purchased_at is not an instant"):
        mapped({"at": Field("purchased_at")}, f'{{"purchased_at":{value}}}')


@pytest.mark.parametrize("lines", ["[]", "null", " [ ] "])
def test_a_purchase_without_lines_has_an_empty_list_of_them(lines: str) -> None:
    assert LINES(body.read(f'{{"lines":{lines}}}')) == b'{"rows":[]}'


@pytest.mark.parametrize("lines", ['"x"', "1", "{}", "[1]", "[[]]", '[{"quantity":1},null]'])
def test_lines_that_are_none_are_not_sent(lines: str) -> None:
    with pytest.raises(Unsendable, match="lines is not a list of objects"):
        LINES(body.read(f'{{"lines":{lines}}}'))


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "null",
        "[]",
        '"+380501234589"',
        "{",
        '{"a":NaN}',
        '{"a":01}',
        '{"a":"\\ud800"}',
        '{"a":"\x00"}',
        "[" * 100_000,
        '{"a":' + "[" * 50_000 + "]" * 50_000 + "}",
    ],
)
def test_a_payload_that_is_no_object_is_not_sent_and_not_quoted(payload: str) -> None:
    with pytest.raises(Unsendable, match=r"^the event's payload is not a JSON object$"):
        body.read(payload)


@given(st.text() | anything.map(json.dumps))
def test_whatever_a_payload_is_nothing_but_unsendable_is_raised(payload: str) -> None:
    for text in (payload, f'{{"lines":{payload},"phone":{payload},"total":{payload}}}'):
        try:
            values = body.read(text)
            body.text_of(values.get("phone"))
            BodyMap({"t": Field("total"), "l": Field("lines", each={"q": Field("quantity")})})(values)
        except Unsendable:
            pass


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ('{"phone":"+380501234589"}', "+380501234589"),
        ('{"phone":380501234589}', "380501234589"),
        ('{"phone":1e12}', None),
        ('{"phone":true}', None),
        ('{"phone":null}', None),
        ('{"phone":["+380501234589"]}', None),
        ('{"phone":' + "9" * 10_000 + "}", None),
        ("{}", None),
    ],
)
def test_a_phone_is_read_from_a_string_or_a_whole_number(payload: str, text: str | None) -> None:
    assert body.text_of(body.read(payload).get("phone")) == text


def test_an_instant_of_the_envelope_is_the_same_in_every_session_zone() -> None:
    kyiv = timezone(timedelta(hours=2))
    assert bytes(body.instant(datetime(2026, 11, 21, 12, 0, 0, 5, kyiv))) == b'"2026-11-21T10:00:00.000005+00:00"'
    assert bytes(body.instant(datetime(2026, 11, 21, 12, tzinfo=kyiv))) == b'"2026-11-21T10:00:00+00:00"'
