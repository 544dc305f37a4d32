"""Reads: asked again while no answer comes, never sent elsewhere, and every end of them is a value."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from outbox_worker.errors import Unsendable
from outbox_worker.inboost.client import Client, unresolved
from outbox_worker.records import Evidence, Request
from outbox_worker.rules.schedule import Timetable
from tests.inboost.receiver import Connection, Receiver

THREE_TRIES = Timetable(first=timedelta(milliseconds=1), longest=timedelta(milliseconds=2), tries_max=3)
OK = b"HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 10:11:12 GMT\r\nContent-Length: 2\r\n\r\n{}"
HEADERS = ("Content-Type: application/json", "User-Agent: outbox-worker/1", "Authorize: Bearer hunter2")


def answering(*answers: bytes | Callable[[Connection], None]) -> Callable[[Connection], None]:
    """Make a script that answers one request after another, on as many connections as there are, the last for ever."""
    left = list(answers)

    def script(connection: Connection) -> None:
        while connection.read_request():
            answer = left.pop(0) if len(left) > 1 else left[0]
            if callable(answer):
                answer(connection)
                return
            connection.send(answer)

    return script


@contextmanager
def receiving(*answers: bytes | Callable[[Connection], None]) -> Iterator[Receiver]:
    with Receiver(answering(*answers)) as receiver:
        yield receiver


def request_to(receiver: Receiver, path: str = "/api/MyClients/%2B380501234589/purchases/purchase%3A1") -> Request:
    return Request("GET", f"http://127.0.0.1:{receiver.port}{path}", HEADERS, b"")


def make_client(**changes: Any) -> Client:
    settings: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=1),
        "request_timeout": timedelta(seconds=5),
        "timetable": THREE_TRIES,
    }
    return Client(**(settings | changes))


@pytest.fixture
def client() -> Iterator[Client]:
    with make_client() as client:
        yield client


def test_a_request_leaves_as_the_profile_made_it_and_the_answer_comes_with_the_receivers_clock(client: Client) -> None:
    with receiving(OK) as receiver:
        answer = client.read(request_to(receiver))
    (sent,) = receiver.requests
    assert sent.startswith(b"GET /api/MyClients/%2B380501234589/purchases/purchase%3A1 HTTP/1.1\r\n")
    for line in HEADERS:
        assert line.encode() + b"\r\n" in sent
    assert answer.exchange.evidence is Evidence.ANSWERED
    assert (answer.exchange.status, answer.exchange.body) == (200, b"{}")
    assert answer.date == datetime(2026, 11, 21, 10, 11, 12, tzinfo=UTC)


def test_two_reads_share_a_connection(client: Client) -> None:
    with receiving(OK) as receiver:
        client.read(request_to(receiver))
        client.read(request_to(receiver))
        assert receiver.connection_count == 1


@pytest.mark.parametrize(
    "trouble",
    [
        b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 429 Slowly\r\nContent-Length: 0\r\n\r\n",
        lambda connection: connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"),
        Connection.reset,
        lambda connection: connection.send(b"\x16\x03\x01 no HTTP\r\n\r\n"),
        lambda connection: None,
    ],
    ids=["503", "500", "429", "cut", "reset", "garbage", "closed"],
)
def test_a_passing_trouble_is_asked_again(client: Client, trouble: Any) -> None:
    with receiving(trouble, OK) as receiver:
        assert client.read(request_to(receiver)).exchange.status == 200
    assert len(receiver.requests) == 2


def test_a_trouble_that_does_not_pass_is_told_after_the_last_try(client: Client) -> None:
    with receiving(Connection.reset) as receiver:
        exchange = client.read(request_to(receiver)).exchange
    assert len(receiver.requests) == 3
    assert exchange.evidence is Evidence.NO_ANSWER
    assert exchange.error
    assert "380501234589" not in exchange.error, "the address has a customer's phone in it"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 302])
def test_an_answer_that_says_something_is_taken_at_once(client: Client, status: int) -> None:
    answer = b"HTTP/1.1 %d Said\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n" % status
    with receiving(answer) as receiver:
        assert client.read(request_to(receiver)).exchange.status == status
    assert len(receiver.requests) == 1, "a redirect is not followed"


@pytest.mark.parametrize(("asked", "waits"), [("7", [7.0]), ("3600", [])])
def test_a_rest_that_is_asked_for_is_kept_unless_it_is_long(asked: str, waits: list[float]) -> None:
    paused: list[float] = []
    busy = f"HTTP/1.1 429 Slowly\r\nRetry-After: {asked}\r\nContent-Length: 0\r\n\r\n".encode()
    with receiving(busy, OK) as receiver, make_client(pause=paused.append) as client:
        status = client.read(request_to(receiver)).exchange.status
    assert [round(it) for it in paused] == waits
    assert status == (200 if waits else 429)


def test_silence_ends_with_the_request_timeout() -> None:
    with (
        receiving(lambda connection: connection.wait_until_gone()) as receiver,
        make_client(request_timeout=timedelta(milliseconds=50)) as client,
    ):
        exchange = client.read(request_to(receiver)).exchange
    assert exchange.evidence is Evidence.NO_ANSWER
    assert exchange.error == "no answer in time"


def test_where_nobody_listens_no_connection_was_made(client: Client) -> None:
    with receiving(OK) as receiver:
        request = request_to(receiver)
    assert client.read(request).exchange.evidence is Evidence.CONNECT_FAILED


def test_the_environment_sends_nothing_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with receiving(OK) as receiver, make_client() as client:
        assert client.read(request_to(receiver)).exchange.status == 200


def test_cookies_are_not_kept(client: Client) -> None:
    with receiving(OK.replace(b"Content-Length", b"Set-Cookie: a=b\r\nContent-Length")) as receiver:
        client.read(request_to(receiver))
        client.read(request_to(receiver))
    assert not any(b"Cookie" in sent for sent in receiver.requests)


def test_a_certificate_is_checked_against_the_file_that_was_named(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with Receiver(answering(OK), context) as receiver:
        request = Request("GET", f"https://127.0.0.1:{receiver.port}/", HEADERS, b"")
        with make_client(ca_file=tmp_path / "ca.pem") as client:
            assert client.read(request).exchange.status == 200
        with make_client(timetable=Timetable(tries_max=1)) as client:
            assert client.read(request).exchange.evidence is Evidence.TLS_FAILED


def test_what_would_change_something_is_not_sent(client: Client) -> None:
    with pytest.raises(Unsendable):
        client.read(Request("POST", "http://127.0.0.1:9/", HEADERS, b"{}"))


def test_a_host_that_cannot_be_found_is_named() -> None:
    assert unresolved("http://127.0.0.1:9/") is None
    assert "nowhere.invalid" in (unresolved("https://nowhere.invalid/api/webhok/secret/") or "")
