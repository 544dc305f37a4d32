"""Doctor's judgements on what cannot be broken in a test: clocks, snapshots, poolers of other kinds, answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from outbox_worker.rules import diagnosis
from outbox_worker.rules.diagnosis import Holder, Level, Session

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
WELL = Session(
    connected_pid=7,
    pids=(7, 7, 7),
    other_pids=(8, 8, 8),
    keeps_options=True,
    keeps_settings=True,
    keeps_locks=True,
    hears=True,
)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


@pytest.mark.parametrize(
    ("seen", "level", "words"),
    [
        (WELL, "ok", "no pooler"),
        (replace(WELL, pids=(7, 9, 7)), "fail", "a transaction pooler"),
        (replace(WELL, other_pids=(7, 7, 7)), "fail", "a transaction pooler"),
        (replace(WELL, other_pids=(8, 9, 8)), "fail", "a transaction pooler"),
        (replace(WELL, keeps_locks=False), "fail", "a transaction pooler"),
        (replace(WELL, keeps_settings=False), "fail", "a transaction pooler"),
        (replace(WELL, keeps_options=False, connected_pid=1), "fail", "drops the settings"),
        (replace(WELL, hears=False), "fail", "the doorbell is dead"),
        (replace(WELL, connected_pid=1), "warn", "session mode"),
    ],
)
def test_a_session_is_one_server_process_from_beginning_to_end(seen: Session, level: str, words: str) -> None:
    found = diagnosis.judge_session(seen)
    assert found.level == level
    assert words in found.sentence


def test_a_pooler_that_refuses_our_settings_is_called_a_pooler() -> None:
    assert "a pooler" in diagnosis.judge_refused_connection("FATAL: unsupported startup parameter: options").sentence
    assert "a pooler" not in diagnosis.judge_refused_connection("connection refused").sentence


@pytest.mark.parametrize(
    ("theirs", "level", "words"),
    [
        (0, "ok", "agree"),
        (2.9, "ok", "agree"),
        (3.1, "warn", "2.1 s ahead of"),
        (-3.1, "warn", "2.1 s behind"),
        (-2.9, "ok", "agree"),
        (400, "fail", "ahead of"),
        (-400, "fail", "behind"),
    ],
)
def test_a_clock_is_off_when_no_moment_between_our_looks_was_what_it_showed(
    theirs: float, level: str, words: str
) -> None:
    after, grain = NOON + seconds(1), seconds(1)
    found = diagnosis.judge_clock("its", NOON, NOON + seconds(theirs), after, grain)
    assert found.level == level, found
    assert words in found.sentence


def test_each_holder_of_an_old_snapshot_is_named_with_what_to_do() -> None:
    holders = [
        Holder("session", "4711 of role report (psql)", timedelta(hours=1)),
        Holder("prepared transaction", "tx-1 of role bank", timedelta(minutes=7)),
        Holder("replication slot", "standby", None),
    ]
    found = list(diagnosis.judge_holders(holders, 3, "worker"))
    assert [it.level for it in found] == [Level.WARN] * 3
    assert "4711 of role report (psql) holds an old snapshot, for 60 minutes" in found[0].sentence
    assert "rollback prepared" in found[1].sentence
    assert "pg_drop_replication_slot" in found[2].sentence


def test_it_is_said_how_many_sessions_could_not_be_seen() -> None:
    (found,) = diagnosis.judge_holders([], 3, 'my"worker')
    assert found.level is Level.OK
    assert '3 sessions of other roles cannot be seen (grant pg_read_all_stats to "my""worker")' in found.sentence


def test_prepared_transactions_silence_the_bell_and_it_is_said_what_that_costs() -> None:
    assert diagnosis.judge_prepared(0).level is Level.OK
    assert "0.1 s late" in diagnosis.judge_prepared(10).sentence


@pytest.mark.parametrize(
    ("status", "level", "words"),
    [
        (200, "ok", "takes the token"),
        (401, "fail", "refuses the token"),
        (403, "fail", "refuses the token"),
        (429, "warn", "busy"),
        (302, "fail", "redirects"),
        (404, "fail", "find_client"),
        (None, "fail", "cannot be reached: no route"),
    ],
)
def test_an_answer_to_a_look_up_tells_whether_all_others_can_come(status: int | None, level: str, words: str) -> None:
    found = diagnosis.judge_token(status, "no route")
    assert found.level == level
    assert words in found.sentence


def test_an_answer_that_nearly_takes_the_request_timeout_is_warned_of() -> None:
    assert diagnosis.judge_answer_time(seconds(4), seconds(10)).level is Level.OK
    assert "raise [inboost] request_timeout" in diagnosis.judge_answer_time(seconds(6), seconds(10)).sentence


def test_a_route_that_the_configuration_switches_off_is_no_fault() -> None:
    routes = [("purchase", "add_purchase", True), ("bonus_expiry", "expiry_webhook", False)]
    (found,) = diagnosis.judge_routes(routes, ["add_purchase"])
    assert (found.level, found.sentence) == (Level.OK, "routes are as configured; switched off: expiry_webhook")
    assert [it.level for it in diagnosis.judge_routes(routes, ["expiry_webhook"])] == [Level.WARN, Level.WARN]
