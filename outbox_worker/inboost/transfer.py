"""One transfer through libcurl, from the request to what was seen of it.

**Departure** is the moment when a connection stands and libcurl is about to write the request; PREREQFUNCTION tells.
A transfer that never departed provably sent nothing. One that departed counts as written, unless it went in the clear
and the socket took not one byte of it. (Beneath TLS a record may lie half written in a buffer: there, departed is
written.)

A transfer departs once. Left alone, libcurl sends a request again, silently, when a connection that it had kept alive
dies before any answer, though the receiver may have acted on the first one. Two locks keep it from that, and a test
keeps each of them: a second departure is refused, and a body given through READFUNCTION without a seek function cannot
be read a second time (libcurl's error 65).

What is said of libcurl here was seen with 8.23, the one in the wheel of pycurl 7.49.
"""

from __future__ import annotations

import io
import select
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Generic, TypeVar

import pycurl

from outbox_worker.records import Evidence, Exchange, Request

T = TypeVar("T")
Addresses = tuple[object, ...]  # of the two ends of a connection

ANSWER_BYTES_READ_MAX = 1024 * 1024
"""We hang up on a longer answer: its status line and headers are known, and nobody reads the rest."""

# What libcurl's error says about a transfer that never departed. Any other error, a malformed URL for one, says no
# more than that nothing was written.
_BEFORE_DEPARTURE = {
    pycurl.E_COULDNT_RESOLVE_HOST: Evidence.NAME_LOOKUP_FAILED,
    pycurl.E_COULDNT_CONNECT: Evidence.CONNECT_FAILED,
    pycurl.E_SSL_CONNECT_ERROR: Evidence.TLS_FAILED,
    pycurl.E_PEER_FAILED_VERIFICATION: Evidence.TLS_FAILED,
    pycurl.E_SSL_CACERT_BADFILE: Evidence.TLS_FAILED,
    pycurl.E_SSL_CERTPROBLEM: Evidence.TLS_FAILED,
    pycurl.E_SSL_CIPHER: Evidence.TLS_FAILED,
    pycurl.E_SSL_CRL_BADFILE: Evidence.TLS_FAILED,
    pycurl.E_SSL_ISSUER_ERROR: Evidence.TLS_FAILED,
    pycurl.E_SSL_INVALIDCERTSTATUS: Evidence.TLS_FAILED,
    pycurl.E_SSL_PINNEDPUBKEYNOTMATCH: Evidence.TLS_FAILED,
}

# Errors that come at any stage of a connection: how far it had come tells which stage failed.
_AT_ANY_STAGE = {pycurl.E_OPERATION_TIMEDOUT, pycurl.E_SEND_ERROR, pycurl.E_RECV_ERROR}

# What libcurl says of bytes that are not HTTP when it cannot make out a status.
_UNREADABLE = {
    pycurl.E_UNSUPPORTED_PROTOCOL,  # no "HTTP/" at all (HTTP/0.9 is refused), or a version that it does not speak
    8,  # CURLE_WEIRD_SERVER_REPLY; pycurl's name for it speaks of FTP
    100,  # CURLE_TOO_LARGE, a line without end; pycurl has no name for it
}

_EMPTY_LINES = {b"\r\n", b"\n"}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the transfers of a wire have in common, in libcurl's units."""

    connect_timeout_ms: int
    idle_connection_age_s: int
    answer_bytes_max: int
    verify: bool
    ca_file: str


class KeptConnections:
    """Looks whether a connection that is kept alive has ended.

    libcurl looks too, but from 8.22 on only once a second. Into a connection that ended within that second it writes
    the request, and there is doubt about a request that need never have been; and what a receiver had said unasked
    before it hung up, a late "408" say, it takes for the answer. Both were seen.
    """

    def __init__(self) -> None:
        self._addresses: dict[int, Addresses] = {}  # by descriptor
        self._in_use: set[Addresses] = set()
        self._ended: set[Addresses] | None = None
        self._epoll = select.epoll()

    def take_time(self) -> None:
        """Time has passed: what is known of connections that ended is old."""
        self._ended = None

    def depart(self, addresses: Addresses) -> bool:
        """Use the connection between these two ends, unless it has ended; say whether it is used.

        All connections are looked at together, so that many departures at once cost one look.
        """
        if self._ended is None:
            self._ended = self._look()
        if addresses in self._ended:
            return False
        self._in_use.add(addresses)
        return True

    def rest(self, descriptor: int, addresses: Addresses) -> None:
        """A request is over; its connection is kept alive, or not: then the descriptor is -1."""
        self._in_use.discard(addresses)
        if descriptor < 0 or self._addresses.get(descriptor) == addresses:
            return
        self._addresses[descriptor] = addresses
        with suppress(FileExistsError):  # the same connection seen from another address, or not closed in our sight
            self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLRDHUP)

    def close(self) -> None:
        """Look no more."""
        self._epoll.close()

    def _look(self) -> set[Addresses]:
        """Return where there is anything to read, which before a request can only be an end or out of turn."""
        readable = {self._addresses[descriptor] for descriptor, _ in self._epoll.poll(0)}
        return readable - self._in_use


