"""What exchanges mean: the table of the interface line by line, and that nothing on the wire is beyond it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox_worker.records import Evidence, Exchange, Outcome, Purpose
from outbox_worker.rules.outcome import RETRY_AFTER_MAX, Meanings, classify, retry_after

PLAIN = Meanings()
PURCHASE = Meanings(accepted=frozenset({200, 201}), duplicate=frozenset({409}), unknown_client=frozenset({404}))
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def seen(evidence: Evidence, status: int | None = None) -> Exchange:
    return Exchange(evidence, status, retry_after=None, body=b"", error="", took_us=1)


@pytest.mark.parametrize(
    ("evidence", "sent", "inquired"),
    [
        (Evidence.NAME_LOOKUP_FAILED, Outcome.NOT_SENT, Outcome.NOT_SENT),
        (Evidence.CONNECT_FAILED, Outcome.NOT_SENT, Outcome.NOT_SENT),
        (Evidence.TLS_FAILED, Outcome.NOT_SENT, Outcome.NOT_SENT),
        (Evidence.NOT_WRITTEN, Outcome.NOT_SENT, Outcome.NOT_SENT),
        (Evidence.NO_ANSWER, Outcome.IN_DOUBT, Outcome.NO_FINDING),
        (Evidence.ANSWER_UNREADABLE, Outcome.IN_DOUBT, Outcome.NO_FINDING),
    ],
)
def test_without_an_answer_the_evidence_decides(evidence: Evidence, sent: Outcome, inquired: Outcome) -> None:
    assert classify(seen(evidence), Purpose.SEND, PURCHASE) is sent
    assert classify(seen(evidence), Purpose.INQUIRE, PURCHASE) is inquired


@pytest.mark.parametrize(
    ("status", "whole", "cut"),
    [
        (101, Outcome.IN_DOUBT, Outcome.IN_DOUBT),
        (200, Outcome.ACCEPTED, Outcome.IN_DOUBT),
        (202, Outcome.ACCEPTED, Outcome.IN_DOUBT),
        (204, Outcome.ACCEPTED, Outcome.IN_DOUBT),
        (301, Outcome.MISDIRECTED, Outcome.MISDIRECTED),
        (302, Outcome.MISDIRECTED, Outcome.MISDIRECTED),
        (303, Outcome.IN_DOUBT, Outcome.IN_DOUBT),
        (308, Outcome.MISDIRECTED, Outcome.MISDIRECTED),
        (400, Outcome.REJECTED, Outcome.REJECTED),
        (401, Outcome.CREDENTIALS, Outcome.CREDENTIALS),
        (403, Outcome.CREDENTIALS, Outcome.CREDENTIALS),
        (404, Outcome.REJECTED, Outcome.REJECTED),
        (408, Outcome.TRY_LATER, Outcome.TRY_LATER),
        (409, Outcome.REJECTED, Outcome.REJECTED),
        (413, Outcome.REJECTED, Outcome.REJECTED),
        (421, Outcome.MISDIRECTED, Outcome.MISDIRECTED),
        (422, Outcome.REJECTED, Outcome.REJECTED),
        (425, Outcome.TRY_LATER, Outcome.TRY_LATER),
        (429, Outcome.TRY_LATER, Outcome.TRY_LATER),
        (500, Outcome.IN_DOUBT, Outcome.IN_DOUBT),
        (501, Outcome.IN_DOUBT, Outcome.IN_DOUBT),
        (502, Outcome.IN_DOUBT, Outcome.IN_DOUBT),
        (503, Outcome.TRY_LATER, Outcome.TRY_LATER),
        (504, Outcome.IN_DOUBT, Outcome.IN_DOUBT),
        (505, Outcome.IN_DOUBT, Outcome.IN_DOUBT),
        (507, Outcome.IN_DOUBT, Outcome.IN_DOUBT),
        (599, Outcome.IN_DOUBT, Outcome.IN_DOUBT),
        (999, Outcome.IN_DOUBT, Outcome.IN_DOUBT),
    ],
)
def test_an_answer_to_a_send_means_what_the_common_table_says(status: int, whole: Outcome, cut: Outcome) -> None:
    assert classify(seen(Evidence.ANSWERED, status), Purpose.SEND, PLAIN) is whole
    assert classify(seen(Evidence.ANSWER_CUT, status), Purpose.SEND, PLAIN) is cut


@pytest.mark.parametrize(
    ("status", "whole", "cut"),
    [
        (200, Outcome.ACCEPTED, Outcome.IN_DOUBT),
        (201, Outcome.ACCEPTED, Outcome.IN_DOUBT),
        (202, Outcome.IN_DOUBT, Outcome.IN_DOUBT),
        (404, Outcome.UNKNOWN_CLIENT, Outcome.UNKNOWN_CLIENT),
        (409, Outcome.DUPLICATE, Outcome.DUPLICATE),
        (410, Outcome.REJECTED, Outcome.REJECTED),
        (500, Outcome.IN_DOUBT, Outcome.IN_DOUBT),
    ],
)
def test_an_operation_gives_statuses_a_meaning_of_its_own(status: int, whole: Outcome, cut: Outcome) -> None:
    assert classify(seen(Evidence.ANSWERED, status), Purpose.SEND, PURCHASE) is whole
    assert classify(seen(Evidence.ANSWER_CUT, status), Purpose.SEND, PURCHASE) is cut


@pytest.mark.parametrize(
    ("status", "whole", "cut"),
    [
        (200, Outcome.FOUND, Outcome.NO_FINDING),
        (204, Outcome.NO_FINDING, Outcome.NO_FINDING),
        (302, Outcome.NO_FINDING, Outcome.NO_FINDING),
        (400, Outcome.NO_FINDING, Outcome.NO_FINDING),
        (401, Outcome.CREDENTIALS, Outcome.CREDENTIALS),
        (403, Outcome.CREDENTIALS, Outcome.CREDENTIALS),
        (404, Outcome.NOT_FOUND, Outcome.NO_FINDING),
        (409, Outcome.NO_FINDING, Outcome.NO_FINDING),
        (410, Outcome.NO_FINDING, Outcome.NO_FINDING),
        (429, Outcome.TRY_LATER, Outcome.TRY_LATER),
        (500, Outcome.NO_FINDING, Outcome.NO_FINDING),
        (503, Outcome.TRY_LATER, Outcome.TRY_LATER),
    ],
)
def test_a_look_up_finds_or_misses_only_by_a_whole_answer(status: int, whole: Outcome, cut: Outcome) -> None:
    assert classify(seen(Evidence.ANSWERED, status), Purpose.INQUIRE, PURCHASE) is whole
    assert classify(seen(Evidence.ANSWER_CUT, status), Purpose.INQUIRE, PURCHASE) is cut


def test_every_outcome_but_unsendable_is_reached() -> None:
    reached = {
        classify(seen(evidence, status), purpose, PURCHASE)
        for evidence in Evidence
        for status in (None, *range(100, 600))
        for purpose in Purpose
    }
    assert reached == set(Outcome) - {Outcome.UNSENDABLE}


statuses = st.none() | st.integers(min_value=100, max_value=599) | st.integers()
meanings = st.builds(
    Meanings,
    accepted=st.none() | st.frozensets(st.integers(100, 599)),
    duplicate=st.frozensets(st.integers(100, 599)),
    unknown_client=st.frozensets(st.integers(100, 599)),
)


@given(st.sampled_from(Evidence), statuses, st.sampled_from(Purpose), meanings)
def test_whatever_was_seen_has_an_outcome_of_its_purpose(
    evidence: Evidence, status: int | None, purpose: Purpose, meanings: Meanings
) -> None:
    outcome = classify(seen(evidence, status), purpose, meanings)
    of_look_ups = {Outcome.FOUND, Outcome.NOT_FOUND, Outcome.NO_FINDING}
    of_sends = set(Outcome) - of_look_ups - {Outcome.NOT_SENT, Outcome.TRY_LATER, Outcome.CREDENTIALS}
    assert outcome not in (of_sends if purpose is Purpose.INQUIRE else of_look_ups)


@given(st.sampled_from(Evidence), statuses, meanings)
def test_a_send_is_retried_freely_only_when_it_did_not_leave_or_was_refused_for_now(
    evidence: Evidence, status: int | None, meanings: Meanings
) -> None:
    outcome = classify(seen(evidence, status), Purpose.SEND, meanings)
    if outcome is Outcome.NOT_SENT:
        assert evidence in {
            Evidence.NAME_LOOKUP_FAILED,
            Evidence.CONNECT_FAILED,
            Evidence.TLS_FAILED,
            Evidence.NOT_WRITTEN,
        }
    if outcome is Outcome.TRY_LATER:
        assert status in {408, 425, 429, 503}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("1", NOW + timedelta(seconds=1)),
        (" 120 ", NOW + timedelta(minutes=2)),
        ("86400", NOW + timedelta(days=1)),
        ("86401", NOW + RETRY_AFTER_MAX),
        ("9" * 5000, NOW + RETRY_AFTER_MAX),
        ("Sun, 01 Mar 2026 12:05:00 GMT", NOW + timedelta(minutes=5)),
        ("Sunday, 01-Mar-26 12:05:00 GMT", NOW + timedelta(minutes=5)),
        ("Sun Mar  1 12:05:00 2026", NOW + timedelta(minutes=5)),
        ("Fri, 01 Jan 2100 00:00:00 GMT", NOW + RETRY_AFTER_MAX),
    ],
)
def test_a_rest_that_was_asked_for_is_obeyed_for_a_day_at_most(header: str, expected: datetime) -> None:
    assert retry_after(header, NOW) == expected


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "  ",
        "soon",
        "-5",
        "1.5",
        "1e3",
        "٣",
        "120, 60",
        "Sun, 99 Mar 2026 99:00:00 GMT",
        "0",  # would have us come back at once for ever, as would a date that has passed
        "Wed, 21 Oct 2015 07:28:00 GMT",
    ],
)
def test_a_header_that_asks_for_no_rest_leaves_it_to_our_own_timetable(header: str | None) -> None:
    assert retry_after(header, NOW) is None


@given(st.text() | st.integers().map(str) | st.datetimes().map(format_datetime))
def test_no_header_breaks_the_reading_of_it(header: str) -> None:
    instant = retry_after(header, NOW)
    assert instant is None or NOW < instant <= NOW + RETRY_AFTER_MAX
