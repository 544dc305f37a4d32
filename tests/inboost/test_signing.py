"""Signatures: what a receiver that uses the same library accepts, and which secrets are refused at once."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from outbox_worker.errors import ConfigurationError
from outbox_worker.inboost.signing import Signer

OLD = "whsec_" + base64.b64encode(bytes(range(24))).decode()
NEW = "whsec_" + base64.b64encode(bytes(range(100, 132))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(range(50, 82))).decode()


def as_received(lines: tuple[str, ...]) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in lines)


def test_the_vector_of_the_specification_is_met() -> None:
    signer = Signer(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
    lines = signer.headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", datetime.fromtimestamp(1614265330, UTC), b'{"test": 2432232314}'
    )
    assert lines[2] == "webhook-signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.text().map(lambda text: text.encode("utf-8", "replace")))
def test_a_receiver_accepts_what_was_signed_whatever_the_body(body: bytes) -> None:
    headers = as_received(Signer([OLD]).headers("purchase:1", datetime.now(UTC), body))
    Webhook(OLD).verify(body, headers, json_parse=False)


def test_the_signature_covers_the_body_and_the_identifier() -> None:
    headers = as_received(Signer([OLD]).headers("purchase:1", datetime.now(UTC), b"{}"))
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(b"{ }", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(b"{}", headers | {"webhook-id": "purchase:2"})


def test_during_a_rotation_the_old_and_the_new_secret_are_both_good_and_no_other() -> None:
    headers = as_received(Signer([OLD, NEW]).headers("purchase:1", datetime.now(UTC), b"{}"))
    assert len(headers["webhook-signature"].split(" ")) == 2
    Webhook(OLD).verify(b"{}", headers)
    Webhook(NEW).verify(b"{}", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(b"{}", headers)


def test_the_zone_of_the_clock_does_not_matter() -> None:
    now = datetime.now(UTC)
    kyiv = now.astimezone(timezone(timedelta(hours=3)))
    assert Signer([OLD]).headers("purchase:1", kyiv, b"{}") == Signer([OLD]).headers("purchase:1", now, b"{}")


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        OLD.removeprefix("whsec_"),
        OLD[:-8],
        OLD[:20] + " " + OLD[20:],
        OLD + "\n",
        OLD[:-1] + "й",
        "whsec_" + base64.b64encode(bytes(65)).decode(),
    ],
)
def test_a_bad_secret_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        Signer([secret])
    assert OLD[8:20] not in str(refusal.value)
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


@pytest.mark.parametrize("secrets", [[], [OLD, NEW, OTHER]])
def test_a_hook_has_one_secret_or_two(secrets: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="during a rotation"):
        Signer(secrets)
