"""Reads through requests: one at a time, waited for, and asked again while no answer comes.

What changes nothing at InBoost goes this way, so to ask again is always safe; and what is about a client and not an
event, which is sent once (`send`), its caller knowing what a lost answer means. As on the wire, what was seen is a
value (`records.Exchange`), and what it means is for `rules.outcome` to say. No redirects, no proxy and no credentials
from the environment, no cookies.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import requests
import urllib3
from requests import exceptions as failures

from outbox_worker.errors import Unsendable
from outbox_worker.inboost.wire import default_ca_file
from outbox_worker.records import Evidence, Exchange, Request
from outbox_worker.rules.outcome import retry_after
from outbox_worker.rules.schedule import Timetable

TIMETABLE = Timetable(first=timedelta(seconds=0.5), longest=timedelta(seconds=8), tries_max=4)
REST_MAX = timedelta(seconds=30)  # asked for by InBoost; for a longer one a person's command does not wait
ANSWER_BYTES_MAX = 16 * 1024 * 1024
CHUNK_BYTES = 65_536
PASSING = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Answer:
    """What was seen, and the receiver's clock: its `Date`, to the second, if it sent one."""

    exchange: Exchange
    date: datetime | None = None


class Client:
    """A session with InBoost's portal. `pause` waits between tries, whose number and times the timetable says."""

    def __init__(
        self,
        *,
        connect_timeout: timedelta,
        request_timeout: timedelta,
        ca_file: Path | None = None,
        timetable: Timetable = TIMETABLE,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connect_s, self._request_s = connect_timeout.total_seconds(), request_timeout.total_seconds()
        self._timetable = timetable
        self._pause = pause
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = str(ca_file or default_ca_file())
        self._session.headers.clear()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def read(self, request: Request) -> Answer:
        """Ask, and ask again while nothing but a passing trouble is answered; return the last answer.

        Raises Unsendable for what is not a GET.
        """
        if request.method != "GET":
            raise Unsendable(f"a {request.method} is no reading, and is not sent this way")
        try_number = 1
        while True:
            answer = self._ask(request)
            if not _is_passing(answer.exchange) or self._timetable.is_spent(try_number):
                return answer
            wait = _asked_rest(answer.exchange) or self._timetable.wait(try_number, random.random())  # noqa: S311
            if wait > REST_MAX:
                return answer
            self._pause(wait.total_seconds())
            try_number += 1

    def send(self, request: Request) -> Exchange:
        """Send a request that changes something, once."""
        return self._ask(request).exchange

    def _ask(self, request: Request) -> Answer:
        began_s = time.monotonic()
        status: int | None = None
        date: datetime | None = None
        try:
            with self._session.request(
                request.method,
                request.url,
                data=request.body or None,
                headers=dict(line.split(": ", 1) for line in request.headers),
                timeout=(self._connect_s, self._request_s),
                allow_redirects=False,
                stream=True,
            ) as response:
                status, date = response.status_code, _instant(response.headers.get("Date"))
                body = self._body_of(response, began_s + self._request_s)
                exchange = Exchange(
                    Evidence.ANSWERED, status, response.headers.get("Retry-After"), body, "", _took_us(began_s)
                )
        except failures.RequestException as error:
            evidence = _evidence_of(error) if status is None else Evidence.ANSWER_CUT
            exchange = Exchange(evidence, status, None, b"", _words_of(error), _took_us(began_s))
        return Answer(exchange, date)

    def _body_of(self, response: requests.Response, deadline_s: float) -> bytes:
        """Read the body. Raises requests' own errors when it takes too long or has no end."""
        chunks: list[bytes] = []
        left = ANSWER_BYTES_MAX
        for chunk in response.iter_content(CHUNK_BYTES):
            left -= len(chunk)
            if left < 0 or time.monotonic() > deadline_s:
                raise failures.ChunkedEncodingError("the answer has no end")
            chunks.append(chunk)
        return b"".join(chunks)


def unresolved(url: str) -> str | None:
    """Return why the host of an address cannot be found, None if it can. Nothing is sent there."""
    parts = urlsplit(url)
    try:
        socket.getaddrinfo(parts.hostname, parts.port or parts.scheme, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return f"{parts.hostname}: {getattr(error, 'strerror', None) or error}"
    return None


def _is_passing(exchange: Exchange) -> bool:
    return exchange.evidence is not Evidence.ANSWERED or exchange.status in PASSING


def _asked_rest(exchange: Exchange) -> timedelta | None:
    now = datetime.now(UTC)
    until = retry_after(exchange.retry_after, now)
    return until - now if until else None


def _instant(header: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(header) if header else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found and (found if found.tzinfo else found.replace(tzinfo=UTC))


def _took_us(began_s: float) -> int:
    return round((time.monotonic() - began_s) * 1e6)


def _evidence_of(error: failures.RequestException) -> Evidence:
    """Tell how far it came. For a reading it matters to people only."""
    if isinstance(error, failures.SSLError):
        return Evidence.TLS_FAILED
    reason = _reason_of(error)
    if isinstance(reason, urllib3.exceptions.NameResolutionError):
        return Evidence.NAME_LOOKUP_FAILED
    if isinstance(error, failures.ConnectTimeout) or isinstance(reason, urllib3.exceptions.NewConnectionError):
        return Evidence.CONNECT_FAILED
    if isinstance(error, failures.Timeout | failures.ConnectionError):
        return Evidence.NO_ANSWER
    return Evidence.ANSWER_UNREADABLE


def _words_of(error: failures.RequestException) -> str:
    """Say what happened without the address, which has a customer's phone in it."""
    reason = _reason_of(error)
    if isinstance(error, failures.Timeout):
        return "no answer in time"
    return f"{type(reason or error).__name__}: {str(reason or error).rpartition(': ')[2]}"[:300]


def _reason_of(error: failures.RequestException) -> BaseException | None:
    cause = error.args[0] if error.args else None
    return getattr(cause, "reason", None) or (cause if isinstance(cause, BaseException) else None)
