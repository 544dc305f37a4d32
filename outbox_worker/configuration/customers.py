"""From settings to the customer sync: what it reads from, and its terms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

from outbox_worker.configuration.model import Configuration
from outbox_worker.errors import ConfigurationError, RunningElsewhere
from outbox_worker.inboost.client import Client
from outbox_worker.inboost.listing import Listing
from outbox_worker.runtime.customer_sync import Interrupted, SyncTerms, sync
from outbox_worker.runtime.links import LinkTerms
from outbox_worker.runtime.rounds import BrokenOff, Ticking
from outbox_worker.runtime.unknown_clients import UnknownClients


def link_terms(configuration: Configuration) -> LinkTerms:
    """Return what the configuration says of new links."""
    zone, months = configuration.rounds.time_zone.key, configuration.customers.history_months
    return LinkTerms(zone, months, configuration.relay.blocking_states)


def sync_terms(configuration: Configuration, *, force: bool = False, whole: bool = False) -> SyncTerms:
    """Return the terms that the configuration sets."""
    customers = configuration.customers
    return SyncTerms(
        region=configuration.inboost.phone_region,
        winners=customers.winners,
        links=link_terms(configuration),
        page_size=customers.page_size,
        overlap=customers.overlap,
        change_share_max=customers.change_share_max,
        force=force,
        whole=whole,
    )


def can_list(configuration: Configuration) -> bool:
    """Tell whether the settings name a portal and leave its list of clients switched on."""
    return configuration.inboost.base_url is not None and configuration.profile().operations["list_clients"].enabled


@contextmanager
def listing(configuration: Configuration) -> Iterator[Listing]:
    """Open InBoost's list of clients. Raises ConfigurationError where the settings switch it off."""
    if not can_list(configuration):
        raise ConfigurationError(
            "there is no list of clients to read: set [inboost] base_url and token, and leave list_clients in "
            "[inboost.operations] switched on"
        )
    with client_of(configuration) as client:
        yield Listing(client, configuration.profile())


def client_of(configuration: Configuration) -> Client:
    """Open a session with the portal."""
    inboost = configuration.inboost
    return Client(
        connect_timeout=inboost.connect_timeout, request_timeout=inboost.request_timeout, ca_file=inboost.ca_file
    )


def creates_clients(configuration: Configuration) -> bool:
    """Tell whether clients are added to InBoost that it does not know."""
    inboost = configuration.inboost
    is_wanted = configuration.customers.unknown_client == "create" and inboost.base_url is not None
    return is_wanted and configuration.profile().operations["add_client"].enabled


def unknown_clients_round(configuration: Configuration) -> Callable[[Ticking], Mapping[str, int]]:
    """Make the round that adds clients to InBoost for which deliveries wait."""
    unknown = UnknownClients(
        configuration.database.conninfo,
        configuration.profile(),
        lambda: client_of(configuration),
        link_terms(configuration),
    )
    return lambda ticking: unknown.run_once(ticking.stopping)


def customer_sync_round(configuration: Configuration) -> Callable[[Ticking], Mapping[str, int]]:
    """Make the round that syncs customers."""
    conninfo, terms = configuration.database.conninfo, sync_terms(configuration)

    def run(ticking: Ticking) -> Mapping[str, int]:
        try:
            with listing(configuration) as source:
                done = sync(conninfo, source, terms, stopping=ticking.stopping)
        except Interrupted:
            raise BrokenOff from None
        except RunningElsewhere:
            return {"running_elsewhere_count": 1}  # a person's command, which does the same
        return {name: number for name, number in asdict(done.counts).items() if number}

    return run
