"""`lanes`: which customers wait and why, with the command to run next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from outbox_worker.cli import lanes
from tests.cli.desk import Desk
from tests.database.rows import Rows

WHY = ("--reason", "added by hand", "--actor", "olena@till")


@pytest.fixture
def stuck(rows: Rows) -> Rows:
    """Customer a: 1 waits for the client, 2 behind it. b: 3 is held, 4 behind it. c: all is well."""
    for number, customer in enumerate("aabbc", 1):
        rows.purchase(number, customer)
        rows.delivered(f"purchase:{number}", "purchase_webhook")
    rows.waiting("purchase:1")
    rows.following("purchase:2", behind="waits for the client")
    rows.held("purchase:3", "add_purchase")
    return rows


def test_customers_that_wait_are_told_with_the_command_to_give_next(desk: Desk, stuck: Rows) -> None:
    answer = desk("lanes")
    assert answer.status == 0
    told = " ".join(answer.out.split())
    assert "customer a at api since" in told
    assert "purchase:1 add_purchase is waiting: answered 404; 1 behind" in told
    assert "    outbox-worker lanes release --customer a --reason '…'\n" in answer.out
    assert "customer b" not in told and "customer c" not in told


def test_a_held_delivery_holds_up_its_customer_where_the_policy_says_so(
    configure: Callable[..., Path], desk: Desk, stuck: Rows
) -> None:
    configure({"relay.on_hold": "wait"})
    [_, lane] = desk("lanes", "--json").data["lanes"]
    assert (lane["customer_id"], lane["event_id"], lane["state"], lane["behind_count"]) == (
        "b",
        "purchase:3",
        "held",
        1,
    )
    assert lane["advice"]["commands"][0].startswith("outbox-worker in-doubt confirm purchase:3")
    described = desk("lanes", "--help").out
    assert [key for key in (*lane, *lane["advice"]) if key not in described] == []


def test_lanes_with_the_same_remedy_share_it(desk: Desk, rows: Rows) -> None:
    for number in range(3):
        rows.purchase(number, str(number))
    desk("destinations", "pause", "api", *WHY)
    said = desk("lanes", "--destination", "api")
    assert [line.split()[:2] for line in said.lines if line.startswith("customer")] == [
        ["customer", "0"],
        ["customer", "1"],
        ["customer", "2"],
    ]
    assert said.out.count("outbox-worker destinations resume api") == 1


def test_lanes_take_filters_and_nobody_is_status_1(desk: Desk, stuck: Rows) -> None:
    assert [it["customer_id"] for it in desk("lanes", "--json", "--customer", "a").data["lanes"]] == ["a"]
    nobody = desk("lanes", "--destination", "expiry_hook", "--json")
    assert (nobody.status, nobody.data) == (1, {"lanes": []})


def test_a_customer_is_released_and_the_act_recorded(desk: Desk, stuck: Rows) -> None:
    answer = desk("lanes", "release", "--customer", "a", *WHY)
    assert (answer.status, answer.lines) == (0, ["customer a at api: 2 deliveries released"])
    assert [stuck.state(f"purchase:{number}") for number in (1, 2)] == ["pending", "pending"]
    assert stuck.acts() == [("release", "purchase:1", "add_purchase", "api", "olena@till", "added by hand")]
    assert "release add_purchase, by olena@till" in desk("events", "show", "purchase:1").out
    assert desk("lanes", "release", "--customer", "a", *WHY).status == 1


def test_a_dry_run_releases_nothing(desk: Desk, stuck: Rows) -> None:
    data = desk("lanes", "release", "--all", "--dry-run", "--json").data
    assert [(it["customer_id"], it["released_count"]) for it in data["lanes"]] == [("a", 2)]
    assert stuck.state("purchase:1") == "waiting"
    described = desk("lanes", "release", "--help").out
    assert [key for key in (*data, *data["lanes"][0]) if key not in described] == []


def test_all_are_released_when_somebody_says_yes(desk: Desk, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "BATCH", 2)
    for number in range(5):
        rows.waiting(rows.purchase(number, str(number)))
    assert desk("lanes", "release", "--all", *WHY).status == 2
    assert rows.acts() == []
    data = desk("lanes", "release", "--all", "--yes", "--json", *WHY).data
    assert [it["event_id"] for it in data["lanes"]] == [f"purchase:{number}" for number in range(5)]
    assert len(rows.acts()) == 5


@pytest.mark.parametrize("words", [[], ["--all", "--customer", "a"]])
def test_one_customer_or_all_must_be_said(desk: Desk, words: list[str]) -> None:
    assert desk("lanes", "release", *words, *WHY).status == 2


def test_the_configuration_may_be_named_before_the_act(
    desk: Desk, stuck: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OUTBOX_WORKER_CONFIGURATION")
    assert desk("lanes", "-c", str(desk.file), "release", "--customer", "a", "--dry-run").status == 0
