"""Every command that asks the database, where there is none, none of ours, nothing to be found, or a wrong setting."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.desk import Desk

WHY = ("--reason", "why")
ASKING = {
    "contacts show": ("--phone", "+380501112233"),
    "customers conflicts list": (),
    "customers show": ("+380501112233",),
    "dead-letters list": (),
    "dead-letters show": ("purchase:404",),
    "destinations list": (),
    "events list": (),
    "events show": ("purchase:404",),
    "expiry preview": (),
    "in-doubt list": (),
    "in-doubt show": ("purchase:404",),
    "lanes": (),
    "rounds list": (),
    "status": (),
}
CHANGING = {
    "contacts erase": ("--phone", "+380501112233", "--yes", *WHY),
    "contacts link": ("404", "405", *WHY),
    "contacts unlink": ("404", *WHY),
    "customers conflicts resolve": ("404", "--ignore", *WHY),
    "dead-letters discard": ("purchase:404", *WHY),
    "dead-letters requeue": ("purchase:404", *WHY),
    "destinations pause": ("nowhere", *WHY),
    "destinations resume": ("nowhere", *WHY),
    "expiry send": ("--again", "bonus_expiry:404", *WHY),
    "in-doubt confirm": ("purchase:404", *WHY),
    "in-doubt resend": ("purchase:404", *WHY),
    "lanes release": ("--customer", "404", *WHY),
    "reconcile": (),
    "rounds pause": ("nothing", *WHY),
    "rounds resume": ("nothing", *WHY),
}
ALL = ASKING | CHANGING
NOBODY = "postgresql://nobody:hunter2@127.0.0.1:1/none?connect_timeout=1"


def words_of(command: str) -> tuple[str, ...]:
    return (*command.split(), *ALL[command])


@pytest.fixture
def desk_without(configure: Callable[..., Path], desk: Desk) -> Callable[..., Desk]:
    """Write other settings for the same desk."""

    def write(**settings: object) -> Desk:
        configure({key.replace("__", "."): value for key, value in settings.items()})
        return desk

    return write


def test_a_database_that_is_away_is_one_sentence_and_status_69(desk_without: Callable[..., Desk]) -> None:
    desk = desk_without(database__url=NOBODY)
    for command in ALL:
        answer = desk(*words_of(command))
        assert (command, answer.status, answer.out) == (command, 69, "")
        assert "database" in answer.err and "hunter2" not in answer.err and "Traceback" not in answer.err


def test_a_database_without_our_schema_is_one_sentence_and_status_78(
    desk_without: Callable[..., Desk], empty_database_url: str
) -> None:
    desk = desk_without(database__url=empty_database_url)
    for command in ALL:
        answer = desk(*words_of(command), "--json")
        assert (command, answer.status, answer.out) == (command, 78, "")
        assert "schema install" in answer.err


def test_a_wrong_setting_is_named_and_status_78(desk_without: Callable[..., Desk]) -> None:
    desk = desk_without(relay__slots="many", relay__solts=3)
    for command in ALL:
        answer = desk(*words_of(command))
        assert (command, answer.status, answer.out) == (command, 78, "")
        assert "relay.slots" in answer.err and "did you mean slots?" in answer.err


def test_what_is_not_there_is_said_and_scripts_get_one_document_or_none(desk: Desk) -> None:
    for command in ALL:
        for form in ((), ("--json",), *([("--dry-run",), ("--dry-run", "--json")] if command in CHANGING else [])):
            answer = desk(*words_of(command), *form)
            assert answer.status in {0, 1, 2}, (command, form, answer)
            assert "Traceback" not in answer.err and (answer.out or answer.err), (command, form)
            if "--json" in form and answer.out:
                json.loads(answer.out)


def test_an_id_that_is_not_there_is_never_status_0(desk: Desk) -> None:
    for command, words in ALL.items():
        if any(word in {"purchase:404", "404", "nowhere", "nothing", "bonus_expiry:404"} for word in words):
            assert (command, desk(*words_of(command)).status != 0) == (command, True)
