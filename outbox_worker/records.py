"""The values that flow through: what is claimed, what is sent, what was seen, what it means, what becomes of it.

    Claim ──render──▶ Request ──transfer──▶ Exchange ──classify──▶ Outcome ──decide──▶ Verdict ──conclude──▶ database

Every value is immutable. No value knows where it came from or goes to. They are msgspec's, as several are made for each
delivery and dataclasses would cost as much as the transfer.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec


class Purpose(StrEnum):
    """Why a delivery was claimed."""

    SEND = "send"
    INQUIRE = "inquire"  # it is in doubt: look it up at InBoost


class OnDoubt(StrEnum):
    """What an operation declares about a delivery that may or may not have been acted upon."""

    RESEND = "resend"  # the receiver deduplicates, or doing it twice is doing it once
    LOOKUP = "lookup"  # InBoost can be asked
    HOLD = "hold"  # only a person can find out


class Claim(msgspec.Struct, frozen=True):
    """A delivery that this worker holds durably and will send (or look up) at once."""

    claim_id: int  # the fence: who takes the claim over gives it another
    lane: int
    delivery_id: int
    number: int  # of this attempt at the delivery, from 1
    purpose: Purpose
    event_id: str
    operation: str
    destination: str
    payload: str  # JSON as the accounting side recorded it; numbers keep their scale
    occurred_at: datetime
    recorded_at: datetime
    tries: int  # earlier attempts that counted against the retry timetable
    misses: int  # look-ups that did not find it, so far
    phone: str | None = None  # E.164, under which InBoost knows the buyer, where the event has contact data


class Request(msgspec.Struct, frozen=True):
    """One HTTP request, ready to leave. `headers` are whole lines, `Name: value`."""

    method: str
    url: str
    headers: tuple[str, ...]
    body: bytes


class Evidence(StrEnum):
    """How far an exchange is known to have come, by what the transfer library saw. Ordered from nothing to all."""

    NAME_LOOKUP_FAILED = "name_lookup_failed"
    CONNECT_FAILED = "connect_failed"  # refused, unreachable, timed out before the connection stood
    TLS_FAILED = "tls_failed"
    NOT_WRITTEN = "not_written"  # the connection stood, and not one byte of the request had been handed to it
    NO_ANSWER = "no_answer"  # written, at least in part; then a reset, a close or silence until the time-out
    ANSWER_UNREADABLE = "answer_unreadable"  # bytes came back that are not HTTP
    ANSWER_CUT = "answer_cut"  # a status line was seen, but the answer ended before its end
    ANSWERED = "answered"  # a whole answer


class Exchange(msgspec.Struct, frozen=True):
    """What was seen of one request on the wire."""

    evidence: Evidence
    status: int | None  # present with ANSWERED and ANSWER_CUT
    retry_after: str | None  # the header as it came
    body: bytes  # of the answer, at most the transfer's limit
    error: str  # the transfer library's words, empty when answered
    took_us: int


class Outcome(StrEnum):
    """What we know after an exchange."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"  # the receiver knew the event id: it has been acted upon before
    NOT_SENT = "not_sent"  # provably never left
    TRY_LATER = "try_later"
    CREDENTIALS = "credentials"
    MISDIRECTED = "misdirected"  # a redirect: the address is not where InBoost is
    UNKNOWN_CLIENT = "unknown_client"
    REJECTED = "rejected"
    IN_DOUBT = "in_doubt"
    FOUND = "found"  # a look-up: InBoost has it
    NOT_FOUND = "not_found"  # a look-up: InBoost does not have it
    NO_FINDING = "no_finding"  # a look-up that brought no answer either way
    UNSENDABLE = "unsendable"  # nothing to send could be made of the event


class Action(StrEnum):
    """What becomes of a delivery."""

    ACKNOWLEDGE = "acknowledge"
    RETRY = "retry"  # pending again, due at `due_at`
    INQUIRE = "inquire"  # in doubt; look it up at `due_at`
    HOLD = "hold"  # in doubt; a person resolves it
    DEAD_LETTER = "dead_letter"
    WAIT_FOR_CLIENT = "wait_for_client"


class Standing(StrEnum):
    """What an exchange says about its destination as a whole."""

    WELL = "well"  # it answers
    ILL = "ill"  # it cannot be reached, or asks to be left alone for a while
    CLOSED = "closed"  # it must be paused until a person acts: credentials refused, or misdirected
    UNSAID = "unsaid"


class Verdict(msgspec.Struct, frozen=True):
    """What becomes of the delivery, and what was learned of its destination.

    `due_at` is set with RETRY and INQUIRE. `counts` says whether the attempt is charged to the retry timetable.
    `rest_s` is for how long the whole destination is to be left alone, where it asked for that.
    """

    action: Action
    due_at: datetime | None = None
    counts: bool = False
    standing: Standing = Standing.UNSAID
    rest_s: float = 0.0
    reason: str = ""


class Conclusion(msgspec.Struct, frozen=True):
    """An attempt that is over, to be written down: the journal row and the delivery's new state."""

    claim: Claim
    outcome: Outcome
    verdict: Verdict
    exchange: Exchange | None  # None when nothing was sent, or the worker that sent it is gone
    digest: bytes | None = None  # SHA-256 of the body that was sent
    excerpt: str | None = None  # the beginning of the answer
    due_in_s: float = 0.0  # from now until the verdict's `due_at`
