"""What the outbox says is delivered, held against what InBoost says it has. Tells, and changes nothing.

    receipts of the window ──look up──▶ there: well     not there, asked twice: lost at InBoost
    held and in doubt ───────look up──▶ there or not: so that a person can confirm it, or have it sent again

Only what has a look-up can be asked for; a hook cannot. No transaction is open while InBoost is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from outbox_worker.database import receipts
from outbox_worker.database.engine import engine, explained, transaction
from outbox_worker.database.receipts import DELIVERED, Entry
from outbox_worker.database.reconciliation import Window
from outbox_worker.errors import InBoostUnavailable, Unsendable
from outbox_worker.inboost.client import Client
from outbox_worker.inboost.profile import Profile
from outbox_worker.records import Claim, Exchange, Outcome, Purpose
from outbox_worker.rules.outcome import Meanings, classify

PAGE_MAX = 1000
SILENCES_MAX = 3  # look-ups in a row without a finding, each tried several times, after which InBoost counts as down
NO_MEANINGS = Meanings()


@dataclass(frozen=True, slots=True)
class Finding:
    """What InBoost said of an entry: found, not_found, or no_finding with the reason."""

    entry: Entry
    outcome: Outcome
    reason: str = ""


@dataclass(slots=True)
class Compared:
    """What came of a comparison. `lost` are delivered and not there; `doubts` are held or in doubt, with what was said.

    `unanswered` are those of which nothing could be learned.
    """

    asked_count: int = 0
    found_count: int = 0
    lost: list[Finding] = field(default_factory=list)
    doubts: list[Finding] = field(default_factory=list)
    unanswered: list[Finding] = field(default_factory=list)


class Pace:
    """Keeps requests at least `1 / rate` seconds apart."""

    def __init__(
        self,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._apart_s = 1 / rate
        self._clock, self._pause = clock, pause
        self._next_s = 0.0

    def keep(self) -> None:
        """Wait until the next request may leave."""
        now_s = self._clock()
        if now_s < self._next_s:
            self._pause(self._next_s - now_s)
        self._next_s = max(now_s, self._next_s) + self._apart_s


class Comparison:
    """Asks InBoost, one look-up at a time at the given pace; `observe` is told of each entry that was asked for."""

    def __init__(
        self,
        conninfo: str,
        profile: Profile,
        client: Client,
        pace: Pace,
        observe: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine(conninfo, application_name="outbox-worker reconcile")
        self._profile, self._client, self._pace, self._observe = profile, client, pace, observe
        self._operations = [name for name in profile.deliveries if self._has_look_up(name)]
        self._silences = 0

    def run(self, window: Window) -> Compared:
        """Compare what was recorded in the window, and all that is in doubt.

        Raises InBoostUnavailable when it refuses the token or says nothing time after time.
        """
        result = Compared()
        missed = []
        for entry in self._entries(window):
            finding = self._ask(entry)
            result.asked_count += 1
            self._observe()
            if finding.outcome is Outcome.NO_FINDING:
                result.unanswered.append(finding)
            elif entry.state != DELIVERED:
                result.doubts.append(finding)
            elif finding.outcome is Outcome.FOUND:
                result.found_count += 1
            else:
                missed.append(entry)
        for entry in missed:  # asked again when all others have been: it may have come late
            self._conclude_missed(self._ask(entry), result)
        return result

    def count(self, window: Window) -> int:
        """Count what will be asked for."""
        with explained(), transaction(self._engine) as connection:
            return receipts.count(connection, self._operations, window)

    def _conclude_missed(self, finding: Finding, result: Compared) -> None:
        if finding.outcome is Outcome.FOUND:
            result.found_count += 1
        elif finding.outcome is Outcome.NOT_FOUND:
            result.lost.append(finding)
        else:
            result.unanswered.append(finding)

    def _has_look_up(self, name: str) -> bool:
        look_up = self._profile.operations[name].look_up
        return bool(look_up) and self._profile.operations[look_up].enabled

    def _entries(self, window: Window) -> Iterator[Entry]:
        yield from self._paged(partial(receipts.delivered, operations=self._operations, window=window))
        yield from self._paged(partial(receipts.doubtful, operations=self._operations))

    def _paged(self, read: Callable[..., Sequence[Entry]]) -> Iterator[Entry]:
        after = 0
        while True:
            with explained(), transaction(self._engine) as connection:
                page = read(connection, after=after, count_max=PAGE_MAX)
            yield from page
            if len(page) < PAGE_MAX:
                return
            after = page[-1].number

    def _ask(self, entry: Entry) -> Finding:
        try:
            request = self._profile.request(_inquiry(entry), datetime.now(UTC))
        except Unsendable as error:
            return Finding(entry, Outcome.NO_FINDING, str(error))
        self._pace.keep()
        exchange = self._client.read(request).exchange
        outcome = classify(exchange, Purpose.INQUIRE, NO_MEANINGS)
        if outcome in (Outcome.FOUND, Outcome.NOT_FOUND):
            self._silences = 0
            return Finding(entry, outcome)
        self._heed_silence(outcome, exchange)
        return Finding(entry, Outcome.NO_FINDING, _reason(exchange))

    def _heed_silence(self, outcome: Outcome, exchange: Exchange) -> None:
        """Give up where going on would bring nothing."""
        if outcome is Outcome.CREDENTIALS:
            raise InBoostUnavailable(
                f"InBoost refuses the token ({_reason(exchange)}); put the right one into [inboost] token"
            )
        self._silences += 1
        if self._silences >= SILENCES_MAX:
            raise InBoostUnavailable(
                f"InBoost did not answer {SILENCES_MAX} look-ups in a row, the last one: {_reason(exchange)}"
            )


def _inquiry(entry: Entry) -> Claim:
    """Make the look-up that would settle a doubt about an entry. Nothing is claimed by it."""
    return Claim(
        claim_id=0,
        lane=0,
        delivery_id=0,
        number=1,
        purpose=Purpose.INQUIRE,
        event_id=entry.event_id,
        operation=entry.operation,
        destination=entry.destination,
        payload=entry.payload,
        occurred_at=entry.occurred_at,
        recorded_at=entry.recorded_at,
        tries=0,
        misses=0,
    )


def _reason(exchange: Exchange) -> str:
    return f"answered {exchange.status}" if exchange.status is not None else exchange.error or exchange.evidence
