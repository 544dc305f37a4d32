"""What new links owe: history, then the balance, then the release of what waited; some customers at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from outbox_worker import logs
from outbox_worker.database import settlement as database
from outbox_worker.database.mapping_keys import MappingKeys
from outbox_worker.database.sync_record import Counts
from outbox_worker.database.sync_session import SyncSession
from outbox_worker.errors import OutboxWorkerError, Unrecordable
from outbox_worker.runtime.reconciliation import outlasts_recorders

BATCH = 100  # customers in one transaction

_log = structlog.get_logger("outbox_worker.rounds")


@dataclass(frozen=True, slots=True)
class LinkTerms:
    """The purchases of so many months are history, by the shop's calendar. `blocking` states hold up a lane."""

    time_zone: str
    history_months: int
    blocking: Sequence[str]


class _Overtaken(OutboxWorkerError):
    """A balance has changed while it was recorded."""


class Settler:
    """Settles links. What cannot be settled now is left for the next run, and not tried again in this one."""

    def __init__(
        self,
        session: SyncSession,
        keys: MappingKeys,
        terms: LinkTerms,
        go_on: Callable[[], None],
        add: Callable[[Any, Counts], None],
    ) -> None:
        self._session = session
        self._keys = keys
        self._terms = terms
        self._go_on = go_on
        self._add = add  # counts in the transaction that does it
        self._since = session.call(database.window_start, terms.time_zone, terms.history_months)
        self._left: set[str] = set()
        self._leaves_balances = False

    def settle(self, *, look: bool) -> None:
        """Settle all links that owe something; `look`: also those whose customers have deliveries that still wait."""
        if look:
            self._session.call(database.look_for_waiting)
        after = ""
        while customer_ids := self._session.call(database.unsettled, after, BATCH):
            self._go_on()
            after = customer_ids[-1]
            if due := [it for it in customer_ids if it not in self._left]:
                self._record(self._record_history, due)
                self._try_balances(due)
                self._session.call(self._release, due)

    def _try_balances(self, customer_ids: Sequence[str]) -> None:
        """Record balances, unless somebody keeps us from it, whosever they are: then none of them in this run."""
        if self._leaves_balances:
            return
        try:
            self._record(self._record_balances, customer_ids)
        except database.OthersRecord as error:
            self._leaves_balances = True
            _log.warning("balances not sent", reason=str(error))

    def _record(self, record: Callable[[Any, Sequence[str]], None], customer_ids: Sequence[str]) -> None:
        """Record together, or one by one where together they are refused."""
        try:
            self._session.call(record, customer_ids)
        except (Unrecordable, _Overtaken) as error:
            if len(customer_ids) == 1:
                self._left.add(customer_ids[0])
                _log.warning("link not settled", customer_id=customer_ids[0], reason=logs.clean(str(error)))
                return
            half = len(customer_ids) // 2
            self._record(record, customer_ids[:half])
            self._record(record, customer_ids[half:])

    def _record_history(self, connection: Any, customer_ids: Sequence[str]) -> None:
        count = database.record_history(connection, self._keys, customer_ids, self._since)
        self._add(connection, Counts(history_count=count))

    def _record_balances(self, connection: Any, customer_ids: Sequence[str]) -> None:
        recorded = database.record_balances(connection, self._keys, customer_ids)
        if recorded.new_count and not outlasts_recorders(connection):
            raise database.OthersRecord("a transaction of accounting has been open for long; the next run tries again")
        if recorded.new_count and database.changed_count(connection, self._keys, recorded):
            raise _Overtaken("the balance is being changed at this moment; the next run tries again")
        self._add(connection, Counts(balance_count=recorded.new_count))

    def _release(self, connection: Any, customer_ids: Sequence[str]) -> None:
        released, expired = database.release(connection, customer_ids, self._since, self._terms.blocking)
        self._add(connection, Counts(released_count=released, expired_count=expired))
