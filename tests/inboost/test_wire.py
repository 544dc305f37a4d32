"""The wire against real sockets: what is claimed to have happened did happen, and no request is ever sent twice."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from selectors import BaseSelector
from threading import Barrier, Event
from time import monotonic
from typing import Any

import pycurl
import pytest
import trustme

from outbox_worker.errors import Unsendable
from outbox_worker.inboost.transfer import ANSWER_BYTES_READ_MAX, KeptConnections, Transfer
from outbox_worker.inboost.wire import Wire
from outbox_worker.records import Evidence, Exchange, Request
from outbox_worker.runtime.selector import Selector
from tests.inboost.receiver import Connection, Receiver

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
JSON = "Content-Type: application/json"
PATIENCE_S = 10.0

Serve = Callable[..., Receiver]
OpenWire = Callable[..., Wire[Any]]


@pytest.fixture
def selector() -> Iterator[BaseSelector]:
    with Selector() as selector:
        yield selector


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(Receiver(*args, **options))


@pytest.fixture
def open_wire(selector: BaseSelector) -> Iterator[OpenWire]:
    with ExitStack() as stack:

        def open_wire(**options: Any) -> Wire[Any]:
            wire: Wire[Any] = Wire(selector, **options)
            stack.callback(wire.close)
            return wire

        yield open_wire


@pytest.fixture
def wire(open_wire: OpenWire) -> Wire[Any]:
    return open_wire()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def certificate_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authority's own certificate, for those who are to trust it."""
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
def certificate(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def post(url: str, body: bytes = b"{}", *, method: str = "POST", headers: tuple[str, ...] = (JSON,)) -> Request:
    return Request(method, url, headers, body)


def drive(wire: Wire[Any], selector: BaseSelector, count: int = 1) -> list[tuple[Any, Exchange]]:
    """Be the caller's loop until `count` transfers have finished."""
    finished: list[tuple[Any, Exchange]] = []
    give_up_at = monotonic() + PATIENCE_S
    while len(finished) < count:
        assert monotonic() < give_up_at, f"{len(wire)} transfers did not end"
        wire.run_timers()
        timeout = wire.timeout()
        for key, mask in selector.select(PATIENCE_S if timeout is None else timeout):
            key.data(key.fd, mask)
        finished += wire.finished()
    return finished


def send(wire: Wire[Any], selector: BaseSelector, request: Request, within_s: float = 5.0) -> Exchange:
    wire.start(request, "token", monotonic() + within_s)
    [(token, exchange)] = drive(wire, selector)
    assert token == "token"
    return exchange


def answering(*answers: bytes) -> Callable[[Connection], None]:
    """Answer one request with each of these, then close."""

    def script(connection: Connection) -> None:
        for answer in answers:
            connection.read_request()
            connection.send(answer)

    return script


def answering_always(connection: Connection) -> None:
    while connection.read_request():
        connection.send(OK)


def silent(connection: Connection) -> None:
    connection.wait_until_gone()


# What leaves


def test_a_request_leaves_byte_for_byte_with_headers_in_their_order(
    wire: Wire[Any], selector: BaseSelector, serve: Serve
) -> None:
    receiver = serve(answering_always)
    headers = (JSON, "User-Agent: outbox-worker/1", "Idempotency-Key: purchase:1", "Authorize: Bearer x")
    body = '{"name":"Олена"}'.encode()
    exchange = send(wire, selector, post(receiver.url + "a/../b?c=%2B1", body, headers=headers))
    assert (exchange.evidence, exchange.status, exchange.body) == (Evidence.ANSWERED, 200, b"ok")
    assert (exchange.error, exchange.retry_after) == ("", None)
    lines = ["POST /a/../b?c=%2B1 HTTP/1.1", f"Host: 127.0.0.1:{receiver.port}", "Accept: */*", *headers]
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
    assert receiver.requests == [head.encode() + body]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("body", [b"", b"{}", "ї".encode() * 600_000], ids=["empty", "short", "1.2 MB"])
def test_a_body_arrives_whole_whatever_the_method(
    wire: Wire[Any], selector: BaseSelector, serve: Serve, method: str, body: bytes
) -> None:
    receiver = serve(answering_always)
    assert send(wire, selector, post(receiver.url, body, method=method)).evidence is Evidence.ANSWERED
    head, _, received = receiver.requests[0].partition(b"\r\n\r\n")
    assert received == body
    assert head.startswith(method.encode() + b" / HTTP/1.1\r\n")
    assert head.endswith(b"\r\nContent-Length: %d" % len(body))
    assert b"Expect" not in head


def test_requests_of_all_methods_share_a_connection_and_leave_nothing_behind_for_each_other(
    wire: Wire[Any], selector: BaseSelector, serve: Serve
) -> None:
    receiver = serve(answering(*[OK.replace(b"\r\n", b"\r\nSet-Cookie: a=b; Path=/\r\n", 1)] * 4))
    for method, body in (("POST", b"first"), ("GET", b""), ("PUT", b"{}"), ("GET", b"")):
        headers = (JSON, f"X-Method: {method}") if method == "POST" else ()
        assert send(wire, selector, post(receiver.url, body, method=method, headers=headers)).status == 200
    assert receiver.connection_count == 1
    host = b" / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: */*\r\n" % receiver.port
    assert receiver.requests[1:] == [
        b"GET" + host + b"\r\n",
        b"PUT" + host + b"Content-Length: 2\r\n\r\n{}",
        b"GET" + host + b"\r\n",
    ]


def test_proxies_of_the_environment_are_not_obeyed(
    wire: Wire[Any], selector: BaseSelector, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    receiver = serve(answering_always)
    assert send(wire, selector, post(receiver.url)).evidence is Evidence.ANSWERED


@pytest.mark.parametrize("trouble", ["a\r\nX-Injected: b", "a\nb", "a\rb", "a\0b", "їжак"])
def test_a_header_or_address_that_would_break_out_is_refused(wire: Wire[Any], trouble: str) -> None:
    for request in (post("http://127.0.0.1:1/", headers=(f"Idempotency-Key: {trouble}",)), post(f"http://h/{trouble}")):
        with pytest.raises(Unsendable):
            wire.start(request, None, monotonic() + 1)
    assert len(wire) == 0


# What comes back

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (OK, 200, b"ok"),
        (b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", 201, b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.1 200 OK\n\nbare line feeds", 200, b"bare line feeds"),
        (CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 200, b"abcde"),
        (CHUNKED + b"3\r\nabc\r\n0\r\nX-Trailer: late\r\n\r\n", 200, b"abc"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + OK, 200, b"ok"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 302, b""),
        (b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nno", 401, b"no"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops", 500, b"oops"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", 200, b"abc"),
    ],
)
def test_a_whole_answer_is_taken_as_it_came(
    wire: Wire[Any], selector: BaseSelector, serve: Serve, answer: bytes, status: int, body: bytes
) -> None:
    receiver = serve(answering(answer))
    exchange = send(wire, selector, post(receiver.url))
    assert (exchange.evidence, exchange.status, exchange.body) == (Evidence.ANSWERED, status, body)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", 200, b"abc"),
        (CHUNKED + b"5\r\nabc", 200, b"abc"),
        (CHUNKED + b"3\r\nabc\r\n", 200, b"abc"),
        (CHUNKED + b"3\r\nabc\r\n0\r\nX-Trailer: a", 200, b"abc"),
        (CHUNKED + b"zz\r\n", 200, b""),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 10\r\n\r\n", 503, b""),
        # libcurl takes these for whole answers
        (b"HTTP/1.1 200 OK\r\n", 200, b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", 200, b""),
        (b"HTTP/1.1 200 OK\r\nContent-Le", 200, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n", 200, b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: not a number\r\n\r\n", 200, b""),
        (b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n", 200, b""),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n", 200, b""),
    ],
)
def test_an_answer_that_ends_early_is_cut(
    wire: Wire[Any], selector: BaseSelector, serve: Serve, answer: bytes, status: int, body: bytes
) -> None:
    exchange = send(wire, selector, post(serve(answering(answer)).url))
    assert (exchange.evidence, exchange.status, exchange.body) == (Evidence.ANSWER_CUT, status, body)
    assert exchange.error


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"<html>no headers</html>",
        b"\x00\xff\x00\xff",
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 000 Zero\r\n\r\n",
        b"HTTP/3 200 OK\r\n\r\n",
        b"HTTP/1.1 " + b"a" * 200_000,
        b"HTTP/1.1 103 Early Hints\r\n\r\ngarbage\r\n\r\n",
    ],
)
def test_what_is_not_http_is_unreadable(wire: Wire[Any], selector: BaseSelector, serve: Serve, answer: bytes) -> None:
    exchange = send(wire, selector, post(serve(answering(answer)).url))
    assert (exchange.evidence, exchange.status, exchange.body) == (Evidence.ANSWER_UNREADABLE, None, b"")


