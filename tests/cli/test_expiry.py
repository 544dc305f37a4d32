"""`outbox-worker expiry`: who would be told, and telling them now."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.cli.desk import Desk
from tests.database.rows import Rows

WHY = ("--reason", "a campaign", "--actor", "olena@till")
TODAY = datetime.now(ZoneInfo("Europe/Kyiv")).date()


@pytest.fixture
def lots(rows: Rows) -> None:
    """Three customers whose bonuses expire tomorrow; one of them has no phone."""
    for customer, phone in enumerate(("050 123 45 61", "+380501234562", "none"), start=1):
        rows.do("insert into accounting.customer (phone) values (%s)", phone)
        rows.do("insert into accounting.bonus_account (customer_id) values (%s)", customer)
        rows.do(
            "insert into accounting.bonus_entry (customer_id, kind, code, amount, expires_on)"
            " values (%s, 'accrual', gen_random_uuid()::text, 5, %s)",
            customer,
            TODAY + timedelta(days=1),
        )
    rows.do("delete from outbox.event")


@pytest.mark.usefixtures("lots")
def test_a_preview_shows_who_would_be_told_and_changes_nothing(desk: Desk, rows: Rows) -> None:
    answer = desk("expiry", "preview")
    assert answer.status == 0
    text = " ".join(answer.out.split())
    assert f"would tell 2 people of 2 lots, expiring before {TODAY + timedelta(days=8)}: bonus_expiry:" in text
    assert "1 lot belongs to customers without a usable phone" in text
    assert "+380*******61" in text and "50123" not in text
    assert "+380501234561" in desk("expiry", "preview", "--reveal", "--limit", "1").out
    data = desk("expiry", "preview", "--json").data
    assert (data["phone_count"], data["lot_count"], data["unusable_phone_count"]) == (2, 2, 1)
    described = desk("expiry", "preview", "--help").out
    assert [key for key in data if key not in described] == []
    assert rows.all("select from outbox.event union all select from outbox.told_lot") == []


@pytest.mark.usefixtures("lots")
def test_who_was_told_is_not_told_again(desk: Desk, rows: Rows) -> None:
    assert desk("expiry", "send", "--dry-run").status == 0
    assert rows.acts() == []
    answer = desk("expiry", "send", *WHY)
    assert (answer.status, "told 2 people of 2 lots" in answer.out) == (0, True)
    assert rows.acts() == [("record", f"bonus_expiry:{TODAY}-2", None, None, "olena@till", "a campaign")]
    again = desk("expiry", "send", *WHY)
    assert (again.status, "but for 1 lot of customers without a usable phone" in again.err) == (1, True)
    assert desk("expiry", "send").status == 2


def test_where_nobody_is_to_be_told_scripts_get_a_document_too(desk: Desk) -> None:
    answer = desk("expiry", "preview", "--json")
    assert (answer.status, answer.data["event_id"], answer.data["phones"]) == (1, None, [])


def test_a_notice_that_is_switched_off_is_not_sent(
    configure: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    off = {"inboost.operations.expiry_webhook.enabled": False}
    desk = Desk(configure(off), monkeypatch, capsys)  # type: ignore[operator]
    answer = desk("expiry", "send", *WHY)
    assert (answer.status, "enabled is false" in answer.err) == (78, True)
    assert [
        it["state"] for it in desk("rounds", "list", "--json").data["rounds"] if it["round"] == "expiry_notice"
    ] == ["off"]
