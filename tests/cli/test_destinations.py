"""`destinations`: where deliveries go, paused and resumed by a person."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.cli.desk import Desk
from tests.database.rows import Rows

WHY = ("--reason", "token revoked", "--actor", "olena@till")


def row(rows: Rows, name: str = "api") -> tuple[Any, ...]:
    [found] = rows.all(
        "select paused_at is not null, pause_reason, failure_count, rest_until::text from outbox.destination"
        " where destination = %s",
        name,
    )
    return found


def test_destinations_are_listed_with_what_waits_and_what_stands_against_them(desk: Desk, rows: Rows) -> None:
    rows.purchase(1)
    rows.do("update outbox.destination set failure_count = 3 where destination = 'purchase_hook'")
    rows.do("update outbox.destination set rest_until = now() + interval '1 hour' where destination = 'expiry_hook'")
    desk("destinations", "pause", "api", *WHY)
    listed = {line.split()[0]: " ".join(line.split()[1:]) for line in desk("destinations", "list").lines}
    assert listed["api"].startswith("1 paused since") and listed["api"].endswith(": token revoked")
    assert listed["purchase_hook"] == "1 failing, 3 in a row"
    assert listed["expiry_hook"].startswith("0 resting until")
    assert listed["accrual_hook"] == "0 open"
    found = desk("destinations", "list", "--json").data["destinations"]
    described = desk("destinations", "list", "--help").out
    assert [key for key in found[0] if key not in described] == []


def test_a_pause_is_recorded_and_is_new_only_once(desk: Desk, rows: Rows) -> None:
    assert desk("destinations", "pause", "api", *WHY).lines == ["api is paused"]
    assert row(rows)[:2] == (True, "token revoked")
    again = desk("destinations", "pause", "api", "--reason", "another")
    assert (again.status, again.lines) == (1, ["api need not be paused"])
    assert row(rows)[:2] == (True, "token revoked")
    assert rows.acts() == [("pause", None, None, "api", "olena@till", "token revoked")]


def test_a_resumed_destination_has_nothing_left_against_it_and_a_sleeping_relay_is_woken(
    desk: Desk, rows: Rows, connect: Callable[..., psycopg.Connection[Any]]
) -> None:
    rows.do(
        "update outbox.destination set paused_at = now(), pause_reason = 'answered 401', failure_count = 9,"
        " rest_until = now() + interval '1 hour' where destination = 'api'"
    )
    listener = connect()
    listener.execute("listen outbox")
    assert desk("destinations", "resume", "api", *WHY).lines == ["api is resumed"]
    assert row(rows) == (False, None, 0, "-infinity")
    assert len(list(listener.notifies(timeout=5, stop_after=1))) == 1
    assert rows.all("select act, detail ->> 'pause_reason' from outbox.act") == [("resume", "answered 401")]
    assert desk("destinations", "resume", "api", *WHY).status == 1


def test_a_dry_run_changes_nothing(desk: Desk, rows: Rows) -> None:
    data = desk("destinations", "pause", "api", "purchase_hook", "--dry-run", "--json").data
    assert [it["outcome"] for it in data["destinations"]] == ["would_be_done", "would_be_done"]
    assert desk("destinations", "resume", "api", "--dry-run").status == 1
    assert row(rows)[0] is False
    assert rows.acts() == []
    described = desk("destinations", "pause", "--help").out
    assert [key for key in (*data, *data["destinations"][0]) if key not in described] == []


def test_all_at_once_needs_a_yes(desk: Desk, rows: Rows) -> None:
    assert desk("destinations", "pause", "--all", *WHY).status == 2
    assert desk("destinations", "pause", "--all", "--yes", *WHY).status == 0
    assert desk("destinations", "resume", "--all", *WHY, types="y\n").status == 0
    assert [it[0] for it in rows.acts()] == ["pause"] * 5 + ["resume"] * 5


@pytest.mark.parametrize("words", [["nowhere", *WHY], [*WHY], ["api", "--all", *WHY], ["api"]])
def test_what_cannot_be_meant_is_a_usage_error(desk: Desk, words: list[str]) -> None:
    assert desk("destinations", "pause", *words).status == 2