@pytest.mark.parametrize("answer", [b"", b"HT", b"HTTP/1.1 200 OK", b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"])
def test_less_than_a_status_line_is_no_answer(
    wire: Wire[Any], selector: BaseSelector, serve: Serve, answer: bytes
) -> None:
    exchange = send(wire, selector, post(serve(answering(answer)).url))
    assert (exchange.evidence, exchange.status) == (Evidence.NO_ANSWER, None)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"Retry-After: 120\r\n", "120"),
        (b"retry-AFTER:  Sun, 01 Mar 2026 12:05:00 GMT \r\n", "Sun, 01 Mar 2026 12:05:00 GMT"),
        (b"X-Retry-After: 120\r\n", None),
    ],
)
def test_the_wish_to_be_left_alone_is_handed_over_as_it_came(
    wire: Wire[Any], selector: BaseSelector, serve: Serve, header: bytes, expected: str | None
) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nRetry-After: 7\r\n\r\n"
    receiver = serve(answering(hints + b"HTTP/1.1 429 Slowly\r\n" + header + b"Content-Length: 0\r\n\r\n"))
    exchange = send(wire, selector, post(receiver.url))
    assert (exchange.status, exchange.retry_after) == (429, expected)


def test_of_a_long_answer_the_beginning_is_kept_and_the_connection_too(
    open_wire: OpenWire, selector: BaseSelector, serve: Serve
) -> None:
    wire = open_wire(answer_bytes_max=1000)
    receiver = serve(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"a" * 100_000, OK))
    exchange = send(wire, selector, post(receiver.url))
    assert (exchange.evidence, exchange.body) == (Evidence.ANSWERED, b"a" * 1000)
    assert send(wire, selector, post(receiver.url)).body == b"ok"
    assert receiver.connection_count == 1


