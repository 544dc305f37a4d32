"""`in-doubt` and `dead-letters`: one, many by filter, all; asked before, recorded, and never what is on its way."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from outbox_worker.cli import settling
from tests.cli.desk import Desk
from tests.database.rows import Rows

WHY = ("--reason", "Olena asked InBoost", "--actor", "olena@till")


@pytest.fixture
def troubled(rows: Rows) -> Rows:
    """1 is held at its hook; 2 and 3 are dead at the API; 4 is in doubt and will be looked up."""
    for number, customer in enumerate("aabc", 1):
        rows.purchase(number, customer)
    rows.held("purchase:1")
    rows.dead("purchase:2")
    rows.dead("purchase:3")
    rows.in_doubt("purchase:4")
    return rows


def outcomes(data: dict[str, Any]) -> dict[str, str]:
    return {it["event_id"]: it["outcome"] for it in data["deliveries"]}


# Lists


def test_what_is_in_doubt_and_what_is_dead_is_listed_with_its_reason(desk: Desk, troubled: Rows) -> None:
    doubts = desk("in-doubt", "list")
    assert (doubts.status, doubts.lines[0].split()[:2]) == (0, ["purchase:1", "purchase_webhook,"])
    assert doubts.lines[1] == "  in doubt, and nobody can be asked: Operation timed out"
    assert [it["event_id"] for it in desk("in-doubt", "list", "--json").data["deliveries"]] == [
        "purchase:1",
        "purchase:4",
    ]
    dead = desk("dead-letters", "list", "--json", "--limit", "1").data
    assert (dead["count"], [it["event_id"] for it in dead["deliveries"]]) == (2, ["purchase:2"])
    assert "and 1 more" in desk("dead-letters", "list", "--limit", "1").out
    described = desk("dead-letters", "list", "--help").out
    assert [key for key in dead["deliveries"][0] if key not in described] == []


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("--customer a", ["purchase:2"]),
        ("--operation add_purchase", ["purchase:2", "purchase:3"]),
        ("--operation purchase_webhook", []),
        ("--destination api --customer b", ["purchase:3"]),
        ("--older-than 1h", []),
        ("--older-than 0s", ["purchase:2", "purchase:3"]),
    ],
)
def test_lists_take_filters(desk: Desk, troubled: Rows, words: str, found: list[str]) -> None:
    answer = desk("dead-letters", "list", "--json", *words.split())
    assert [it["event_id"] for it in answer.data["deliveries"]] == found
    assert answer.status == (0 if found else 1)


def test_a_delivery_that_is_being_looked_up_is_listed_so(desk: Desk, troubled: Rows) -> None:
    troubled.claimed("purchase:4", purpose="inquire")
    assert "being sent" in desk("in-doubt", "list").out
    assert desk("in-doubt", "list", "--json").data["deliveries"][1]["claimed_at"] is not None


def test_show_tells_the_part_of_the_story_that_is_in_trouble(desk: Desk, troubled: Rows) -> None:
    told = desk("dead-letters", "show", "purchase:2")
    assert "add_purchase to api: dead" in told.out
    assert '{"error":"bad_total"}' in told.out
    assert "purchase_webhook" not in told.out
    assert desk("in-doubt", "show", "purchase:2").status == 1
    assert desk("in-doubt", "show", "purchase:1", "--json").data["operations"][0]["state"] == "held"


# One


def test_one_delivery_is_settled_at_once_and_the_act_recorded(desk: Desk, troubled: Rows) -> None:
    answer = desk("in-doubt", "confirm", "purchase:1", *WHY)
    assert (answer.status, answer.lines) == (0, ["purchase:1 purchase_webhook: confirmed"])
    assert troubled.state("purchase:1", "purchase_webhook") is None
    assert troubled.acts() == [
        ("confirm", "purchase:1", "purchase_webhook", "purchase_hook", "olena@till", "Olena asked InBoost")
    ]


@pytest.mark.parametrize(
    ("group", "act", "event_id", "operation", "left"),
    [
        ("in-doubt", "confirm", "purchase:4", "add_purchase", None),
        ("in-doubt", "resend", "purchase:1", "purchase_webhook", "pending"),
        ("in-doubt", "resend", "purchase:4", "add_purchase", "pending"),
        ("dead-letters", "requeue", "purchase:2", "add_purchase", "pending"),
        ("dead-letters", "discard", "purchase:2", "add_purchase", None),
    ],
)
def test_each_act_does_its_work(
    desk: Desk, troubled: Rows, group: str, act: str, event_id: str, operation: str, left: str | None
) -> None:
    assert desk(group, act, event_id, *WHY).status == 0
    assert troubled.state(event_id, operation) == left
    assert [it[0] for it in troubled.acts()] == [act]


def test_the_actor_is_who_called_sudo(desk: Desk, troubled: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    host = socket.gethostname()
    monkeypatch.setenv("SUDO_USER", "olena")
    desk("in-doubt", "confirm", "purchase:1", "--reason", "x")
    monkeypatch.delenv("SUDO_USER")
    desk("dead-letters", "discard", "purchase:2", "--reason", "x")
    assert [it[4] for it in troubled.acts()] == [f"olena@{host}", f"{getpass.getuser()}@{host}"]


@pytest.mark.parametrize("words", [["purchase:1"], ["purchase:1", "--reason", "  "], ["--reason", "x"]])
def test_without_a_reason_or_a_choice_nothing_is_done(desk: Desk, troubled: Rows, words: list[str]) -> None:
    assert desk("in-doubt", "confirm", *words).status == 2
    assert troubled.acts() == []


def test_an_event_that_has_nothing_of_the_kind_is_status_1_and_the_others_are_done(desk: Desk, troubled: Rows) -> None:
    answer = desk("dead-letters", "discard", "purchase:1", "purchase:2", "--json", *WHY)
    assert answer.status == 1
    assert answer.data["not_found"] == ["purchase:1"]
    assert "purchase:1" in answer.err
    assert troubled.state("purchase:2") is None


def test_what_is_being_sent_is_left_alone_with_status_3_and_the_rest_is_done(desk: Desk, troubled: Rows) -> None:
    troubled.claimed("purchase:4", purpose="inquire")
    answer = desk("in-doubt", "confirm", "purchase:1", "purchase:4", "--yes", "--json", *WHY)
    assert answer.status == 3
    assert "1 delivery is being sent at this moment" in answer.err
    assert outcomes(answer.data) == {"purchase:1": "done", "purchase:4": "being_sent"}
    assert troubled.state("purchase:4") == "in_doubt"


def test_what_is_due_for_a_paused_destination_is_told_to_wait(desk: Desk, troubled: Rows) -> None:
    desk("destinations", "pause", "api", "--reason", "token revoked")
    said = desk("dead-letters", "requeue", "purchase:2", *WHY).out
    assert "api is paused (token revoked); nothing leaves before:" in said
    assert "  outbox-worker destinations resume api --reason '…'" in said


# Many


def test_more_than_one_needs_a_yes_from_somebody(desk: Desk, troubled: Rows) -> None:
    nobody = desk("dead-letters", "requeue", "--all", *WHY)
    assert nobody.status == 2 and "Say --yes" in nobody.err
    no = desk("dead-letters", "requeue", "--all", *WHY, types="n\n")
    assert no.status == 1 and "Requeue 2 deliveries? Go on?" in no.err
    assert troubled.acts() == []
    yes = desk("dead-letters", "requeue", "--all", "--json", *WHY, types="y\n")
    assert (yes.status, outcomes(yes.data)) == (0, {"purchase:2": "done", "purchase:3": "done"})


def test_filters_choose_and_nothing_else_is_touched(desk: Desk, troubled: Rows) -> None:
    answer = desk("dead-letters", "requeue", "--customer", "b", "--operation", "add_purchase", "--json", *WHY)
    assert outcomes(answer.data) == {"purchase:3": "done"}
    assert troubled.state("purchase:2") == "dead"
    assert desk("dead-letters", "requeue", "--older-than", "1h", *WHY).status == 1


def test_all_in_doubt_means_what_is_held_and_not_what_settles_itself(desk: Desk, troubled: Rows) -> None:
    assert outcomes(desk("in-doubt", "resend", "--all", "--json", *WHY).data) == {"purchase:1": "done"}
    assert troubled.state("purchase:4") == "in_doubt"


def test_a_dry_run_tells_what_would_be_done_and_does_nothing(desk: Desk, troubled: Rows) -> None:
    troubled.claimed("purchase:4", purpose="inquire")
    answer = desk("dead-letters", "requeue", "--all", "--dry-run", "--json")
    assert (answer.status, outcomes(answer.data)) == (0, dict.fromkeys(("purchase:2", "purchase:3"), "would_be_done"))
    assert "purchase:2 add_purchase: would be requeued" in desk("dead-letters", "requeue", "--all", "--dry-run").out
    assert desk("in-doubt", "confirm", "purchase:4", "--dry-run").status == 3
    assert troubled.state("purchase:2") == "dead"
    assert troubled.acts() == []


def test_many_are_settled_some_in_each_transaction(desk: Desk, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "BATCH", 10)
    for number in range(25):
        rows.dead(rows.purchase(number, str(number)))
    answer = desk("dead-letters", "requeue", "--all", "--yes", *WHY)
    assert answer.status == 0
    assert len(answer.lines) == 21 and answer.lines[-1] == "… in all: 25 requeued"
    assert [it[0] for it in rows.acts()] == ["requeue"] * 25
    assert rows.all("select count(distinct xmin::text) from outbox.act") == [(3,)]


def test_what_waited_behind_is_counted(desk: Desk, troubled: Rows) -> None:
    troubled.purchase(5, "b")
    troubled.following("purchase:5")
    answer = desk("dead-letters", "discard", "purchase:3", *WHY)
    assert answer.lines == ["purchase:3 add_purchase: discarded", "1 delivery that waited behind: released"]
    described = desk("dead-letters", "discard", "--help").out
    data = desk("dead-letters", "discard", "--all", "--json", *WHY).data
    assert [key for key in (*data, *data["deliveries"][0]) if key not in described] == []


# What goes wrong


def test_a_database_that_is_away_is_status_69(configure: Callable[..., Path], desk: Desk) -> None:
    configure({"database.url": "postgresql://u@127.0.0.1:1/d"})
    answer = desk("dead-letters", "list")
    assert answer.status == 69
    assert "cannot be reached" in answer.err and "Traceback" not in answer.err


def test_a_wrong_configuration_is_status_78(configure: Callable[..., Path], desk: Desk) -> None:
    configure({"relay.on_hold": "perhaps"})
    assert desk("in-doubt", "list").status == 78
