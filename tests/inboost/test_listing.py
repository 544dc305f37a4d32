"""Pages of clients: whatever InBoost answers, every client that is one is read, and every end is a sentence."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outbox_worker.errors import ConfigurationError, InBoostUnavailable
from outbox_worker.inboost.client import Answer
from outbox_worker.inboost.client import Client as HttpClient
from outbox_worker.inboost.listing import CursorExpired, Listing, Page, PageReader
from outbox_worker.inboost.operations import DEFAULT
from outbox_worker.inboost.profile import Profile
from outbox_worker.records import Evidence, Exchange, Request
from outbox_worker.rules.clients import SPELLING_MAX, TEXT_MAX, identify
from outbox_worker.rules.phones import normalise

TODAY = date(2026, 11, 21)
READER = PageReader(DEFAULT["list_clients"].fields)
FIELDS = ("id", "userPhoneNumber", "userName", "lastName", "email", "birth", "source", "profession", "updatedAt")
BROAD = settings(suppress_health_check=list(HealthCheck), max_examples=100)

anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
plausible = st.sampled_from(
    [
        "+380501112233",
        "050 111 22 33",
        380501112233,
        "x" * 300,
        "\x00",
        "1990-02-30",
        "2026-01-01T00:00:00Z",
        "",
        "٠٥٠١١١٢٢٣٣",
    ]
)
items = st.dictionaries(st.sampled_from(FIELDS), anything | plausible) | anything


def answered(body: bytes, status: int = 200) -> Answer:
    return Answer(Exchange(Evidence.ANSWERED, status, None, body, "", 1), datetime(2026, 11, 21, tzinfo=UTC))


def read(document: object) -> Page:
    return READER.read(answered(json.dumps(document).encode()), TODAY)


@given(st.lists(items, max_size=5))
@BROAD
def test_whatever_stands_in_a_page_nothing_is_lost_and_the_rest_is_read(listed: list[Any]) -> None:
    page = read(
        {"items": [*listed, {"id": 7, "userPhoneNumber": "+380501112233", "userName": "Anna"}], "nextCursor": None}
    )
    assert len(page.clients) + len(page.unreadable) == len(listed) + 1
    assert [it for it in page.clients if it.client_id == "7" and it.first_name == "Anna"]
    for it in page.clients:
        texts = (it.first_name, it.last_name, it.source, it.specialty, it.spelled, it.client_id)
        assert all(text is None or 0 < len(text) <= TEXT_MAX for text in texts)
        assert min("".join(filter(None, texts)), default=" ") >= " ", "no control characters, which PostgreSQL refuses"
        phone = identify(it, "UA").phone
        assert phone is None or normalise(phone, "UA") == phone
        msgspec.json.encode(it), "".join(filter(None, texts)).encode()


@given(st.binary(max_size=200) | anything.map(lambda it: json.dumps(it).encode()))
@BROAD
def test_whatever_is_no_page_ends_in_a_sentence(body: bytes) -> None:
    with suppress(InBoostUnavailable):
        READER.read(answered(body), TODAY)


def test_a_client_is_read_with_all_its_fields() -> None:
    (it,) = read(
        {
            "items": [
                {
                    "id": 12,
                    "userPhoneNumber": 380501112233,
                    "userName": "  Анна\tМарія ",
                    "lastName": None,
                    "birth": "03.02.1990",
                    "profession": "лікар",
                    "updatedAt": "2026-11-21T12:00:00+02:00",
                    "unknown": {"deep": []},
                }
            ],
            "nextCursor": "next",
        }
    ).clients
    assert (it.client_id, it.spelled, it.first_name, it.last_name) == ("12", "380501112233", "Анна Марія", None)
    assert (it.birth_date, it.specialty, it.source) == (date(1990, 2, 3), "лікар", None)
    assert it.updated_at == datetime(2026, 11, 21, 10, tzinfo=UTC)
    assert it.remarks == ()


@pytest.mark.parametrize(
    ("birth", "remark"),
    [
        ("1990-02-30", "birth_date 1990-02-30 is impossible"),
        ("2087-01-01", "birth_date 2087-01-01 is impossible"),
        ("1790-01-01", "birth_date 1790-01-01 is impossible"),
        ("tomorrow", "birth_date is no date"),
        (19900203, "birth_date is no date"),
        ("0000-00-00", None),
        ("", None),
    ],
)
def test_a_date_of_birth_that_is_impossible_is_told_and_left_out(birth: object, remark: str | None) -> None:
    (it,) = read({"items": [{"birth": birth}]}).clients
    assert (it.birth_date, it.remarks) == (None, (remark,) if remark else ())


def test_fields_that_are_too_long_or_no_text_are_told_and_left_out() -> None:
    (it,) = read(
        {"items": [{"userName": "x" * (TEXT_MAX + 1), "lastName": ["a"], "userPhoneNumber": "1" * (SPELLING_MAX + 1)}]}
    ).clients
    assert (it.first_name, it.last_name, it.spelled) == (None, None, None)
    assert it.remarks == ("first_name has 201 characters", "last_name is no text")


def test_ten_megabytes_of_one_client_are_read_without_them() -> None:
    (it,) = read({"items": [{"id": 1, "userPhoneNumber": "0501112233", "userName": "A" * 10_000_000}]}).clients
    assert (it.client_id, it.first_name, it.remarks) == ("1", None, ("first_name has 10,000,000 characters",))
    assert len(msgspec.json.encode(it)) < 1_000


@pytest.mark.parametrize(
    "odd", [r'"\ud800"', "NaN", "1" * 5_000, '"\xff"'], ids=["surrogate", "NaN", "digits", "UTF-8"]
)
def test_what_is_no_json_in_one_client_fails_no_other(odd: str) -> None:
    body = f'{{"items":[{{"id":1,"userName":{odd}}},{{"id":2}}],"nextCursor":"a"}}'.encode("latin-1")
    page = READER.read(answered(body), TODAY)
    assert [it.client_id for it in page.clients] == ["1", "2"]
    assert page.cursor == "a"


@pytest.mark.parametrize("cursor", [5, "a/b=="])
def test_the_list_goes_on_at_the_cursor(cursor: object) -> None:
    assert read({"items": [], "nextCursor": cursor}).cursor == str(cursor)


@pytest.mark.parametrize("last", [{"items": []}, {"items": [], "nextCursor": None}, {"items": [], "nextCursor": ""}])
def test_the_last_page_has_no_cursor(last: dict[str, Any]) -> None:
    assert read(last).cursor is None


@pytest.mark.parametrize("cursor", [[], {}, True, "x" * 9_000, "a\nb"])
def test_a_cursor_that_is_none_ends_in_a_sentence(cursor: object) -> None:
    with pytest.raises(InBoostUnavailable, match="nextCursor"):
        read({"items": [], "nextCursor": cursor})


class Answering(HttpClient):
    """Answers at once, and keeps what was asked."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.asked: list[Request] = []

    def read(self, request: Request) -> Answer:
        self.asked.append(request)
        return self._answer