def test_an_answer_without_end_is_answered_by_its_status(wire: Wire[Any], selector: BaseSelector, serve: Serve) -> None:
    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 202 Accepted\r\n\r\n")
        while True:
            connection.send(b"a" * ANSWER_BYTES_READ_MAX)

    exchange = send(wire, selector, post(serve(script).url), within_s=2 * PATIENCE_S)
    assert (exchange.evidence, exchange.status, exchange.error) == (Evidence.ANSWERED, 202, "")
    assert exchange.body == b"a" * 65536


def test_a_refusal_that_comes_before_the_body_was_written_is_an_answer(
    wire: Wire[Any], selector: BaseSelector, serve: Serve
) -> None:
    def script(connection: Connection) -> None:
        connection.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        connection.wait_until_gone()

    exchange = send(wire, selector, post(serve(script).url, b"a" * 5_000_000))
    assert (exchange.evidence, exchange.status, exchange.body) == (Evidence.ANSWERED, 413, b"big")


# What never leaves


def test_a_refused_connection_is_known_as_such(wire: Wire[Any], selector: BaseSelector) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert send(wire, selector, post(f"http://127.0.0.1:{port}/")).evidence is Evidence.CONNECT_FAILED


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 70 + ".invalid"])
def test_a_name_that_does_not_exist_is_known_as_such(wire: Wire[Any], selector: BaseSelector, host: str) -> None:
    exchange = send(wire, selector, post(f"http://{host}/"))
    assert (exchange.evidence, exchange.status) == (Evidence.NAME_LOOKUP_FAILED, None)
    assert host in exchange.error


@pytest.mark.parametrize(
    "url", ["http://a b/", "http://127.0.0.1:99999/", "ftp://127.0.0.1/", "file:///etc/passwd", ""]
)
def test_an_address_that_is_none_leaves_nothing(wire: Wire[Any], selector: BaseSelector, url: str) -> None:
    assert send(wire, selector, post(url)).evidence is Evidence.NOT_WRITTEN


