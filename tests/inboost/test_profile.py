"""The InBoost profile: the requests of inboost.md, byte by byte, and what never becomes a request."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from standardwebhooks import Webhook

from outbox_worker import __version__
from outbox_worker.errors import ConfigurationError, Unsendable
from outbox_worker.inboost.operations import DEFAULT, DELIVERIES, HOOKS, Field
from outbox_worker.inboost.profile import Hook, Profile, Template
from outbox_worker.records import Claim, OnDoubt, Purpose, Request

NOW = datetime(2026, 11, 21, 10, 11, 12, 123456, UTC)
SECRET = "whsec_" + base64.b64encode(bytes(24)).decode()
PURCHASE = (
    '{"phone": "050 123 45 89", "total": 1234.50, "currency": "UAH", "purchase_id": "1234", "bonus_accrued": 12.30,'
    ' "purchased_at": "2026-11-21T10:11:12.123456+00:00", "bonus_redeemed": 0.00, "lines": [{"sku": "A-1", "name":'
    ' "Кава \\"зерно\\" 😀", "price": 450.00, "amount": 900.00, "quantity": 2.000, "cost": 300}]}'
)
PAYLOADS = {
    "set_bonus_balance": '{"phone":"+380501234589","balance":12.50,"changed_at":"2026-11-21T10:11:12+00:00"}',
    "add_purchase": PURCHASE,
    "accrual_webhook": '{"phone":"+380501234589","code":"ACC-1","amount":12.50,"balance":null}',
    "redemption_webhook": '{"phone":"+380501234589","code":"RED-1","amount":12.50}',
    "purchase_webhook": PURCHASE,
    "expiry_webhook": '{"expires_before":"2026-12-01","phones":["+380501234589"]}',
}


def profile(**changes: Any) -> Profile:
    settings: dict[str, Any] = {
        "operations": DEFAULT,
        "base_url": "https://portal.inboost.ai",
        "authorization": "Authorize: Bearer hunter2",
        "hooks": {name: Hook(f"https://hooks.example/{name}/") for name in HOOKS},
        "phone_region": "UA",
    }
    return Profile(**(settings | changes))


def claim(operation: str, payload: str | None = None, **changes: Any) -> Claim:
    return structs.replace(
        Claim(
            claim_id=3,
            lane=1,
            delivery_id=2,
            number=1,
            purpose=Purpose.SEND,
            event_id="purchase:1234",
            operation=operation,
            destination=DEFAULT[operation].destination if operation in DEFAULT else "api",
            payload=PAYLOADS.get(operation, "{}") if payload is None else payload,
            occurred_at=NOW,
            recorded_at=NOW,
            tries=0,
            misses=0,
        ),
        **changes,
    )


def sent(operation: str, payload: str | None = None, **changes: Any) -> Request:
    return profile().request(claim(operation, payload, **changes), NOW)


def headers_of(request: Request) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in request.headers)


def test_a_purchase_is_sent_with_its_lines_and_every_digit_of_its_money() -> None:
    request = sent("add_purchase")
    assert (request.method, request.url) == (
        "POST",
        "https://portal.inboost.ai/api/MyClients/%2B380501234589/purchases",
    )
    assert request.body.decode() == (
        '{"eventId":"purchase:1234","purchaseId":"1234","purchasedAt":"2026-11-21T10:11:12.123456+00:00",'
        '"total":1234.50,"currency":"UAH","bonusAccrued":12.30,"bonusRedeemed":0.00,"lines":[{"sku":"A-1",'
        '"name":"Кава \\"зерно\\" 😀","quantity":2.000,"price":450.00,"amount":900.00}]}'
    )


def test_a_balance_is_set() -> None:
    request = sent("set_bonus_balance")
    assert (request.method, request.url) == (
        "PUT",
        "https://portal.inboost.ai/api/MyClients/%2B380501234589/bonusBalance",
    )
    assert request.body == b'{"eventId":"purchase:1234","balance":12.50,"changedAt":"2026-11-21T10:11:12+00:00"}'


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        (
            "accrual_webhook",
            '{"event":"bonus_accrual","eventId":"purchase:1234","occurredAt":"2026-11-21T10:11:12.123456+00:00",'
            '"phone":"+380501234589","code":"ACC-1","amount":12.50,"balance":null}',
        ),
        (
            "redemption_webhook",
            '{"event":"bonus_redemption","eventId":"purchase:1234","occurredAt":"2026-11-21T10:11:12.123456+00:00",'
            '"phone":"+380501234589","code":"RED-1","amount":12.50}',
        ),
        (
            "purchase_webhook",
            '{"event":"purchase","eventId":"purchase:1234","occurredAt":"2026-11-21T10:11:12.123456+00:00",'
            '"phone":"+380501234589","purchaseId":"1234","total":1234.50,"currency":"UAH"}',
        ),
        (
            "expiry_webhook",
            '{"event":"bonus_expiry","eventId":"purchase:1234","occurredAt":"2026-11-21T10:11:12.123456+00:00",'
            '"expiresBefore":"2026-12-01","phones":["+380501234589"]}',
        ),
    ],
)
def test_a_webhook_is_posted_to_its_own_address(operation: str, body: str) -> None:
    request = sent(operation)
    assert (request.method, request.url) == ("POST", f"https://hooks.example/{DEFAULT[operation].destination}/")
    assert request.body.decode() == body


def test_a_doubt_about_a_purchase_is_looked_up_by_its_event_id() -> None:
    request = sent("add_purchase", purpose=Purpose.INQUIRE)
    assert (request.method, request.body) == ("GET", b"")
    assert request.url == "https://portal.inboost.ai/api/MyClients/%2B380501234589/purchases/purchase%3A1234"


def test_what_cannot_be_looked_up_is_not_sent_instead() -> None:
    with pytest.raises(Unsendable):
        sent("accrual_webhook", purpose=Purpose.INQUIRE)


def test_the_headers_say_who_and_what_and_the_token_goes_to_the_portal_only() -> None:
    common = {
        "Content-Type": "application/json",
        "User-Agent": f"outbox-worker/{__version__}",
        "Idempotency-Key": "purchase:1234",
    }
    for operation in DELIVERIES:
        token = {"Authorize": "Bearer hunter2"} if DEFAULT[operation].destination == "api" else {}
        assert headers_of(sent(operation)) == common | token


def test_a_hook_with_secrets_is_signed_with_each_of_them() -> None:
    other = "whsec_" + base64.b64encode(bytes(range(30))).decode()
    signing = profile(hooks={"purchase_hook": Hook("https://hooks.example/p/", (SECRET, other))})
    now = datetime.now(UTC)
    request = signing.request(claim("purchase_webhook", event_id="purchase:ключ 1"), now)
    headers = headers_of(request)
    assert headers["webhook-id"] == headers["Idempotency-Key"] == "purchase:%D0%BA%D0%BB%D1%8E%D1%87%201"
    for secret in (SECRET, other):
        assert Webhook(secret).verify(request.body, headers)["eventId"] == "purchase:ключ 1"


def test_the_prefix_stands_before_the_event_id_wherever_it_is_on_the_wire() -> None:
    prefixed = profile(event_id_prefix="shop2-")
    request = prefixed.request(claim("add_purchase"), NOW)
    assert json.loads(request.body)["eventId"] == headers_of(request)["Idempotency-Key"] == "shop2-purchase:1234"
    inquiry = prefixed.request(claim("add_purchase", purpose=Purpose.INQUIRE), NOW)
    assert inquiry.url.endswith("/purchases/shop2-purchase%3A1234")


def test_every_attempt_at_a_delivery_is_the_same_bytes() -> None:
    later = datetime(2026, 11, 22, tzinfo=UTC)
    for operation in DELIVERIES:
        again = profile().request(claim(operation, number=7, tries=6, lane=9), later)
        assert again == sent(operation)


event_ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(event_ids)
def test_no_event_id_breaks_out_of_its_place(event_id: str) -> None:
    request = sent("accrual_webhook", event_id=event_id)
    assert json.loads(request.body)["eventId"] == event_id
    inquiry_line = request.headers[-1]
    assert (
        inquiry_line.isascii()
        and inquiry_line.isprintable()
        and " " not in inquiry_line.removeprefix("Idempotency-Key: ")
    )
    try:
        url = sent("add_purchase", event_id=event_id, purpose=Purpose.INQUIRE).url
    except Unsendable:
        assert event_id in {".", ".."}
    else:
        assert url.isascii() and url.isprintable() and url.count("/") == 7 and not set(url) & set(" ?#")


@given(event_ids, event_ids)
def test_different_events_have_different_idempotency_keys(one: str, other: str) -> None:
    same = sent("accrual_webhook", event_id=one).headers[-1] == sent("accrual_webhook", event_id=other).headers[-1]
    assert same == (one == other)


@pytest.mark.parametrize("phone", ['"phone":"0000000",', '"phone":null,', '"phone":"тел. 1",', '"phone":[],', ""])
def test_a_delivery_without_a_usable_phone_waits_for_the_client(phone: str) -> None:
    with pytest.raises(Unsendable) as refusal:
        sent("accrual_webhook", f'{{{phone}"code":"X","amount":1}}')
    assert refusal.value.waits


def test_a_missing_value_does_not_wait_for_the_client() -> None:
    with pytest.raises(Unsendable, match="code") as refusal:
        sent("accrual_webhook", '{"phone":"+380501234589","amount":1}')
    assert not refusal.value.waits


def test_a_reason_never_holds_a_whole_phone_number() -> None:
    for payload in ('{"phone":"+380501234589', '{"phone":"+38050123458"}', '{"phone":"+380501234589"}'):
        with pytest.raises(Unsendable) as refusal:
            sent("add_purchase", payload)
        assert "38050" not in str(refusal.value)


def test_an_expiry_notice_leaves_unusable_phones_out_and_names_each_client_once() -> None:
    phones = ["+380501234589", "0000000", None, 5, "050 123 45 89", "+380671234511", ["x"]]
    request = sent("expiry_webhook", json.dumps({"expires_before": "2026-12-01", "phones": phones}))
    assert json.loads(request.body)["phones"] == ["+380501234589", "+380671234511"]


def test_a_list_that_was_normalised_when_it_was_recorded_is_sent_as_it_is() -> None:
    phones = ["+380501234589", "+380671234511"]
    given = {"expires_before": "2026-12-01", "normalised": True, "phones": phones}
    with mock.patch("outbox_worker.inboost.profile.normalise") as again:
        body = json.loads(sent("expiry_webhook", json.dumps(given)).body)
    assert (body["phones"], "normalised" in body, again.called) == (phones, False, False)


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("phones", [[], ["0000000"], None, "+380501234589", {}])
def test_an_expiry_notice_to_nobody_is_not_sent(phones: object, normalised: bool) -> None:
    with pytest.raises(Unsendable) as refusal:
        sent(
            "expiry_webhook",
            json.dumps({"expires_before": "2026-12-01", "phones": phones, "normalised": normalised}),
        )
    assert not refusal.value.waits


def test_an_operation_that_is_unknown_or_switched_off_is_not_sent() -> None:
    with pytest.raises(Unsendable, match="knows no operation"):
        sent("set_points")
    off = replace(DEFAULT["add_purchase"], enabled=False)
    with pytest.raises(Unsendable, match="switches add_purchase off"):
        profile(operations={**DEFAULT, "add_purchase": off}).request(claim("add_purchase"), NOW)
    with pytest.raises(Unsendable, match="switches purchase_webhook off"):
        profile(hooks={}).request(claim("purchase_webhook"), NOW)
    assert "add_purchase" not in profile(operations={**DEFAULT, "add_purchase": off}).deliveries
    assert profile().deliveries == DELIVERIES


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
NAMES = ["phone", "phones", "lines", "total", "code", "amount", "balance", "changed_at", "purchase_id", "event_id"]


@given(st.sampled_from(DELIVERIES), st.sampled_from(Purpose), st.dictionaries(st.sampled_from(NAMES), json_values))
def test_whatever_accounting_records_nothing_but_unsendable_is_raised(
    operation: str, purpose: Purpose, changes: dict[str, Any]
) -> None:
    payload = json.dumps(json.loads(PAYLOADS[operation]) | changes)
    try:
        request = sent(operation, payload, purpose=purpose)
    except Unsendable:
        return
    assert request.method == "GET" or json.loads(request.body)["eventId"] == "purchase:1234"


@pytest.mark.parametrize("evil", ["https://portal.inboost.ai\r\nX: y", "https://portal.inboost.ai/\x00", "https://й/"])
def test_an_address_or_header_that_could_break_a_line_is_refused(evil: str) -> None:
    with pytest.raises(ConfigurationError):
        profile(base_url=evil)
    with pytest.raises(ConfigurationError):
        profile(authorization=evil)
    with pytest.raises(ConfigurationError):
        profile(hooks={"expiry_hook": Hook(evil)})


@pytest.mark.parametrize("path", ["/a/{phone", "/a/phone}", "/a/{}", "/a/{a b}", "/{phone!r}"])
def test_a_path_with_a_stray_brace_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="brace"):
        Template(path)


def test_the_default_doubts_are_those_of_the_interface() -> None:
    assert {name: DEFAULT[name].on_doubt for name in DELIVERIES} == {
        "set_bonus_balance": OnDoubt.RESEND,
        "add_purchase": OnDoubt.LOOKUP,
        "accrual_webhook": OnDoubt.HOLD,
        "redemption_webhook": OnDoubt.HOLD,
        "purchase_webhook": OnDoubt.HOLD,
        "expiry_webhook": OnDoubt.HOLD,
    }
    assert all(DEFAULT[row.look_up].method == "GET" for row in DEFAULT.values() if row.look_up)


def test_clients_are_listed_page_by_page_and_a_first_page_has_no_cursor() -> None:
    page = profile().call("list_clients", {"limit": 100, "updated_since": None})
    assert (page.method, page.url) == ("GET", "https://portal.inboost.ai/api/MyClients?limit=100")
    page = profile().call("list_clients", {"updated_since": "2026-11-21T10:11:12+00:00", "limit": 5, "cursor": "a&b=/"})
    assert page.url == (
        "https://portal.inboost.ai/api/MyClients"
        "?updatedSince=2026-11-21T10%3A11%3A12%2B00%3A00&limit=5&cursor=a%26b%3D%2F"
    )


def test_a_client_is_found_and_added() -> None:
    assert (
        profile().call("find_client", {"phone": "+380501234589"}).url.endswith("/api/MyClients?phone=%2B380501234589")
    )
    client = {"phone": "+380501234589", "first_name": "Оля", "email": None, "shoe_size": 38}
    added = profile().call("add_client", client)
    assert (added.method, json.loads(added.body)) == ("POST", {"userPhoneNumber": "+380501234589", "userName": "Оля"})
    assert "Authorize: Bearer hunter2" in added.headers


def test_a_client_is_added_with_the_constants_that_a_portal_wants() -> None:
    row = DEFAULT["add_client"]
    wanted = replace(row, fields={**row.fields, "idRole": Field(constant=b"7")})
    added = profile(operations={**DEFAULT, "add_client": wanted}).call("add_client", {"phone": "+380501234589"})
    assert json.loads(added.body) == {"userPhoneNumber": "+380501234589", "idRole": 7}
