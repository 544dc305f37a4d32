"""Logs: one JSON line or one readable line, and neither phones nor secrets in it, whoever wrote the line."""

from __future__ import annotations

import io
import json
import logging
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from outbox_worker import logs


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode()


def lines_of(stream: io.TextIOWrapper) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written(stream).splitlines()]


@pytest.fixture
def file() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO())


def test_a_line_is_one_json_object_that_begins_with_when_how_grave_and_what(file: io.TextIOWrapper) -> None:
    logs.configure("json", "info", file)
    structlog.get_logger().info("attempt concluded", event_id="purchase:1", status=201, text="two\nlines «й»")
    (line,) = lines_of(file)
    assert list(line) == ["time", "level", "event", "event_id", "status", "text"]
    assert line["level"] == "info"
    assert line["text"] == "two\nlines «й»"
    assert abs((datetime.now(UTC) - datetime.fromisoformat(line["time"])).total_seconds()) < 60


def test_what_is_below_the_level_is_not_written(file: io.TextIOWrapper) -> None:
    logs.configure("json", "warning", file)
    log = structlog.get_logger()
    log.info("no")
    log.warning("yes")
    logging.getLogger("library").info("no")
    logging.getLogger("library").error("yes")
    assert [line["event"] for line in lines_of(file)] == ["yes", "yes"]


def test_a_part_has_a_level_of_its_own_and_loggers_that_exist_hear_of_a_change(file: io.TextIOWrapper) -> None:
    logs.configure("json", "warning", file, levels={"relay": "debug", "libraries": "error"})
    relay, other = structlog.get_logger("outbox_worker.relay").bind(worker="w"), structlog.get_logger("outbox_worker")
    relay.debug("1")
    other.info("no")
    logging.getLogger("aiohttp").warning("no")
    logs.set_levels("info", {"relay": "error"})
    relay.warning("no")
    other.info("2")
    logging.getLogger("aiohttp").info("3")
    assert [line["event"] for line in lines_of(file)] == ["1", "2", "3"]


def test_a_logger_of_ours_is_of_a_part_that_may_have_a_level() -> None:
    package = Path(logs.__file__).parent
    named = re.compile(r'(?:get_logger|WideLog)\("(.*?)"')
    names = {name for path in package.rglob("*.py") for name in named.findall(path.read_text())}
    assert "outbox_worker.relay" in names
    assert names <= {"outbox_worker", *(f"outbox_worker.{part}" for part in get_args(logs.Part))}


def test_auto_is_json_in_a_file_and_readable_on_a_terminal(
    file: io.TextIOWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    logs.configure("auto", "info", file)
    structlog.get_logger().info("hello")
    assert written(file).startswith("{")

    terminal = Terminal(io.BytesIO())
    logs.configure("auto", "info", terminal)
    structlog.get_logger().info("hello", phone="+380501234589")
    assert "hello" in written(terminal)
    assert "\x1b[" in written(terminal)
    assert "+380*******89" in written(terminal)


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal(io.BytesIO())
    logs.configure("console", "info", terminal)
    structlog.get_logger().info("hello", answer=1)
    assert "\x1b[" not in written(terminal)


def test_a_library_that_logs_by_the_standard_library_writes_the_same_lines(file: io.TextIOWrapper) -> None:
    logs.configure("json", "info", file)
    logging.getLogger("aiohttp.access").warning("GET /x from %s", "+380501234589")
    (line,) = lines_of(file)
    assert (line["level"], line["event"], line["logger"]) == ("warning", "GET /x from +380*******89", "aiohttp.access")


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_trace_back_is_written_without_the_values_of_variables(format: logs.Format) -> None:
    stream = Terminal(io.BytesIO())
    logs.configure(format, "info", stream)

    def fail(token: str) -> None:
        raise ValueError(f"client +380501234589 is unknown, {len(token)}")

    try:
        fail("".join(["hunter", "2"]))
    except ValueError:
        structlog.get_logger().exception("failed")
    text = written(stream)
    assert "ValueError" in text
    assert "+380501234589" not in text
    assert "hunter2" not in text


def protected(**line: object) -> dict[str, Any]:
    return dict(logs.protect(None, "info", dict(line)))


@pytest.mark.parametrize(
    "key", ["token", "inboost_token", "secret", "secrets", "password", "Authorization", "authorize", "api_key", "dsn"]
)
def test_a_secret_is_blotted_out_by_its_key(key: str) -> None:
    assert protected(**{key: "hunter2", "nested": {key: ["hunter2"]}}) == {key: "***", "nested": {key: "***"}}


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("postgresql://worker:hunter2@db/shop refused", "postgresql://worker:***@db/shop refused"),
        ("host=db password=hunter2 user=w", "host=db password=*** user=w"),
        ("sent Authorize: Bearer eyJhbGciOi.J9-_", "sent Authorize: Bearer ***"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_***"),
        ("PGPASSWORD=hunter2 psql", "PGPASSWORD=*** psql"),
        ('{"token": "abc123", "a": 1}', '{"token": "***", "a": 1}'),
        (
            "POST https://p.inboost.ai/api/webhok/0f6e2c/ timed out",
            "POST https://p.inboost.ai/api/webhok/***/ timed out",
        ),
        ("https://portal.inboost.ai/api/MyClients?limit=5", "https://portal.inboost.ai/api/MyClients?limit=5"),
    ],
)
def test_a_secret_in_a_text_is_blotted_out_by_its_looks(text: str, cleaned: str) -> None:
    assert protected(error=text) == {"error": cleaned}