@pytest.mark.parametrize(("connect_timeout_s", "within_s"), [(0.1, 5.0), (3.0, 0.1)])
def test_a_connection_that_is_never_accepted_fails_in_time(
    open_wire: OpenWire, selector: BaseSelector, connect_timeout_s: float, within_s: float
) -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # the backlog is full: whoever comes now hears nothing
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        wire = open_wire(connect_timeout=timedelta(seconds=connect_timeout_s))
        began_at = monotonic()
        exchange = send(wire, selector, post(f"http://127.0.0.1:{listener.getsockname()[1]}/"), within_s)
        assert exchange.evidence is Evidence.CONNECT_FAILED
        assert 0.09 < monotonic() - began_at < 1.0


def test_nothing_is_connected_once_the_deadline_has_passed(
    wire: Wire[Any], selector: BaseSelector, serve: Serve
) -> None:
    receiver = serve(answering_always)
    wire.start(post(receiver.url), 1, monotonic())
    assert len(wire) == 1
    assert wire.timeout() == 0.0
    [(token, exchange)] = wire.finished()
    assert (token, exchange.evidence) == (1, Evidence.NOT_WRITTEN)
    assert len(wire) == receiver.connection_count == 0


def test_nothing_departs_when_the_loop_was_held_up_beyond_the_deadline(
    wire: Wire[Any], selector: BaseSelector, serve: Serve
) -> None:
    receiver = serve(answering_always)
    wire.start(post(receiver.url), 1, monotonic() + 0.02)
    selector.select(0.03)
    [(_, exchange)] = drive(wire, selector)
    assert exchange.evidence is Evidence.NOT_WRITTEN
    receiver.close()
    assert receiver.requests == []


def test_what_waits_in_vain_for_a_connection_never_left(
    open_wire: OpenWire, selector: BaseSelector, serve: Serve
) -> None:
    wire = open_wire(connections_max=1)
    url = serve(silent).url
    wire.start(post(url), "first", monotonic() + PATIENCE_S)
    wire.start(post(url), "second", monotonic() + 0.1)
    [(token, exchange)] = drive(wire, selector)
    assert (token, exchange.evidence) == ("second", Evidence.NOT_WRITTEN)


# What leaves and is not answered


def test_silence_ends_at_the_deadline_and_the_wire_goes_on(
    wire: Wire[Any], selector: BaseSelector, serve: Serve
) -> None:
    receiver = serve(lambda connection: silent(connection) if connection.number == 1 else answering_always(connection))
    began_at = monotonic()
    exchange = send(wire, selector, post(receiver.url), within_s=0.2)
    assert exchange.evidence is Evidence.NO_ANSWER
    assert 0.15 < monotonic() - began_at < 1.0
    assert 150_000 < exchange.took_us < 1_000_000
    assert send(wire, selector, post(receiver.url)).evidence is Evidence.ANSWERED


def test_a_body_that_is_taken_only_in_part_until_the_deadline_is_no_answer(
    wire: Wire[Any], selector: BaseSelector, serve: Serve
) -> None:
    hold = Event()
    receiver = serve(lambda connection: hold.wait(PATIENCE_S) and None)
    exchange = send(wire, selector, post(receiver.url, b"a" * 20_000_000), within_s=0.2)
    hold.set()
    assert exchange.evidence is Evidence.NO_ANSWER


def test_a_body_of_an_answer_that_stops_at_the_deadline_is_cut(
    wire: Wire[Any], selector: BaseSelector, serve: Serve
) -> None:
    def script(connection: Connection) -> None:
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")(connection)
        connection.wait_until_gone()

    exchange = send(wire, selector, post(serve(script).url), within_s=0.2)
    assert (exchange.evidence, exchange.status) == (Evidence.ANSWER_CUT, 200)


@pytest.mark.parametrize("body", [b"{}", b"a" * 1_000_000], ids=["short", "1 MB"])
@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize("end", [Connection.reset, Connection.close])
def test_a_fresh_connection_that_ends_without_an_answer_leaves_doubt(
    wire: Wire[Any],
    selector: BaseSelector,
    serve: Serve,
    body: bytes,
    reads: bool,
    end: Callable[[Connection], None],
) -> None:
    def script(connection: Connection) -> None:
        if reads:
            connection.read_request()
        else:
            connection.read_byte()
        end(connection)

    receiver = serve(script)
    assert send(wire, selector, post(receiver.url, body)).evidence is Evidence.NO_ANSWER
    assert (receiver.connection_count, len(receiver.requests)) == (1, int(reads))


