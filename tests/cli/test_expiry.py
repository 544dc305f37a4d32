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


def end(rows: Rows, state: str) -> None:
    rows.do("update outbox.delivery set state = %s, reason = 'x' where operation = 'expiry_webhook'", state)


@pytest.mark.usefixtures("lots")
def test_a_notice_that_was_discarded_is_made_anew_once_with_the_list_that_it_had(desk: Desk, rows: Rows) -> None:
    assert desk("expiry", "send", *WHY).status == 0
    event_id = f"bonus_expiry:{TODAY}-2"
    end(rows, "dead")
    refused = desk("expiry", "send", "--again", event_id, *WHY)
    assert (refused.status, "was not discarded" in refused.err, "requeue" in refused.err) == (1, True, True)
    assert desk("dead-letters", "discard", event_id, *WHY).status == 0
    rows.do("update accounting.customer set phone = '+380501234569'")  # the list is as it was
    assert "would tell 2 people again" in desk("expiry", "send", "--again", event_id, "--dry-run").out
    assert desk("expiry", "send", "--again", event_id).status == 2, "without a reason"
    told = desk("expiry", "send", "--again", event_id, "--json", *WHY).data
    assert (told["event_id"], told["phone_count"]) == (f"{event_id}-again", 2)
    payloads = rows.all("select payload->>'phones', payload->>'expires_before' from outbox.event order by sequence")
    assert len(payloads) == 2 and payloads[0] == payloads[1]
    to_send = rows.all("select event_id from outbox.delivery where operation = 'expiry_webhook'")
    assert to_send == [(f"{event_id}-again",)]
    assert rows.acts()[-1][:2] == ("record", f"{event_id}-again")
    twice = desk("expiry", "send", "--again", event_id, *WHY)
    assert (twice.status, "told again already" in twice.err) == (1, True)
    assert rows.all("select count(*) from outbox.event where kind = 'bonus_expiry'") == [(2,)]


@pytest.mark.usefixtures("lots")
def test_a_notice_that_was_delivered_that_has_expired_or_that_is_none_is_not_made_anew(desk: Desk, rows: Rows) -> None:
    assert desk("expiry", "send", *WHY).status == 0
    event_id = f"bonus_expiry:{TODAY}-2"
    rows.do("delete from outbox.delivery")
    assert "was not discarded" in desk("expiry", "send", "--again", event_id, *WHY).err
    rows.do(
        "insert into outbox.act (act, event_id, operation, destination, actor, reason)"
        " values ('discard', %s, 'expiry_webhook', 'expiry_hook', 'me', 'x')",
        event_id,
    )
    rows.do("update outbox.event set payload = (payload::jsonb || %s::jsonb)::json", f'{{"expires_before": "{TODAY}"}}')
    expired = desk("expiry", "send", "--again", event_id, *WHY)
    assert (expired.status, "has expired" in expired.err) == (1, True)
    unknown = desk("expiry", "send", "--again", "bonus_expiry:none", *WHY)
    assert (unknown.status, "events list --kind bonus_expiry" in unknown.err) == (1, True)


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
