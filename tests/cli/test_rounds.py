"""`outbox-worker rounds`: listed, run by hand, paused and resumed, each with who and why."""

from __future__ import annotations

import signal

import pytest
from psycopg.conninfo import make_conninfo

from outbox_worker.database import rounds as database
from outbox_worker.runtime import reconciliation
from tests.cli.desk import Desk
from tests.database.rows import Rows

WHY = ("--reason", "accounting is being restored", "--actor", "olena@till")
RUN = ("rounds", "run", "reconciliation", *WHY)


def acts(rows: Rows) -> list[tuple[object, ...]]:
    return rows.all("select act, round, actor, reason, detail ->> 'pause_reason' from outbox.act order by act_id")


def of_list(desk: Desk, name: str = "reconciliation") -> dict[str, object]:
    [found] = [it for it in desk("rounds", "list", "--json").data["rounds"] if it["round"] == name]
    return dict(found)


def test_a_round_that_is_run_by_hand_is_listed_with_what_came_of_it(desk: Desk, rows: Rows) -> None:
    assert "never" in desk("rounds", "list").out
    answer = desk(*RUN)
    assert (answer.status, answer.lines[0].startswith("reconciliation is done: ")) == (0, True)
    found = of_list(desk)
    assert (found["state"], found["done_count"], found["try_count"]) == ("waiting", 1, 0)
    assert found["runs"][0]["outcome"] == "done"  # type: ignore[index]
    described = desk("rounds", "list", "--help").out
    assert [key for key in (*found, *found["runs"][0]) if key not in described] == []  # type: ignore[index,misc]
    assert desk("rounds", "list").lines[-1].split()[-1] == "done"
    assert acts(rows) == [("run", "reconciliation", "olena@till", "accounting is being restored", None)]


def test_scripts_get_one_document(desk: Desk) -> None:
    data = desk(*RUN, "--json").data
    assert (data["round"], data["outcome"], data["error"]) == ("reconciliation", "done", None)
    assert data["counts"]["fact_count"] == 0
    described = desk("rounds", "run", "--help").out
    assert [key for key in data if key not in described] == []


def test_a_round_that_is_being_run_is_not_run_beside_it(
    desk: Desk, database_url: str, worker_login: dict[str, str]
) -> None:
    with database.hold(make_conninfo(database_url, **worker_login), "reconciliation") as held:
        assert held is not None
        answer = desk(*RUN)
        assert of_list(desk)["state"] == "running"
    assert answer.status == 3
    assert "is being run at this moment" in answer.err


def test_a_run_that_fails_says_why(desk: Desk, rows: Rows) -> None:
    rows.do("drop view integration.fact cascade")
    answer = desk(*RUN)
    assert answer.status == 1
    assert "failed: schema integration lacks view fact" in " ".join(answer.out.split())
    assert of_list(desk)["state"] == "retrying"


def test_a_pause_and_a_resume_are_recorded_and_are_new_only_once(desk: Desk, rows: Rows) -> None:
    assert desk("rounds", "pause", "reconciliation", *WHY).lines == ["reconciliation is paused"]
    again = desk("rounds", "pause", "reconciliation", *WHY)
    assert (again.status, again.lines) == (1, ["reconciliation need not be paused"])
    assert (of_list(desk)["state"], of_list(desk)["due_at"]) == ("paused", None)
    assert "paused: accounting is being restored" in desk("rounds", "list").out
    data = desk("rounds", "resume", "reconciliation", *WHY, "--dry-run", "--json").data
    assert data == {"act": "resume", "round": "reconciliation", "dry_run": True, "outcome": "would_be_done"}
    assert desk("rounds", "resume", "reconciliation", *WHY).status == 0
    assert desk("rounds", "resume", "reconciliation", *WHY).status == 1
    assert [it[0] for it in acts(rows)] == ["pause", "resume"]
    assert acts(rows)[1][-1] == "accounting is being restored"


def test_what_the_settings_switch_off_is_listed_and_not_run(
    configure: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = Desk(configure({"rounds.reconciliation.enabled": False}), monkeypatch, capsys)  # type: ignore[operator]
    assert of_list(desk)["state"] == "off"
    answer = desk(*RUN)
    assert (answer.status, "is switched off" in answer.err) == (2, True)


@pytest.mark.parametrize("words", [["nothing", *WHY], ["reconciliation"], [*WHY]])
def test_what_cannot_be_meant_is_a_usage_error(desk: Desk, words: list[str]) -> None:
    for command in ("run", "pause", "resume"):
        assert desk("rounds", command, *words).status == 2


def test_ctrl_c_breaks_a_run_off_and_says_so(desk: Desk, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, go_on: object, **__: object) -> None:
        signal.raise_signal(signal.SIGINT)
        go_on()  # type: ignore[operator]

    monkeypatch.setattr(reconciliation, "reconcile", interrupted)
    answer = desk(*RUN)
    assert (answer.status, "was broken off" in answer.out) == (1, True)
    assert rows.all("select outcome from outbox.round_run") == [("stopped",)]