# Connections that are kept alive


@pytest.mark.parametrize(
    ("method", "body"),
    [("POST", b"{}"), ("PUT", b"a" * 1_000_000), ("POST", b""), ("GET", b"")],
    ids=["short", "1 MB", "empty", "GET"],
)
@pytest.mark.parametrize("end", [Connection.close, Connection.reset])
def test_connections_that_ended_while_idle_are_replaced_without_a_doubt(
    wire: Wire[Any],
    selector: BaseSelector,
    serve: Serve,
    method: str,
    body: bytes,
    end: Callable[[Connection], None],
) -> None:
    """libcurl 8.23 itself looks only once a second whether they have."""
    answered, ended = Barrier(6, timeout=PATIENCE_S), Barrier(6, timeout=PATIENCE_S)

    def script(connection: Connection) -> None:
        if connection.number > 5:
            answering_always(connection)
        else:
            answering(OK)(connection)
            answered.wait()
            end(connection)
            ended.wait()

    receiver = serve(script)
    for _ in range(2):
        for number in range(5):
            wire.start(post(receiver.url, body, method=method), number, monotonic() + PATIENCE_S)
        assert [exchange.status for _, exchange in drive(wire, selector, 5)] == [200] * 5
        if receiver.connection_count == 5:
            answered.wait()
            ended.wait()
    send(wire, selector, post(receiver.url, body, method=method))
    receiver.close()
    assert receiver.connection_count == 10
    assert [request.partition(b"\r\n\r\n")[2] for request in receiver.requests] == [body] * 11


