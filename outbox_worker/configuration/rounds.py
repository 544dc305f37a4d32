"""From settings to the rounds: the one place where they are put together.

The relay is put together in `assembly`; that its process imports none of this is what lets it start in half the time.
"""

from __future__ import annotations

from datetime import timedelta
from threading import Event

from outbox_worker.configuration.customers import (
    can_list,
    creates_clients,
    customer_sync_round,
    link_terms,
    unknown_clients_round,
)
from outbox_worker.configuration.model import Configuration
from outbox_worker.rules.timetable import Daily, Every
from outbox_worker.runtime.expiry_notice import ExpiryNotice
from outbox_worker.runtime.housekeeping import Housekeeping
from outbox_worker.runtime.identification import Identification, IdentificationTerms
from outbox_worker.runtime.reconciliation import reconciliation_round
from outbox_worker.runtime.rounds import Round

ADD_CLIENTS_EVERY = timedelta(seconds=20)
ASKS_INBOOST = frozenset({"client_creation", "customer_sync"})
"""Rounds that need the portal's token; the others are about the database."""


def rounds_of(configuration: Configuration) -> list[Round]:
    """Put the rounds together that are switched on; nothing is connected yet."""
    rounds, conninfo = configuration.rounds, configuration.database.conninfo
    found = []
    if rounds.customer_sync.enabled and can_list(configuration):
        found.append(Round("customer_sync", Every(rounds.customer_sync.interval), customer_sync_round(configuration)))
    if creates_clients(configuration):
        found.append(Round("client_creation", Every(ADD_CLIENTS_EVERY), unknown_clients_round(configuration)))
    if rounds.reconciliation.enabled:
        run = reconciliation_round(conninfo, rounds.reconciliation.window)
        found.append(Round("reconciliation", Every(rounds.reconciliation.interval), run))
    if rounds.expiry_notice.enabled and configuration.inboost.applied_operations()["expiry_webhook"].enabled:
        daily = Daily(rounds.expiry_notice.at, rounds.time_zone)
        found.append(Round("expiry_notice", daily, expiry_notice(configuration)))
    if rounds.housekeeping.enabled:
        daily = Daily(rounds.housekeeping.at, rounds.time_zone)
        found.append(Round("housekeeping", daily, Housekeeping(conninfo, rounds.housekeeping.keep)))
    return found if rounds.enabled else []


def identification(configuration: Configuration, stop: Event) -> Identification:
    """Return what finds out whose orders with contact data are."""
    terms = IdentificationTerms(configuration.inboost.phone_region, link_terms(configuration))
    return Identification(configuration.database.conninfo, terms, stop)


def expiry_notice(configuration: Configuration) -> ExpiryNotice:
    """Return what makes expiry notices."""
    rounds, region = configuration.rounds, configuration.inboost.phone_region
    conninfo, days = configuration.database.conninfo, rounds.expiry_notice.horizon_days
    return ExpiryNotice(conninfo, rounds.time_zone, days, region)