class Transfer(Generic[T]):
    """A handle of libcurl, set up once for one method and used for one request after another."""

    __slots__ = (
        "_addresses",
        "_answer_bytes_max",
        "_body",
        "_body_bytes",
        "_departed",
        "_header_lines",
        "_kept_connections",
        "_secure",
        "_url",
        "curl",
        "deadline",
        "method",
        "missed_connection",
        "token",
    )

    token: T

    def __init__(self, method: str, settings: Settings, kept_connections: KeptConnections) -> None:
        self.method = method
        self.deadline = 0.0
        self.missed_connection = False
        self._kept_connections = kept_connections
        self._addresses: Addresses = ()
        self._answer_bytes_max = settings.answer_bytes_max
        self._header_lines: list[bytes] = []
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._departed = False
        self._secure = False
        self._url = ""
        self.curl = pycurl.Curl()
        self._set_up(settings)

    def _set_up(self, settings: Settings) -> None:
        for option, value in (
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.HTTP09_ALLOWED, 0),
            (pycurl.FOLLOWLOCATION, 0),
            (pycurl.PROXY, ""),  # the empty name also keeps libcurl from obeying http_proxy and its kin
            (pycurl.NETRC, pycurl.NETRC_IGNORED),
            (pycurl.USERAGENT, ""),  # pycurl brings one of its own; here headers are the caller's
            (pycurl.PATH_AS_IS, 1),
            (pycurl.NOSIGNAL, 1),
            (pycurl.TCP_NODELAY, 1),
            (pycurl.CONNECTTIMEOUT_MS, settings.connect_timeout_ms),
            (pycurl.MAXAGE_CONN, settings.idle_connection_age_s),
            (pycurl.SSL_VERIFYPEER, int(settings.verify)),
            (pycurl.SSL_VERIFYHOST, 2 if settings.verify else 0),
            (pycurl.CAINFO, settings.ca_file),
            (pycurl.PREREQFUNCTION, self._depart),
            (pycurl.HEADERFUNCTION, self._header_lines.append),
            (pycurl.WRITEFUNCTION, self._take_body),
        ):
            self.curl.setopt(option, value)
        if self.method == "GET":
            self.curl.setopt(pycurl.HTTPGET, 1)
        else:
            # "Upload" is libcurl's word for a body of known size that it reads as it goes. It serves every method,
            # and unlike its POST it brings no Content-Type.
            self.curl.setopt(pycurl.UPLOAD, 1)
            self.curl.setopt(pycurl.CUSTOMREQUEST, self.method)

    def load(self, request: Request, token: T, deadline: float, timeout_ms: int) -> None:
        """Make the handle ready for a request."""
        self.token = token
        self.deadline = deadline
        self._departed = False
        self._addresses = ()
        self._header_lines.clear()
        self._body.clear()
        self._body_bytes = 0
        self.missed_connection = False
        set_option = self.curl.setopt
        if request.url != self._url:
            set_option(pycurl.URL, request.url)
            self._url = request.url
            self._secure = not request.url.startswith("http:")
        set_option(pycurl.HTTPHEADER, (*request.headers, "Expect:"))  # else a long body would wait for "100 Continue"
        set_option(pycurl.TIMEOUT_MS, timeout_ms)
        set_option(pycurl.INFILESIZE_LARGE, len(request.body))
        set_option(pycurl.READFUNCTION, io.BytesIO(request.body).read)

    def load_again(self, timeout_ms: int) -> None:
        """Make the handle ready for the same request once more: it has not departed."""
        self.missed_connection = False
        self.curl.setopt(pycurl.TIMEOUT_MS, timeout_ms)

    def _depart(self, *addresses: object) -> int:
        """Let the request leave: once, by its deadline, and not on a connection that has ended."""
        if self._departed or monotonic() >= self.deadline:
            return int(pycurl.PREREQFUNC_ABORT)
        if not self._kept_connections.depart(addresses):
            self.missed_connection = True
            return int(pycurl.PREREQFUNC_ABORT)  # which has libcurl drop the connection, so that it is met only once
        self._addresses = addresses
        self._departed = True
        return int(pycurl.PREREQFUNC_OK)

    def _take_body(self, chunk: bytes) -> int | None:
        """Keep the beginning of the answer's body, and hang up (0) when it has no end."""
        room = self._answer_bytes_max - self._body_bytes
        if room > 0:
            self._body.append(chunk[:room])
        self._body_bytes += len(chunk)
        return 0 if self._body_bytes > ANSWER_BYTES_READ_MAX else None

    def conclude(self, code: int, words: str) -> Exchange:
        """Say what was seen; `code` and `words` are libcurl's error, 0 and nothing when it has none."""
        took_us: int = self.curl.getinfo(pycurl.TOTAL_TIME_T)
        self._kept_connections.rest(-1 if code else self.curl.getinfo(pycurl.ACTIVESOCKET), self._addresses)
        if not self._departed:
            return _unanswered(self._evidence_of_not_departing(code), code, words, took_us)
        status: int = self.curl.getinfo(pycurl.RESPONSE_CODE)
        if status < 200:  # none, or an informational one, which is not the answer
            return _unanswered(self._evidence_of_no_status(code), code, words, took_us)
        if self._has_whole_answer(code):
            evidence, words = Evidence.ANSWERED, ""
        else:
            evidence, words = Evidence.ANSWER_CUT, words or "the connection closed within the headers"
        retry_after = None if status < 300 else self._retry_after()
        return Exchange(evidence, status, retry_after, b"".join(self._body), words, took_us)

    def _evidence_of_not_departing(self, code: int) -> Evidence:
        if code not in _AT_ANY_STAGE:
            return _BEFORE_DEPARTURE.get(code, Evidence.NOT_WRITTEN)
        if self.curl.getinfo(pycurl.CONN_ID) < 0:  # it waited in vain for one of `connections_max`
            return Evidence.NOT_WRITTEN
        if self.curl.getinfo(pycurl.NAMELOOKUP_TIME_T) == 0:
            return Evidence.NAME_LOOKUP_FAILED
        if self.curl.getinfo(pycurl.CONNECT_TIME_T) == 0:
            return Evidence.CONNECT_FAILED
        if self._secure and self.curl.getinfo(pycurl.APPCONNECT_TIME_T) == 0:
            return Evidence.TLS_FAILED
        return Evidence.NOT_WRITTEN

    def _evidence_of_no_status(self, code: int) -> Evidence:
        if code in _UNREADABLE:
            return Evidence.ANSWER_UNREADABLE
        # REQUEST_SIZE counts the bytes of request line and headers, which go first, as the socket takes them.
        written = self._secure or self.curl.getinfo(pycurl.REQUEST_SIZE) > 0
        return Evidence.NO_ANSWER if written else Evidence.NOT_WRITTEN

    def _has_whole_answer(self, code: int) -> bool:
        if code:
            return self._body_bytes > ANSWER_BYTES_READ_MAX  # it was we who hung up
        # libcurl takes a connection that closes within the headers for a whole answer. Only an empty line ends them.
        return self._header_lines[-1] in _EMPTY_LINES or not _EMPTY_LINES.isdisjoint(self._lines_of_answer())

    def _retry_after(self) -> str | None:
        for line in self._lines_of_answer():
            if line[:12].lower() == b"retry-after:":
                return line[12:].strip().decode("latin-1")
        return None

    def _lines_of_answer(self) -> list[bytes]:
        """Give the header lines after the last status line; those before belong to informational answers."""
        lines = self._header_lines
        starts = [number for number, line in enumerate(lines) if line.startswith(b"HTTP/")]
        return lines[starts[-1] + 1 :] if starts else lines


def _unanswered(evidence: Evidence, code: int, words: str, took_us: int) -> Exchange:
    if code == pycurl.E_ABORTED_BY_CALLBACK:
        words = "kept from departing: after its deadline, or a second time on another connection"
    return Exchange(evidence, None, None, b"", words or f"libcurl's error {code}", took_us)