def listing(answer: Answer) -> tuple[Listing, Answering]:
    client = Answering(answer)
    profile = Profile(operations=DEFAULT, base_url="https://p.example", authorization=None, hooks={}, phone_region="UA")
    return Listing(client, profile), client


def test_what_is_asked_names_the_watermark_the_size_and_the_cursor() -> None:
    source, client = listing(answered(b'{"items":[]}'))
    source.page(datetime(2026, 11, 21, 10, tzinfo=UTC), "a&b", 500, TODAY)
    source.page(None, None, 500, TODAY)
    assert [it.url.partition("?")[2] for it in client.asked] == [
        "updatedSince=2026-11-21T10%3A00%3A00%2B00%3A00&limit=500&cursor=a%26b",
        "limit=500",
    ]


@pytest.mark.parametrize(("status", "body"), [(410, b""), (400, b'{"error":"cursor_expired"}')])
def test_an_expired_cursor_is_told_apart_from_a_refusal(status: int, body: bytes) -> None:
    source, _ = listing(answered(body, status))
    with pytest.raises(CursorExpired):
        source.page(None, "a", 1, TODAY)
    with pytest.raises(InBoostUnavailable):
        source.page(None, None, 1, TODAY)


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_what_only_a_setting_can_mend_is_said_so(status: int) -> None:
    source, _ = listing(answered(b"", status))
    with pytest.raises(ConfigurationError, match=str(status)):
        source.page(None, None, 1, TODAY)


@pytest.mark.parametrize(
    "answer", [answered(b"", 500), Answer(Exchange(Evidence.NO_ANSWER, None, None, b"", "no answer in time", 1))]
)
def test_no_answer_is_a_sentence(answer: Answer) -> None:
    source, _ = listing(answer)
    with pytest.raises(InBoostUnavailable, match="the next run goes on there"):
        source.page(None, None, 1, TODAY)
