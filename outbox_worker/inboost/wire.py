"""Transfers through libcurl, many in flight on one thread, in the caller's selector.

    start ──▶ libcurl's multi handle ──sockets, one timer──▶ the caller's selector
                      │                                             │ key.data(key.fd, mask), run_timers()
    finished ◀────────┴── what was seen, as an Exchange ◀───────────┘

Nothing here waits and no thread runs here: the caller's loop waits, in a selector of its own. (libcurl looks names up
in threads that it keeps to itself.) One `start` is at most one request on the wire; `transfer` says how, and what is
seen of it. The network's doings are values, and what they mean is for `rules.outcome` to say.
"""

from __future__ import annotations

import ssl
from datetime import timedelta
from pathlib import Path
from selectors import BaseSelector
from time import monotonic
from typing import Any, Generic, TypeVar

import certifi
import pycurl

from outbox_worker.errors import Unsendable
from outbox_worker.inboost.transfer import KeptConnections, Settings, Transfer
from outbox_worker.records import Evidence, Exchange, Request

T = TypeVar("T")

_TOO_LATE = Exchange(
    evidence=Evidence.NOT_WRITTEN,
    status=None,
    retry_after=None,
    body=b"",
    error="the deadline had passed before the request was started",
    took_us=0,
)


class Wire(Generic[T]):
    """Requests in flight, each with the caller's token.

    The caller's loop calls `run_timers`, then `finished`, then waits in its selector for `timeout` seconds at most,
    and calls `key.data(key.fd, mask)` for each event of ours. It should not start more than `connections_max` at
    once: the rest would wait for a connection, within their connect time-out.
    """

    def __init__(
        self,
        selector: BaseSelector,
        *,
        connect_timeout: timedelta = timedelta(seconds=3),
        idle_connection_age: timedelta = timedelta(seconds=20),
        connections_max: int = 64,
        answer_bytes_max: int = 65536,
        verify: bool = True,
        ca_file: Path | None = None,
    ) -> None:
        """Open no connection yet.

        `connect_timeout` is for name look-up, connect and TLS together. `idle_connection_age` (whole seconds) must be
        less than the receiver's keep-alive time, or requests meet connections that are just being closed and every one
        of them is in doubt. Of an answer's body `answer_bytes_max` bytes are kept. Certificates are verified against
        `ca_file`, or those of the system, or else those of the certifi package.
        """
        self._settings = Settings(
            connect_timeout_ms=max(1, round(connect_timeout.total_seconds() * 1000)),
            idle_connection_age_s=max(1, int(idle_connection_age.total_seconds())),
            answer_bytes_max=answer_bytes_max,
            verify=verify,
            ca_file=str(ca_file or default_ca_file()),
        )
        self._selector = selector
        self._watched: dict[int, int] = {}
        self._in_flight: dict[Any, Transfer[T]] = {}
        self._at_rest: dict[str, list[Transfer[T]]] = {}
        self._kept_connections = KeptConnections()
        self._concluded: list[tuple[T, Exchange]] = []
        self._running_count = 0
        self._timer_due_at: float | None = None
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_MAX_TOTAL_CONNECTIONS, connections_max)
        self._multi.setopt(pycurl.M_MAXCONNECTS, connections_max)

    def __len__(self) -> int:
        """Count what was started and not yet handed over by `finished`."""
        return len(self._in_flight) + len(self._concluded)

    def start(self, request: Request, token: T, deadline: float) -> None:
        """Begin a transfer that ends by `deadline` (of `time.monotonic`) whatever happens.

        Nothing leaves here: the next `run_timers` does that. Raises `Unsendable` when address or headers are not
        printable ASCII: libcurl would let a line break pass, and what follows it would be a header of its own.
        """
        timeout_ms = _milliseconds_until(deadline)
        if timeout_ms <= 0:
            self._concluded.append((token, _TOO_LATE))
            return
        _refuse_what_would_break_out(request)
        at_rest = self._at_rest.get(request.method)
        transfer = at_rest.pop() if at_rest else Transfer[T](request.method, self._settings, self._kept_connections)
        transfer.load(request, token, deadline, timeout_ms)
        self._launch(transfer)

    def run_timers(self) -> None:
        """Do what is due by now: begin what was started, end what is late."""
        self._kept_connections.take_time()
        if self._timer_due_at is not None and self._timer_due_at <= monotonic():
            self._timer_due_at = None  # libcurl sets the next one before this call returns
            self._act(pycurl.SOCKET_TIMEOUT, 0)

    def timeout(self) -> float | None:
        """Say how many seconds the caller may wait: 0 when something is finished or due, None for ever."""
        if self._concluded or self._running_count < len(self._in_flight):
            return 0.0
        if self._timer_due_at is None:
            return None
        return max(0.0, self._timer_due_at - monotonic())

    def finished(self) -> list[tuple[T, Exchange]]:
        """Hand over what has finished since the last call."""
        if self._running_count < len(self._in_flight):
            self._collect()
        concluded, self._concluded = self._concluded, []
        return concluded

    def close(self) -> None:
        """Drop every transfer and connection, and leave the selector. What was in flight is not handed over.

        Call it last: libcurl waits here for name look-ups that are still under way, 10 seconds with a silent server.
        """
        for descriptor in self._watched:
            self._selector.unregister(descriptor)
        self._watched.clear()
        for curl in self._in_flight:
            self._multi.remove_handle(curl)
        self._in_flight.clear()
        self._concluded.clear()
        self._multi.close()
        self._kept_connections.close()

    def _launch(self, transfer: Transfer[T]) -> None:
        self._multi.add_handle(transfer.curl)
        self._in_flight[transfer.curl] = transfer
        self._running_count += 1

    def _act(self, descriptor: int, mask: int) -> None:
        """Tell libcurl what a socket is ready for. The selector's event bits are libcurl's: 1 to read, 2 to write."""
        _, self._running_count = self._multi.socket_action(descriptor, mask)

    def _collect(self) -> None:
        left = 1
        while left:
            left, succeeded, failed = self._multi.info_read()
            for curl in succeeded:
                self._end(curl, pycurl.E_OK, "")
            for curl, code, words in failed:
                self._end(curl, code, words)

    def _end(self, curl: Any, code: int, words: str) -> None:
        transfer = self._in_flight.pop(curl)
        exchange = transfer.conclude(code, words)
        self._multi.remove_handle(curl)
        if transfer.missed_connection and (timeout_ms := _milliseconds_until(transfer.deadline)) > 0:
            transfer.load_again(timeout_ms)
            self._launch(transfer)
            return
        self._concluded.append((transfer.token, exchange))
        self._at_rest.setdefault(transfer.method, []).append(transfer)

    def _set_timer(self, milliseconds: int) -> None:
        self._timer_due_at = None if milliseconds < 0 else monotonic() + milliseconds / 1000

    def _watch(self, what: int, descriptor: int, _multi: object, _data: object) -> None:
        if what == pycurl.POLL_REMOVE:
            if self._watched.pop(descriptor, None) is not None:
                self._selector.unregister(descriptor)
        elif descriptor not in self._watched:
            self._selector.register(descriptor, what, self._act)
            self._watched[descriptor] = what
        elif self._watched[descriptor] != what:
            self._selector.modify(descriptor, what, self._act)
            self._watched[descriptor] = what


def _milliseconds_until(deadline: float) -> int:
    return int((deadline - monotonic()) * 1000)


def _refuse_what_would_break_out(request: Request) -> None:
    text = request.url + "".join(request.headers)
    if not (text.isascii() and text.isprintable()):
        raise Unsendable(
            "The address or a header of the request has a line break or a letter that HTTP does not allow there; "
            "look for it in the event's id."
        )


def default_ca_file() -> str:
    """Find the certificate authorities that this machine trusts.

    The libcurl in pycurl's wheel looks where the distribution that it was built on keeps them, and nowhere else.
    """
    return ssl.get_default_verify_paths().cafile or certifi.where()