def test_a_phone_is_masked_by_its_key_and_by_its_looks() -> None:
    line = protected(
        phone="050 123 45 89",
        phones=["+380501234589", None],
        excerpt='{"userPhoneNumber":"+380671234511"}',
        detail={"answer": ["+380501234589"]},
        error=ValueError("no client 0501234589"),
    )
    assert line == {
        "phone": "********89",
        "phones": ["+380*******89", None],
        "excerpt": '{"userPhoneNumber":"+380*******11"}',
        "detail": {"answer": ["+380*******89"]},
        "error": "no client ********89",
    }


def test_what_an_operator_searches_for_stays_legible() -> None:
    line = {"event_id": "purchase:123456789012", "delivery_id": 123456789012, "lane": 12, "worker": "0123456789"}
    assert protected(**line) == line


@settings(max_examples=40)
@given(st.dictionaries(st.text(), st.recursive(st.none() | st.text() | st.floats() | st.binary(), st.lists)))
def test_whatever_is_logged_one_line_of_json_comes_out(fields: dict[str, Any]) -> None:
    line = logs.protect(None, "info", {**fields, "time": "now", "level": "info", "event": "x"})
    assert b"\n" not in logs._as_json(None, "info", line)


def test_a_wide_line_is_the_line_that_structlog_writes(file: io.TextIOWrapper) -> None:
    logs.configure("json", "info", file)
    said = {"event_id": "purchase:1", "status": 201, "reason": "call +380501234589", "token": "abc", "took_us": 7}
    structlog.get_logger("any").bind(worker="w").warning("attempt", **said)
    wide = logs.WideLog("any", worker="w")
    wide.write("warning", "attempt", said, datetime.now(UTC))
    assert len(lines_of(file)) == 1, "it is kept"
    wide.flush()
    first, second = lines_of(file)
    assert list(first)[:3] == list(second)[:3] == ["time", "level", "event"]
    assert first.pop("time")[:10] == second.pop("time")[:10]
    assert first == second
    assert second["token"] == "***"
    assert "1234589" not in second["reason"]


def test_a_wide_line_below_the_level_is_not_written(file: io.TextIOWrapper) -> None:
    logs.configure("json", "warning", file)
    wide = logs.WideLog("any")
    wide.write("info", "attempt", {}, datetime.now(UTC))
    wide.flush()
    assert written(file) == ""


def test_people_read_a_wide_line_as_any_other(file: io.TextIOWrapper) -> None:
    logs.configure("console", "info", file)
    logs.WideLog("any", worker="w").write("info", "attempt", {"phone": "+380501234589"}, datetime.now(UTC))
    assert "attempt" in written(file)
    assert "1234589" not in written(file)
