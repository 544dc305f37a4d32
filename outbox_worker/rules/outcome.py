"""What an exchange means: from what was seen on the wire to what we know of the receiver's doings.

A request has one of three fates, and everything here keeps them apart: it was acted upon, it was not, or nobody can
know. Not to know is an outcome of its own (`IN_DOUBT`), never a guess. The table is that of "What an answer means" in
the description of the InBoost interface; where it leaves something open, the reason for the choice stands at its line.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from outbox_worker.records import Evidence, Exchange, Outcome, Purpose

RETRY_AFTER_MAX = timedelta(days=1)
"""A receiver that asks for a longer rest is asked again after a day."""

_UNANSWERED: dict[Evidence, dict[Purpose, Outcome]] = {
    Evidence.NAME_LOOKUP_FAILED: {Purpose.SEND: Outcome.NOT_SENT, Purpose.INQUIRE: Outcome.NOT_SENT},
    Evidence.CONNECT_FAILED: {Purpose.SEND: Outcome.NOT_SENT, Purpose.INQUIRE: Outcome.NOT_SENT},
    Evidence.TLS_FAILED: {Purpose.SEND: Outcome.NOT_SENT, Purpose.INQUIRE: Outcome.NOT_SENT},
    Evidence.NOT_WRITTEN: {Purpose.SEND: Outcome.NOT_SENT, Purpose.INQUIRE: Outcome.NOT_SENT},
    Evidence.NO_ANSWER: {Purpose.SEND: Outcome.IN_DOUBT, Purpose.INQUIRE: Outcome.NO_FINDING},
    Evidence.ANSWER_UNREADABLE: {Purpose.SEND: Outcome.IN_DOUBT, Purpose.INQUIRE: Outcome.NO_FINDING},
}

# What a status means to a request that was to be acted upon. One that is not here leaves doubt: 500, 502, 504 and the
# other 5xx come from servers that may have acted before they failed, 1xx is no answer, 600 and above is not HTTP.
_SENT: dict[int, Outcome] = {
    **dict.fromkeys(range(200, 300), Outcome.ACCEPTED),
    **dict.fromkeys(range(300, 400), Outcome.MISDIRECTED),
    303: Outcome.IN_DOUBT,  # "see other": what a server says once it has acted, to show the result elsewhere
    **dict.fromkeys(range(400, 500), Outcome.REJECTED),
    401: Outcome.CREDENTIALS,
    403: Outcome.CREDENTIALS,
    # The server says that no whole request reached it in time, so it cannot have acted (RFC 9110, 15.5.9). Some send it
    # on an idle connection that they are closing, and it crosses our request.
    408: Outcome.TRY_LATER,
    421: Outcome.MISDIRECTED,  # no server for this address here; a backlog of dead letters would help nobody
    425: Outcome.TRY_LATER,  # refused to act, lest the request be a replay (RFC 8470)
    429: Outcome.TRY_LATER,
    503: Outcome.TRY_LATER,
}

# What a status means to a look-up. One that is not here brings no finding either way.
_INQUIRED: dict[int, Outcome] = {
    200: Outcome.FOUND,
    404: Outcome.NOT_FOUND,
    401: Outcome.CREDENTIALS,
    403: Outcome.CREDENTIALS,
    429: Outcome.TRY_LATER,
    503: Outcome.TRY_LATER,
}

# What becomes of a meaning when the answer was cut off after its status line. A refusal stands: whoever has begun to
# say no does not act afterwards. A yes does not: proxies and streaming servers send "200" before the work behind it is
# done, and a connection that breaks then is just what a crash in the middle of that work looks like. Of a look-up
# neither yes nor no stands, since asking again costs nothing and "it is not there" would send again.
_WHEN_CUT: dict[Outcome, Outcome] = {
    Outcome.ACCEPTED: Outcome.IN_DOUBT,
    Outcome.FOUND: Outcome.NO_FINDING,
    Outcome.NOT_FOUND: Outcome.NO_FINDING,
}


@dataclass(frozen=True, slots=True)
class Meanings:
    """What the statuses of one operation mean beyond the common table."""

    accepted: frozenset[int] | None = None  # None: any 2xx; otherwise a 2xx that is not listed is in doubt
    duplicate: frozenset[int] = frozenset()  # {409} on operations that carry an event id
    unknown_client: frozenset[int] = frozenset()  # {404} on operations that name a client

    def of(self, status: int) -> Outcome | None:
        """Give the operation's own meaning of a status, None where the common table holds."""
        if status in self.duplicate:
            return Outcome.DUPLICATE
        if status in self.unknown_client:
            return Outcome.UNKNOWN_CLIENT
        if self.accepted is None:
            return None
        if status in self.accepted:
            return Outcome.ACCEPTED
        return Outcome.IN_DOUBT if 200 <= status < 300 else None


def classify(exchange: Exchange, purpose: Purpose, meanings: Meanings) -> Outcome:
    """Say what is known after an exchange. `meanings` is of the operation that was sent; a look-up has none."""
    if exchange.evidence in _UNANSWERED or exchange.status is None:
        return _UNANSWERED.get(exchange.evidence, _UNANSWERED[Evidence.ANSWER_UNREADABLE])[purpose]
    if purpose is Purpose.INQUIRE:
        outcome = _INQUIRED.get(exchange.status, Outcome.NO_FINDING)
    else:
        outcome = meanings.of(exchange.status) or _SENT.get(exchange.status, Outcome.IN_DOUBT)
    if exchange.evidence is Evidence.ANSWER_CUT:
        return _WHEN_CUT.get(outcome, outcome)
    return outcome


def retry_after(header: str | None, now: datetime) -> datetime | None:
    """Read a Retry-After header: the instant, at most a day after `now`, before which not to come back.

    `now` is aware. Takes seconds or an HTTP date (RFC 9110, 10.2.3). No header, one that is neither, and one that asks
    for no rest at all, which would have us come back at once for ever, give None: then our own timetable holds.
    """
    instant = _instant(header.strip(), now) if header else None
    return min(instant, now + RETRY_AFTER_MAX) if instant and instant > now else None


def _instant(header: str, now: datetime) -> datetime | None:
    if header.isascii() and header.isdigit():
        # int() and timedelta have limits of their own, and nine digits are thirty years.
        return now + (timedelta(seconds=int(header)) if len(header) <= 9 else RETRY_AFTER_MAX)
    try:
        instant = parsedate_to_datetime(header)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
