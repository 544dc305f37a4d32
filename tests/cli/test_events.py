"""`events`: did purchase 1234 reach InBoost, when, and if not why not, and what may I safely do?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.desk import Desk
from tests.database.rows import PHONE, PURCHASE, Rows

WHY = ("--reason", "Olena asked InBoost", "--actor", "olena@till")


# The story


def test_of_a_forgotten_event_it_is_said_that_it_was_forgotten(desk: Desk, rows: Rows) -> None:
    rows.purchase(1)
    rows.do("delete from outbox.delivery")
    rows.do("update outbox.event set payload = 'null', customer_id = null")
    said = " ".join(desk("events", "show", "purchase:1").out.split())
    assert "Its story is older than [rounds.housekeeping] keep, and forgotten" in said
    assert desk("events", "show", "purchase:1", "--json").data["event"]["payload"] is None


def test_the_story_of_a_usual_purchase_fits_a_screen_of_24_lines(desk: Desk, rows: Rows) -> None:
    event_id = rows.purchase(1234)
    rows.delivered(event_id, "add_purchase")
    rows.delivered(event_id, "purchase_webhook")
    told = desk("events", "show", event_id)
    assert told.status == 0
    assert len(told.lines) <= 24 and max(map(len, told.lines)) <= 80
    assert told.lines[0].startswith("purchase:1234")
    assert told.out.count("delivered") == 2
    assert "total 1234.50" in told.out


def test_the_story_of_a_purchase_in_trouble_fits_fifty_lines(desk: Desk, rows: Rows) -> None:
    event_id = rows.purchase(1)
    for _ in range(9):
        rows.retried(event_id)
    rows.dead(event_id)
    rows.held(event_id)
    for _ in range(30):
        rows.purchase(1)
    told = desk("events", "show", event_id)
    assert len(told.lines) <= 50
    assert "… 3 more: --every-attempt" in told.out
    assert "refused as a duplicate: 20 times or more" in told.out
    assert len(desk("events", "show", event_id, "--every-attempt").lines) > len(told.lines)


def test_a_held_delivery_is_told_with_what_to_ask_and_the_commands_for_either_answer(
    configure: Callable[..., Path], desk: Desk, rows: Rows
) -> None:
    configure({"inboost.event_id_prefix": "shop2-"})
    rows.held(rows.purchase(1))
    told = desk("events", "show", "shop2-purchase:1")
    assert "Ask there for shop2-purchase:1" in told.out
    assert "  outbox-worker in-doubt confirm purchase:1 --operation purchase_webhook --reason '…'\n" in told.out
    assert "  outbox-worker in-doubt resend purchase:1 --operation purchase_webhook --reason '…'\n" in told.out


@pytest.mark.parametrize(
    ("bring", "sentence"),
    [
        (Rows.in_doubt, "Nothing to do: InBoost is asked at"),
        (Rows.retried, "Nothing to do: it is tried again at"),
        (Rows.claimed, "It is being sent at this moment."),
        (Rows.waiting, "Mend the client, at InBoost or in accounting, then: outbox-worker lanes release --customer 7"),
        (Rows.dead, "it is safe to send again. Mend the cause, then requeue; or give up: outbox-worker dead-letters"),
        (Rows.held, "if it is there, confirm; only if it is not, resend. outbox-worker in-doubt confirm"),
    ],
)
def test_each_state_is_told_with_what_to_do(
    desk: Desk, rows: Rows, bring: Callable[[Rows, str, str], None], sentence: str
) -> None:
    event_id = rows.purchase(1)
    if bring is Rows.claimed:
        rows.claimed(event_id)
    else:
        bring(rows, event_id, "add_purchase")
    assert sentence in " ".join(desk("events", "show", event_id).out.split())


def test_a_claim_that_is_old_is_told_to_be_somebodys_who_is_gone(desk: Desk, rows: Rows) -> None:
    event_id = rows.purchase(1)
    rows.claimed(event_id)
    rows.do("update outbox.claim set claimed_at = now() - interval '1 hour'")
    assert "whoever claimed it is probably gone" in " ".join(desk("events", "show", event_id).out.split())


def test_a_dead_letter_whose_earlier_attempt_was_in_doubt_is_not_called_safe(desk: Desk, rows: Rows) -> None:
    event_id = rows.purchase(1)
    rows.attempt(event_id, "add_purchase", "in_doubt", "retry", evidence="no_answer")
    rows.move(event_id, "add_purchase", "pending", None)
    rows.dead(event_id)
    told = " ".join(desk("events", "show", event_id).out.split())
    assert "attempt 1 may have been acted upon. Ask at InBoost before you send it again" in told
    assert "safe" not in told


def test_a_look_up_that_did_not_find_it_makes_a_dead_letter_safe_again(desk: Desk, rows: Rows) -> None:
    event_id = rows.purchase(1)
    rows.in_doubt(event_id)
    rows.attempt(event_id, "add_purchase", "not_found", "retry", status=404, purpose="inquire")
    rows.move(event_id, "add_purchase", "pending", None)
    rows.dead(event_id)
    told = desk("events", "show", event_id).out
    assert "safe to send again" in told
    assert "asked" in told


def test_a_delivery_behind_another_is_told_with_the_other(desk: Desk, rows: Rows) -> None:
    rows.waiting(rows.purchase(1))
    rows.purchase(2)
    rows.following("purchase:2", behind="waits for the client")
    told = desk("events", "show", "purchase:2").out
    assert "It waits behind purchase:1, add_purchase, which is waiting for the client." in told
    assert "    outbox-worker events show purchase:1\n" in told


def test_a_delivery_to_a_paused_destination_is_told_with_why_it_is_paused(desk: Desk, rows: Rows) -> None:
    rows.purchase(1)
    desk("destinations", "pause", "api", "--reason", "token revoked")
    told = " ".join(desk("events", "show", "purchase:1").out.split())
    assert "It waits for api, which is paused: token revoked. When that is mended:" in told


def test_a_delivery_whose_operation_is_switched_off_is_told_so(
    configure: Callable[..., Path], desk: Desk, rows: Rows
) -> None:
    configure({"inboost.operations.add_purchase.enabled": False})
    rows.purchase(1)
    assert "The configuration switches add_purchase off" in desk("events", "show", "purchase:1").out


def test_historic_purchases_have_one_operation(desk: Desk, rows: Rows) -> None:
    told = desk("events", "show", rows.purchase(1, historic=True))
    assert "historic" in told.lines[0]
    assert "purchase_webhook" not in told.out


def test_an_event_without_a_route_is_told_to_go_nowhere(desk: Desk, rows: Rows) -> None:
    rows.do("update outbox.route set enabled = false")
    assert "Nothing was to be sent" in desk("events", "show", rows.purchase(1)).out


def test_phones_are_masked_unless_they_are_asked_for(desk: Desk, rows: Rows) -> None:
    event_id = rows.purchase(1, payload='{"phone": 380501234567, "note": "call +380501234567", "total": 1.50}')
    rows.dead(event_id, excerpt='{"error":"no +380501234567","token":"abc"}')
    for words in ([], ["--json"], ["--requests"]):
        told = desk("events", "show", event_id, *words).out
        assert "501234567" not in told and "abc" not in told
    revealed = desk("events", "show", event_id, "--reveal", "--requests").out
    assert "call +380501234567" in revealed
    assert "s3cret" not in desk("events", "show", event_id, "--reveal", "--requests", "--json").out


def test_requests_are_shown_as_they_would_be_sent_now(desk: Desk, rows: Rows) -> None:
    event_id = rows.purchase(1)
    body = json.loads(desk("events", "show", event_id, "--json", "--reveal").out)["operations"][0]["request"]
    assert body["method"] == "POST"
    assert body["address"] == "https://portal.inboost.ai/api/MyClients/%2B380501234567/purchases"
    assert body["body"]["eventId"] == "purchase:1"
    assert "https://portal.inboost.ai/… (purchase_hook)" in desk("events", "show", event_id).out


def test_an_attempt_whose_body_was_another_one_is_marked(desk: Desk, rows: Rows) -> None:
    event_id = rows.purchase(1)
    now = desk("events", "show", event_id, "--json").data["operations"][0]["request"]["digest"]
    rows.attempt(event_id, "add_purchase", "try_later", "retry", status=503, digest=now)
    rows.move(event_id, "add_purchase", "pending", None)
    rows.attempt(event_id, "add_purchase", "try_later", "retry", status=503, digest=hashlib.sha256().hexdigest())
    attempts = desk("events", "show", event_id, "--json").data["operations"][0]["attempts"]
    assert [it["is_same_body"] for it in attempts] == [True, False]
    assert "another one than would be sent now" in desk("events", "show", event_id).out


def test_the_json_of_a_story_has_the_keys_that_its_help_names(desk: Desk, rows: Rows) -> None:
    event_id = rows.purchase(1)
    rows.dead(event_id)
    rows.purchase(1)
    desk("dead-letters", "requeue", event_id, *WHY)
    data = desk("events", "show", event_id, "--json").data
    assert list(data) == ["event", "operations", "acts", "duplicates"]
    operation = data["operations"][0]
    named = [
        *data,
        *data["event"],
        *operation,
        *operation["attempts"][0],
        *operation["request"],
        *operation["advice"],
        *data["acts"][0],
        *data["duplicates"][0],
    ]
    described = desk("events", "show", "--help").out
    assert [name for name in named if name not in described] == []
    assert data["event"]["payload"]["phone"] == "+380*******67"
    assert '"total":1234.50' in desk("events", "show", event_id, "--json").out


def test_peoples_acts_are_part_of_the_story(desk: Desk, rows: Rows, worker_login: dict[str, str]) -> None:
    event_id = rows.purchase(1)
    rows.held(event_id)
    desk("in-doubt", "confirm", event_id, *WHY)
    told = " ".join(desk("events", "show", event_id).out.split())
    assert "by the word of olena@till" in told
    assert f"confirm purchase_webhook, by olena@till as {worker_login['user']}: Olena asked InBoost" in told


def test_a_discarded_delivery_is_told_to_be_given_up(desk: Desk, rows: Rows) -> None:
    event_id = rows.purchase(1)
    rows.dead(event_id)
    desk("dead-letters", "discard", event_id, *WHY)
    assert "add_purchase to api: discarded" in desk("events", "show", event_id).out


@pytest.mark.parametrize("payload", ["[1]", '"text"', '{"lines": [], "phones": ["+380501234567", "+380501234568"]}'])
def test_any_payload_can_be_told(desk: Desk, rows: Rows, payload: str) -> None:
    told = desk("events", "show", rows.purchase(1, payload=payload), "--requests")
    assert told.status == 0
    assert "501234567" not in told.out
    assert "nothing can be sent now" in told.out


def test_an_event_that_is_not_there_is_a_sentence_and_status_1(desk: Desk) -> None:
    answer = desk("events", "show", "purchase:9")
    assert (answer.status, answer.out) == (1, "")
    assert "no event purchase:9 was recorded" in answer.err
    assert "kind:source id" in desk("events", "show", "9").err


def test_a_fact_that_could_not_be_captured_is_told_so(desk: Desk, rows: Rows) -> None:
    rows.do("select outbox.record_capture_failure('purchase', '9', '22012', 'division by zero')")
    assert "could not be captured" in desk("events", "show", "purchase:9").err
    assert "division by zero" in desk("events", "show", "purchase:9").err


# The list


@pytest.fixture
def listed(rows: Rows) -> Rows:
    """Of five purchases the last is the newest: delivered, held, dead, waiting, pending."""
    for number, customer in enumerate("aabbc", 1):
        rows.purchase(number, customer)
    rows.delivered("purchase:1")
    rows.delivered("purchase:1", "purchase_webhook")
    rows.held("purchase:2")
    rows.dead("purchase:3")
    rows.waiting("purchase:4")
    return rows


def ids(desk: Desk, *words: str) -> list[str]:
    return [it["source_id"] for it in desk("events", "list", "--json", *words).data["events"]]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("", "54321"),
        ("--limit 2", "54"),
        ("--customer a", "21"),
        ("--kind purchase", "54321"),
        ("--kind bonus_accrual", ""),
        ("--state delivered", "1"),
        ("--state held", "2"),
        ("--state dead", "3"),
        ("--state waiting", "4"),
        ("--state pending", "5432"),
        ("--state pending --operation add_purchase", "52"),
        ("--state waiting --operation purchase_webhook", ""),
        ("--state pending --customer a", "2"),
        ("--state delivered --operation purchase_webhook", "1"),
        ("--operation add_purchase", "54321"),
        ("--operation expiry_webhook", ""),
        ("--since 1h", "54321"),
        ("--until 1h", ""),
        ("--since 2000-01-01 --until 2100-01-01T00:00:00+02:00", "54321"),
        ("--state held --until 1h", ""),
    ],
)
def test_events_are_listed_by_filters_the_newest_first(desk: Desk, listed: Rows, words: str, found: str) -> None:
    assert "".join(ids(desk, *words.split())) == found


def test_acts_count_as_ends(desk: Desk, listed: Rows) -> None:
    desk("in-doubt", "confirm", "purchase:2", *WHY)
    desk("dead-letters", "discard", "purchase:3", *WHY)
    assert ids(desk, "--state", "delivered") == ["2", "1"]
    assert ids(desk, "--state", "discarded") == ["3"]


def test_what_is_old_is_found_beyond_the_windows_when_it_is_asked_for(desk: Desk, listed: Rows) -> None:
    for number, days in enumerate((100, 20, 3, 0.5), 1):
        listed.do(
            "update outbox.event set recorded_at = now() - make_interval(secs => %s) where source_id = %s",
            days * 86_400,
            str(number),
        )
    assert ids(desk) == ["5", "4", "3", "2"]
    assert ids(desk, "--limit", "3") == ["5", "4", "3"]
    assert ids(desk, "--since", "200d") == ["5", "4", "3", "2", "1"]
    assert ids(desk, "--until", "2d") == ["3", "2"]
    assert ids(desk, "--state", "held") == ["2"]


def test_the_list_is_for_people_too(desk: Desk, listed: Rows) -> None:
    shown = desk("events", "list", "--state", "held")
    assert shown.status == 0
    assert "purchase:2" in shown.out and "purchase_webhook held" in " ".join(shown.out.split())
    answer = desk("events", "list", "--kind", "nothing")
    assert (answer.status, answer.out) == (1, "")
    assert "no event matches" in answer.err


@pytest.mark.parametrize("words", [["--since", "yesterday"], ["--state", "claimed"], ["--limit", "0"]])
def test_what_cannot_be_meant_is_a_usage_error(desk: Desk, words: list[str]) -> None:
    assert desk("events", "list", *words).status == 2


# Recording by hand


def record(desk: Desk, *words: str, payload: str = PURCHASE % 77) -> tuple[int, str]:
    said = desk("events", "record", "purchase", "77", "--customer", "7", "--payload", "-", *words, stdin=payload)
    return said.status, said.out + said.err


def test_a_fact_put_in_by_hand_goes_by_the_one_door_and_the_act_is_recorded(desk: Desk, rows: Rows) -> None:
    status, said = record(desk, *WHY, "--occurred-at", "2026-03-01T12:00:00+02:00")
    assert status == 0
    assert "purchase:77 is recorded, for 2 operations" in said
    assert rows.all(
        "select customer_id, occurred_at = '2026-03-01 10:00+00', historic, payload::text from outbox.event"
    ) == [("7", True, False, PURCHASE % 77)]
    assert rows.acts() == [("record", "purchase:77", None, None, "olena@till", "Olena asked InBoost")]
    assert "record, by olena@till" in desk("events", "show", "purchase:77").out


def test_a_dry_run_shows_what_would_be_sent_and_records_nothing(desk: Desk, rows: Rows) -> None:
    status, said = record(desk, "--dry-run", "--json")
    assert status == 0
    data = json.loads(said)
    assert (data["event_id"], data["is_new"]) == ("purchase:77", None)
    assert data["requests"]["add_purchase"]["body"]["total"] == 1234.5
    assert rows.all("select from outbox.event") == []
    assert PHONE not in said and PHONE in record(desk, "--dry-run", "--reveal")[1]


def test_a_known_fact_is_a_duplicate_and_status_1(desk: Desk, rows: Rows) -> None:
    rows.purchase(77)
    status, said = record(desk, *WHY)
    assert status == 1
    assert "purchase:77 is known" in said
    assert rows.all("select event_id from outbox.duplicate") == [("purchase:77",)]


def test_history_has_no_webhook(desk: Desk, rows: Rows) -> None:
    record(desk, *WHY, "--historic")
    assert rows.state("purchase:77") == "pending"
    assert rows.state("purchase:77", "purchase_webhook") is None


@pytest.mark.parametrize("payload", ["nonsense", "[]", '{"phone": "+380501234567"}', "{}"])
def test_a_payload_of_which_no_request_can_be_made_is_refused(desk: Desk, rows: Rows, payload: str) -> None:
    status, said = record(desk, *WHY, payload=payload.replace("{}", '{"phone": "+380501234567", "purchase_id": null}'))
    assert status == 65
    assert "was not recorded" in said
    assert rows.all("select from outbox.event") == []


def test_a_fact_without_an_operation_must_be_an_object_too(desk: Desk, rows: Rows) -> None:
    rows.do("update outbox.route set enabled = false")
    assert record(desk, *WHY, payload="[")[0] == 65
    status, said = record(desk, *WHY, payload="{}")
    assert (status, "for 0 operations" in said) == (0, True)


def test_a_client_without_a_phone_is_no_hindrance(desk: Desk, rows: Rows) -> None:
    status, said = record(desk, *WHY, payload=PURCHASE.replace(PHONE, "none") % 77)
    assert status == 0
    assert "when the client has a phone" in said
    assert rows.state("purchase:77") == "pending"


def test_an_unknown_kind_and_a_missing_reason_are_usage_errors(desk: Desk) -> None:
    answer = desk("events", "record", "sale", "1", "--payload", "-", *WHY, stdin="{}")
    assert answer.status == 2
    assert "bonus_accrual" in answer.err
    assert record(desk)[0] == 2