def test_what_a_receiver_says_unasked_is_not_taken_for_the_answer(
    wire: Wire[Any], selector: BaseSelector, serve: Serve
) -> None:
    answered, said = Event(), Event()

    def script(connection: Connection) -> None:
        if connection.number > 1:
            answering_always(connection)
        else:
            answering(OK)(connection)
            answered.wait(PATIENCE_S)
            connection.send(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
            said.set()
            connection.wait_until_gone()

    receiver = serve(script)
    send(wire, selector, post(receiver.url))
    answered.set()
    assert said.wait(PATIENCE_S)
    assert send(wire, selector, post(receiver.url)).status == 200
    assert (receiver.connection_count, len(receiver.requests)) == (2, 2)


def test_an_earlier_connection_with_the_same_descriptor_is_forgotten() -> None:
    kept_connections = KeptConnections()
    one, other = socket.socketpair()
    with one:
        other.close()
        for addresses in (("here", 1), ("here", 2)):
            kept_connections.rest(one.fileno(), addresses)
            kept_connections.take_time()
            assert not kept_connections.depart(addresses)
        assert kept_connections.depart(("here", 1))
    kept_connections.close()


def test_a_connection_that_was_idle_for_too_long_is_not_used_again(
    open_wire: OpenWire, selector: BaseSelector, serve: Serve
) -> None:
    wire = open_wire(idle_connection_age=timedelta(seconds=1))
    receiver = serve(answering_always)
    send(wire, selector, post(receiver.url))
    send(wire, selector, post(receiver.url))
    assert receiver.connection_count == 1
    selector.select(1.1)  # the passing of time is what this is about
    send(wire, selector, post(receiver.url))
    assert receiver.connection_count == 2


def acting_twice_and_answering_once(connection: Connection) -> None:
    if connection.number == 1:
        answering(OK)(connection)
        connection.read_request()
    else:
        answering_always(connection)


REQUESTS = [
    pytest.param("POST", b"{}", id="POST"),
    pytest.param("PUT", b"{}", id="PUT"),
    pytest.param("POST", b"a" * 1_000_000, id="POST 1 MB"),
    pytest.param("POST", b"", id="POST without a body"),
    pytest.param("GET", b"", id="GET"),
]


@pytest.mark.parametrize(("method", "body"), REQUESTS)
def test_a_request_that_was_acted_upon_and_not_answered_is_never_sent_again(
    wire: Wire[Any], selector: BaseSelector, serve: Serve, method: str, body: bytes
) -> None:
    receiver = serve(acting_twice_and_answering_once)
    send(wire, selector, post(receiver.url, method=method, body=body))
    exchange = send(wire, selector, post(receiver.url, method=method, body=body))
    assert exchange.evidence is Evidence.NO_ANSWER
    receiver.close()
    assert len(receiver.requests) == 2


@pytest.mark.parametrize(("method", "body"), REQUESTS[:3])
def test_a_body_cannot_be_sent_again_even_if_departures_were_not_counted(
    open_wire: OpenWire,
    selector: BaseSelector,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    body: bytes,
) -> None:
    def depart_freely(transfer: Any, *_addresses: object) -> int:
        transfer._departed = True
        return int(pycurl.PREREQFUNC_OK)

    monkeypatch.setattr(Transfer, "_depart", depart_freely)
    wire = open_wire()
    receiver = serve(acting_twice_and_answering_once)
    send(wire, selector, post(receiver.url, method=method, body=body))
    assert send(wire, selector, post(receiver.url, method=method, body=body)).evidence is Evidence.NO_ANSWER
    receiver.close()
    assert len(receiver.requests) == 2


class EndsAsWeWrite:
    """Answers once, and ends the connection when the second request has been let depart and is not yet written."""

    def __init__(self, end: Callable[[Connection], None], monkeypatch: pytest.MonkeyPatch) -> None:
        self._end = end
        self._departed, self._ended = Event(), Event()
        self._departure_count = 0
        depart = Transfer._depart

        def depart_then_wait(transfer: Any, *addresses: object) -> int:
            answer = depart(transfer, *addresses)
            self._departure_count += 1
            if self._departure_count == 2:
                self._departed.set()
                assert self._ended.wait(PATIENCE_S)
            return answer

        monkeypatch.setattr(Transfer, "_depart", depart_then_wait)

    def script(self, connection: Connection) -> None:
        if connection.number > 1:
            answering_always(connection)
        else:
            answering(OK)(connection)
            self._departed.wait(PATIENCE_S)
            self._end(connection)
            self._ended.set()


@pytest.mark.parametrize(("method", "body"), REQUESTS)
@pytest.mark.parametrize(
    ("end", "evidence"),
    [
        # The first write to a connection that was reset fails: not a byte was taken.
        (Connection.reset, Evidence.NOT_WRITTEN),
        # One that was closed takes what is written to it, and only then says that nobody reads it.
        (Connection.close, Evidence.NO_ANSWER),
    ],
)
def test_a_connection_that_ends_as_we_write_is_judged_by_whether_it_took_a_byte(
    open_wire: OpenWire,
    selector: BaseSelector,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    body: bytes,
    end: Callable[[Connection], None],
    evidence: Evidence,
) -> None:
    receiver = serve(EndsAsWeWrite(end, monkeypatch).script)
    wire = open_wire()
    send(wire, selector, post(receiver.url, method=method, body=body))
    assert send(wire, selector, post(receiver.url, method=method, body=body)).evidence is evidence
    receiver.close()
    assert len(receiver.requests) == 1


# TLS


def test_over_tls_a_receiver_that_is_trusted_answers(
    open_wire: OpenWire, selector: BaseSelector, serve: Serve, certificate: ssl.SSLContext, certificate_file: Path
) -> None:
    receiver = serve(answering_always, certificate)
    wire = open_wire(ca_file=certificate_file)
    assert send(wire, selector, post(receiver.url)).evidence is Evidence.ANSWERED
    assert send(wire, selector, post(receiver.url, b"a" * 1_000_000)).evidence is Evidence.ANSWERED
    assert receiver.connection_count == 1


def test_a_certificate_that_nobody_vouches_for_gets_no_request(
    wire: Wire[Any], selector: BaseSelector, serve: Serve, certificate: ssl.SSLContext
) -> None:
    receiver = serve(answering_always, certificate)
    assert send(wire, selector, post(receiver.url)).evidence is Evidence.TLS_FAILED
    receiver.close()
    assert receiver.requests == []


def test_a_certificate_for_another_name_gets_no_request(
    open_wire: OpenWire, selector: BaseSelector, serve: Serve, certificate: ssl.SSLContext, certificate_file: Path
) -> None:
    receiver = serve(answering_always, certificate)
    url = receiver.url.replace("127.0.0.1", "localhost")
    assert send(open_wire(ca_file=certificate_file), selector, post(url)).evidence is Evidence.TLS_FAILED
    assert send(open_wire(verify=False), selector, post(url)).evidence is Evidence.ANSWERED


@pytest.mark.parametrize("script", [answering(OK), Connection.reset, Connection.close])
def test_a_receiver_that_does_not_speak_tls_gets_no_request(
    wire: Wire[Any], selector: BaseSelector, serve: Serve, script: Callable[[Connection], None]
) -> None:
    def read_then(connection: Connection) -> None:
        connection.read_byte()
        connection.send(OK)
        script(connection)

    url = serve(read_then).url.replace("http:", "https:")
    assert send(wire, selector, post(url)).evidence is Evidence.TLS_FAILED


@pytest.mark.parametrize(("connect_timeout_s", "within_s"), [(0.1, 5.0), (3.0, 0.1)])
def test_silence_instead_of_a_handshake_is_a_failure_of_tls(
    open_wire: OpenWire, selector: BaseSelector, serve: Serve, connect_timeout_s: float, within_s: float
) -> None:
    wire = open_wire(connect_timeout=timedelta(seconds=connect_timeout_s))
    url = serve(silent).url.replace("http:", "https:")
    assert send(wire, selector, post(url), within_s).evidence is Evidence.TLS_FAILED


@pytest.mark.parametrize("end", [Connection.reset, Connection.close])
def test_over_tls_whatever_departed_counts_as_written(
    open_wire: OpenWire,
    selector: BaseSelector,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    certificate: ssl.SSLContext,
    certificate_file: Path,
    end: Callable[[Connection], None],
) -> None:
    receiver = serve(EndsAsWeWrite(end, monkeypatch).script, certificate)
    wire = open_wire(ca_file=certificate_file)
    send(wire, selector, post(receiver.url))
    assert send(wire, selector, post(receiver.url)).evidence is Evidence.NO_ANSWER
    receiver.close()
    assert len(receiver.requests) == 1


# The caller's loop


def test_two_hundred_transfers_are_in_flight_at_once_and_each_comes_back_with_its_token(
    open_wire: OpenWire, selector: BaseSelector, serve: Serve
) -> None:
    wire = open_wire(connections_max=200)
    all_there = Barrier(200, timeout=PATIENCE_S)

    def script(connection: Connection) -> None:
        number = connection.read_request().rpartition(b"\r\n")[2]
        all_there.wait()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(number), number))
        connection.wait_until_gone()

    receiver = serve(script)
    for number in range(200):
        wire.start(post(receiver.url, b"%d" % number), number, monotonic() + PATIENCE_S)
    assert len(wire) == 200
    finished = drive(wire, selector, 200)
    assert sorted(token for token, _ in finished) == list(range(200))
    assert all(exchange.body == b"%d" % token for token, exchange in finished)
    assert len(wire) == 0


def test_a_wire_with_nothing_to_do_wakes_nobody(wire: Wire[Any], selector: BaseSelector, serve: Serve) -> None:
    assert wire.timeout() is None
    send(wire, selector, post(serve(answering_always).url))
    wire.run_timers()
    assert not selector.get_map()
    assert wire.finished() == []


def test_closing_drops_what_is_in_flight_and_leaves_the_selector(
    open_wire: OpenWire, selector: BaseSelector, serve: Serve
) -> None:
    arrived, gone = Barrier(4, timeout=PATIENCE_S), Barrier(4, timeout=PATIENCE_S)

    def script(connection: Connection) -> None:
        connection.read_request()
        arrived.wait()
        connection.wait_until_gone()
        gone.wait()

    wire = Wire[int](selector)
    receiver = serve(script)
    for number in range(3):
        wire.start(post(receiver.url), number, monotonic() + PATIENCE_S)
    wire.run_timers()
    while arrived.n_waiting < 3:
        for key, mask in selector.select(0.01):
            key.data(key.fd, mask)
        wire.run_timers()
    arrived.wait()
    assert len(wire) == 3
    wire.close()
    gone.wait()
    assert len(wire) == 0
    assert not selector.get_map()
