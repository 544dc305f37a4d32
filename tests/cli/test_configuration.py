"""`outbox-worker configuration` and `systemd`: what holds and why, without a secret; files to begin with."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.desk import Desk

ROOT = Path(__file__).parents[2]
SECRETS = {
    "database.url": "postgresql://worker:hunter2@db/shop?sslpassword=hunter3",
    "inboost.token": "hunter4",
    "inboost.hooks.accrual.secrets": ["whsec_aHVudGVyNWh1bnRlcjVodW50ZXI1aHVudGVyNQ=="],
    "inboost.hooks.expiry.url": "https://elsewhere.example/hunter6",
}


@pytest.fixture
def complete(configure: Callable[..., Path], desk: Desk) -> Desk:
    configure(SECRETS)
    return desk


def test_show_tells_each_setting_with_its_value_and_its_origin(
    complete: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OUTBOX_WORKER__RELAY__SLOTS", "32")
    found = {it["name"]: (it["value"], it["origin"]) for it in complete("configuration", "show", "--json").data}
    assert found["relay.slots"] == (32, "OUTBOX_WORKER__RELAY__SLOTS")
    assert found["relay.poll_interval"] == (5.0, "default")
    assert found["inboost.base_url"] == ("https://portal.inboost.ai", str(complete.file))
    assert found["inboost.token"] == ("***", str(complete.file))
    (tmp_path / "hook_purchase_secret").write_text("whsec_" + "c3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nz")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    found = {it["name"]: (it["value"], it["origin"]) for it in complete("configuration", "show", "--json").data}
    assert found["inboost.hooks.purchase.secrets"] == (["***"], str(tmp_path / "hook_purchase_secret"))


def test_show_shows_no_secret(complete: Desk) -> None:
    for words in (("show",), ("show", "--json"), ("check",)):
        answer = complete("configuration", *words)
        assert answer.status == 0
        assert "hunter" not in answer.out + answer.err and "aHVudGVy" not in answer.out + answer.err
    assert "user=worker" in complete("configuration", "show").out


def test_check_says_that_all_is_well_and_where_it_would_deliver(complete: Desk) -> None:
    assert "deliver from db:5432/shop to https://portal.inboost.ai" in " ".join(
        complete("configuration", "check").out.split()
    )


@pytest.mark.parametrize("command", ["check", "show"])
def test_every_mistake_is_told_at_once_as_sentences(configure: Callable[..., Path], desk: Desk, command: str) -> None:
    wrong: dict[str, Any] = {"relay.slot": 1, "inboost.connect_timeout": 99}
    configure(SECRETS | wrong)
    answer = desk("configuration", command)
    assert (answer.status, answer.out) == (78, "")
    assert "did you mean slots?" in answer.err and "Traceback" not in answer.err
    configure(SECRETS | {"inboost.connect_timeout": 99, "retry.first": 9999})
    answer = desk("configuration", command)
    assert "shorter than request_timeout" in answer.err and "retry.first" in answer.err


def test_the_example_is_the_file_that_ships(desk: Desk) -> None:
    answer = desk("configuration", "example")
    assert answer.out == (ROOT / "systemd" / "outbox-worker.toml").read_text()
    assert tomllib.loads(answer.out)["database"]


def test_systemd_lists_each_file_with_its_place_and_prints_it(desk: Desk) -> None:
    listed = [line.split() for line in desk("systemd").lines]
    assert {name for name, _ in listed} == {it.name for it in (ROOT / "systemd").iterdir()} - {"outbox-worker.toml"}
    for name, place in listed:
        assert place.startswith("/etc/")
        printed = desk("systemd", name)
        assert printed.status == 0 and len(printed.lines) == len((ROOT / "systemd" / name).read_text().splitlines())
    assert desk("systemd", "other").status == 2
