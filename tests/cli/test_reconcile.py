"""`outbox-worker reconcile` as a person and a script meet it; and what InBoost says of what was delivered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from outbox_worker.demo.sandbox import SandboxServer, Settings
from outbox_worker.runtime.comparison import Pace
from tests.cli.desk import Answer, Desk
from tests.database.rows import PHONE, Rows
from tests.scenarios.shop import Shop


def ask(desk: Desk, rows: Rows, *words: str) -> Answer:
    """Compare what was recorded a minute ago."""
    rows.do("update outbox.event set recorded_at = recorded_at - interval '1 minute'")
    return desk("reconcile", "--against-inboost", "--rate", "1000", *words)


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    shop = Shop(database_url)
    yield shop
    shop.close()


@pytest.fixture(scope="module")
def inboost_server() -> Iterator[SandboxServer]:
    with SandboxServer(Settings(any_client=True)) as server:
        yield server


@pytest.fixture
def inboost(inboost_server: SandboxServer) -> Iterator[SandboxServer]:
    yield inboost_server
    inboost_server.put_faults()
    inboost_server.do(inboost_server.state.purchases.clear)


@pytest.fixture
def settings(inboost: SandboxServer) -> dict[str, Any]:
    return {
        "inboost.base_url": inboost.url,
        "inboost.token": "sandbox-token",
        "inboost.request_timeout": 2,
        "inboost.connect_timeout": 0.5,
    }


@pytest.fixture
def asking(
    configure: Callable[..., Path], settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> Desk:
    """A desk whose InBoost is the sandbox."""
    return Desk(configure(settings), monkeypatch, capsys)


def take_in(inboost: SandboxServer, *event_ids: str) -> None:
    """Have InBoost know these purchases."""
    for event_id in event_ids:
        inboost.do(inboost.state.purchases[PHONE].__setitem__, event_id, b"{}")


def a_minute_ago(rows: Rows) -> None:
    rows.do("update accounting.purchase set purchased_at = purchased_at - interval '1 minute'")
    rows.do("update accounting.bonus_entry set entered_at = entered_at - interval '1 minute'")
    rows.do("update accounting.bonus_account set changed_at = changed_at - interval '1 minute'")


def test_the_exit_status_tells_whether_anything_was_missing(desk: Desk, shop: Shop, rows: Rows) -> None:
    shop.buy(shop.customer(), accrued="1.20")
    a_minute_ago(rows)
    whole = desk("reconcile")
    assert whole.status == 0
    assert "Nothing is missing." in whole.out
    rows.do("delete from outbox.event where kind = 'purchase'")
    dry = desk("reconcile", "--dry-run")
    assert dry.status == 1
    assert "Missing: 1 in the window" in dry.out
    found = desk("reconcile")
    assert found.status == 1
    assert "Missing before, recorded now: 1." in found.out
    assert ["purchase", "1", "0", "1", "0"] in [line.split() for line in found.lines]
    assert desk("reconcile").status == 0


def test_scripts_get_one_document(desk: Desk, shop: Shop, rows: Rows) -> None:
    shop.buy(shop.customer())
    a_minute_ago(rows)
    rows.do("delete from outbox.event")
    rows.do("alter table outbox.event add constraint refused check (source_id <> '1') not valid")
    said = desk("reconcile", "--json")
    assert said.status == 1
    assert said.data["kinds"]["purchase"] == {
        "fact_count": 1,
        "known_count": 0,
        "recorded_count": 0,
        "repaired_count": 0,
        "refused_count": 1,
    }
    assert said.data["refused"][0]["source_id"] == "1"
    assert said.data["inboost"] is None
    assert said.data["is_whole"] is False


def test_a_window_that_ends_before_it_begins_is_a_usage_error(desk: Desk) -> None:
    assert desk("reconcile", "--since", "1d", "--until", "2d").status == 2


def test_a_database_that_is_away_is_a_sentence(
    configure: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    desk = Desk(configure({"database.url": "postgresql://nobody@127.0.0.1:9/none"}), monkeypatch, capsys)
    answer = desk("reconcile")
    assert answer.status == 69
    assert "cannot be reached" in answer.err


# Against InBoost


def test_what_was_delivered_and_is_there_is_well(asking: Desk, rows: Rows, inboost: SandboxServer) -> None:
    for number in range(3):
        rows.delivered(rows.purchase(number))
    take_in(inboost, "purchase:0", "purchase:1", "purchase:2")
    before = inboost.state.ledger.requests.last
    answer = ask(asking, rows, "--json")
    assert answer.status == 0
    assert answer.data["inboost"] | {"lost": 0} == {
        "asked_count": 3,
        "found_count": 3,
        "lost": 0,
        "doubts": [],
        "unanswered": [],
    }
    assert [it.operation for it in inboost.state.ledger.requests.after(before)] == ["find_purchase"] * 3


def test_what_was_delivered_and_is_lost_there_is_named_and_nothing_is_changed(
    asking: Desk, rows: Rows, inboost: SandboxServer
) -> None:
    rows.delivered(rows.purchase(1))
    rows.delivered(rows.purchase(2))
    rows.held(rows.purchase(3), "add_purchase")
    rows.held(rows.purchase(4), "add_purchase")
    take_in(inboost, "purchase:1", "purchase:3")
    before = rows.all("select * from outbox.delivery order by delivery_id")
    answer = ask(asking, rows)
    assert answer.status == 1
    text = " ".join(answer.out.split())
    assert "asked for 4 deliveries: 1 delivered and there, 1 lost, 2 in doubt, 0 without an answer" in text
    assert "Ask InBoost's side why: purchase:2 add_purchase, delivered since" in text
    assert "InBoost has it: purchase:3 add_purchase, held" in text
    assert "InBoost does not have it: purchase:4 add_purchase, held" in text
    assert rows.all("select * from outbox.delivery order by delivery_id") == before
    assert PHONE[1:] not in answer.out


def test_what_a_person_confirmed_is_a_receipt_too(asking: Desk, rows: Rows, inboost: SandboxServer) -> None:
    rows.held(rows.purchase(1), "add_purchase")
    assert asking("in-doubt", "confirm", "purchase:1", "--operation", "add_purchase", "--reason", "seen").status == 0
    assert [it["event_id"] for it in ask(asking, rows, "--json").data["inboost"]["lost"]] == ["purchase:1"]


def test_an_inboost_that_has_it_a_little_later_has_it(asking: Desk, rows: Rows, inboost: SandboxServer) -> None:
    rows.delivered(rows.purchase(1))
    take_in(inboost, "purchase:1")
    inboost.put_faults("find_purchase:error:count=1,status=503")
    assert ask(asking, rows, "--json").data["inboost"]["found_count"] == 1


def test_a_token_that_is_refused_ends_it_with_a_sentence(asking: Desk, rows: Rows, inboost: SandboxServer) -> None:
    rows.delivered(rows.purchase(1))
    inboost.put_faults("*:unauthorized")
    answer = ask(asking, rows)
    assert answer.status == 69
    assert "refuses the token (answered 401)" in answer.err


def test_the_pace_keeps_requests_apart_and_saves_nothing_up() -> None:
    now, pauses = [100.0], []
    pace = Pace(20, clock=lambda: now[0], pause=pauses.append)
    pace.keep()
    pace.keep()
    assert pauses == [pytest.approx(0.05)]
    now[0] = 200.0
    pace.keep()
    pace.keep()
    assert pauses == [pytest.approx(0.05)] * 2
