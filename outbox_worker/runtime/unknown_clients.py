"""Adding clients to InBoost that it does not know, for the deliveries that wait for them (unknown_client = "create").

    customers that wait ──▶ add_client ──added, or there already──▶ their deliveries go on
                                 └──────no answer, or a refusal───▶ they wait on

What a crash leaves: before the request, nothing. After it, a client that InBoost knows, and deliveries that still wait:
the next run adds it again, hears that its phone is taken, and lets them go on. So nobody is added twice.
The relay has no part in it. The customer sync links the client when InBoost lists it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

import structlog

from outbox_worker.database import customers, mapping_keys, settlement, unknown_clients
from outbox_worker.database.customers import CustomerStatus
from outbox_worker.database.engine import engine, explained, transaction
from outbox_worker.errors import ConfigurationError
from outbox_worker.inboost.client import Client
from outbox_worker.inboost.profile import Profile
from outbox_worker.records import Outcome, Purpose
from outbox_worker.rules.outcome import classify
from outbox_worker.rules.phones import normalise
from outbox_worker.runtime.links import LinkTerms

BATCH = 100  # customers in one run
REFUSED_S = 3600.0  # until a client that InBoost refused is tried again

_THERE = frozenset({Outcome.ACCEPTED, Outcome.DUPLICATE})
_log = structlog.get_logger("outbox_worker.rounds")


class UnknownClients:
    """Adds clients that deliveries wait for. Keeps in memory only whom InBoost refused."""

    def __init__(self, conninfo: str, profile: Profile, make_client: Callable[[], Client], terms: LinkTerms) -> None:
        self._engine = engine(conninfo, application_name="outbox-worker unknown clients")
        self._profile = profile
        self._make_client = make_client
        self._terms = terms
        self._refused_until_s: dict[str, float] = {}

    def run_once(self, stopping: Callable[[], bool] = lambda: False) -> Mapping[str, int]:
        """Add those that are waited for now; return how many were added, and how many deliveries go on.

        Raises ConfigurationError where InBoost refuses the token, DatabaseUnavailable, SchemaMismatch.
        """
        counts = {"added_count": 0, "released_count": 0}
        with explained(), self._make_client() as client:
            for it, phone in self._waiting():
                if stopping():
                    break
                outcome = self._add(client, it, phone)
                if outcome in _THERE:
                    counts["added_count"] += outcome is Outcome.ACCEPTED
                    counts["released_count"] += self._release(it.customer_id)
                elif outcome is Outcome.REJECTED:
                    self._refused_until_s[it.customer_id] = monotonic() + REFUSED_S
                else:
                    break  # InBoost is in trouble, and the next run tries again
        return {name: number for name, number in counts.items() if number}

    def _waiting(self) -> list[tuple[CustomerStatus, str]]:
        """Return customers with the phone that their events have, where accounting has no other one by now."""
        with transaction(self._engine) as connection:
            if not unknown_clients.is_open(connection):
                return []
            phones = unknown_clients.waiting(connection, BATCH)
            found = customers.of_ids(connection, mapping_keys.read(connection), list(phones)) if phones else []
        region = self._profile.phone_region
        asked = [(it, normalise(phones[it.customer_id], region)) for it in found]
        return [
            (it, phone)
            for it, phone in asked
            if phone is not None
            and normalise(it.phone, region) == phone
            and monotonic() > self._refused_until_s.get(it.customer_id, 0.0)
        ]

    def _add(self, client: Client, it: CustomerStatus, phone: str) -> Outcome:
        names = ("first_name", "last_name", "email", "birth_date", "source", "specialty")
        values: dict[str, Any] = {name: getattr(it, name) or None for name in names}
        exchange = client.send(self._profile.call("add_client", {"phone": phone} | values))
        outcome = classify(exchange, Purpose.SEND, self._profile.operations["add_client"].meanings)
        reason = exchange.error or f"answered {exchange.status}"
        log = _log.info if outcome in _THERE else _log.warning
        log("client added", customer_id=it.customer_id, phone=phone, outcome=outcome, reason=reason)
        if outcome is Outcome.CREDENTIALS:
            raise ConfigurationError(f"InBoost refuses the token ({exchange.status}): set [inboost] token anew")
        return outcome

    def _release(self, customer_id: str) -> int:
        with transaction(self._engine) as connection:
            since = settlement.window_start(connection, self._terms.time_zone, self._terms.history_months)
            released, _ = settlement.release(connection, [customer_id], since, self._terms.blocking)
        return released
