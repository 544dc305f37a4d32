"""Doctor's judgements on a mapping: columns that cannot be sent, facts that cannot be named, phones that are none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from outbox_worker.rules import mapping
from outbox_worker.rules.mapping import PROMISED, Column, FactSample, Trigger

TYPES = {
    mapping._KEY: ("bigint", "N"),
    mapping._TEXT: ("text", "S"),
    mapping._NUMBER: ("numeric", "N"),
    mapping._INSTANT: ("timestamp with time zone", "D"),
    mapping._DATE: ("date", "D"),
    mapping._JSON: ("json", "U"),
}


def columns(**changed: tuple[str, str]) -> Iterator[Column]:
    """Give every promised column in a good type, some in another: `purchase__total=("double precision", "N")`."""
    for view, names in PROMISED.items():
        for name, promised in names.items():
            yield Column(view, name, *changed.get(f"{view}__{name}", TYPES[promised]), is_readable=True)


def test_a_mapping_that_has_all_columns_is_well() -> None:
    assert [it.level for it in mapping.judge_views(list(columns()))] == ["ok"]


@pytest.mark.parametrize(
    ("where", "type_", "level", "words"),
    [
        ("purchase__purchased_at", ("timestamp without time zone", "D"), "fail", "at time zone"),
        ("purchase__total", ("double precision", "N"), "warn", "binary fraction"),
        ("purchase__total", ("text", "S"), "fail", "must be a number"),
        ("purchase_event__payload", ("jsonb", "U"), "fail", "must be json"),
        ("customer__birth_date", ("text", "S"), "fail", "must be a date"),
        ("customer__source", ("integer", "N"), "warn", "cast it to text"),
    ],
)
def test_a_type_that_cannot_be_sent_as_it_is_is_named(
    where: str, type_: tuple[str, str], level: str, words: str
) -> None:
    (found,) = mapping.judge_views(list(columns(**{where: type_})))
    assert found.level == level
    assert f"integration.{where.replace('__', '.')} is {type_[0]}" in found.sentence
    assert words in found.sentence


def test_what_types_other_systems_have_for_keys_and_texts_is_no_fault() -> None:
    strange = columns(purchase__purchase_id=("bytea", "U"), customer__first_name=("mvarchar", "U"))
    assert [it.level for it in mapping.judge_views(list(strange))] == ["ok"]


def trigger(name: str, *, deferred: bool = False, on: str = "insert", function: str = "") -> Trigger:
    return Trigger(
        function or name, name, "t", "O", is_deferred=deferred, is_on_insert=on == "insert", is_on_update=on == "update"
    )


def test_a_balance_is_captured_at_once_and_a_purchase_at_commit() -> None:
    whole = [trigger("capture_bonus_balance", on="update"), trigger("capture_purchase", deferred=True)]
    assert [it.level for it in mapping.judge_triggers(whole)] == ["ok"]
    assert [it.level for it in mapping.judge_triggers([])] == ["fail"]


def test_a_function_that_has_lost_one_of_its_triggers_is_named() -> None:
    left = [
        trigger("capture_first_balance", function="capture_balance"),
        trigger("capture_purchase_of_customer", on="update", function="capture_purchase"),
    ]
    found = [it.sentence for it in mapping.judge_triggers(left)]
    assert len(found) == 2
    assert "capture_balance when a row is changed" in found[0]
    assert "capture_purchase when a row is inserted" in found[1]


def test_facts_that_cannot_be_named_cannot_be_recorded() -> None:
    sample = FactSample(count=9, nameless_count=1, without_customer_count=2, without_instant_count=3, same_name_count=4)
    found = list(mapping.judge_facts(sample))
    assert [it.level for it in found] == ["fail", "fail", "fail", "warn"]
    assert "4 of 9 recent facts have the name of another" in found[1].sentence


def test_phones_that_are_none_are_counted_and_shown_masked() -> None:
    good, bad = ["050 123 45 89"] * 8, ["050 123 45", "0501234589 / 0671234567"]
    found = mapping.judge_phones([*good, *bad, None, ""], "UA")
    assert found.level == "warn"
    assert found.sentence.startswith("of 12 customers 2 have no phone, 2 one that is none")
    assert len(found.details) == 2
    assert not any("12345" in it for it in found.details)
    assert "phone_region" in mapping.judge_phones(bad, "UA").sentence
    assert mapping.judge_phones([], "UA").level == "ok"
