"""`outbox-worker contacts`: which contact details belong to one customer, and what people say about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from outbox_worker import configuration
from outbox_worker.cli import authorship, options, output
from outbox_worker.configuration import Configuration
from outbox_worker.database import addressees
from outbox_worker.database import contacts as database
from outbox_worker.database.contacts import Contact
from outbox_worker.database.engine import session
from outbox_worker.errors import NothingMatched
from outbox_worker.rules.phones import mask

EPILOG = """\b
Exit status: 0, or 1 if there is none.

\b
--json gives {"contacts": [...]}, the primary first, of each: contact_id,
email, phone_number, linked_id, created_at, deleted_at, orders (events that were
made with it; twenty in all).
"""
CHANGE_EPILOG = """\b
Exit status: 0 done, 1 there is no such contact or it cannot leave, 2 usage.

\b
--json gives one object: act, dry_run, contact_ids.
"""
ERASE_EPILOG = """\b
Exit status: 0 done, 1 there is no such customer, 2 usage, 3 something is being
sent (nothing was changed: give the command again).

\b
--json gives one object: act, dry_run, contact_ids, event_ids (emptied of
contact data), shared_ids (taken off their lists of phones), customer_ids
(accounting's, of these events), dropped_count (deliveries that will not be
made; null with --dry-run).
"""

ORDERS_SHOWN = 20  # of all contacts together, the newest by their names

who_options = options.together(
    click.argument("contact_id", metavar="[CONTACT]", type=int, required=False),
    click.option("--email", metavar="ADDRESS", help="The customer with this e-mail address."),
    click.option("--phone", metavar="NUMBER", help="The customer with this phone, in any spelling."),
)
act_options = options.together(
    options.configuration_option,
    options.reason_option,
    options.actor_option,
    options.dry_run_option,
    options.json_option,
)


@click.group()
def contacts() -> None:
    """Show which contact details belong to one customer; link, unlink, erase."""


@contacts.command(epilog=EPILOG)
@who_options
@options.configuration_option
@options.reveal_option
@options.json_option
def show(
    *,
    contact_id: int | None,
    email: str | None,
    phone: str | None,
    configuration_file: Path | None,
    reveal: bool,
    as_json: bool,
) -> None:
    """Show all contacts of the customer who has this one: by its id, an e-mail address or a phone."""
    settings = configuration.load(configuration_file, to_deliver=False)
    found = _found(settings, contact_id, email, phone)
    with session(settings.database.conninfo, "outbox-worker contacts") as connection:
        orders = addressees.of_contacts(connection, [it.contact_id for it in found], ORDERS_SHOWN)
    screen = Person(reveals=reveal)
    if as_json:
        output.emit({"contacts": [screen.data(it) | {"orders": orders.get(it.contact_id, [])} for it in found]})
        return
    for it in found:
        output.show(screen.line(it))
        if it.contact_id in orders:
            output.show(f"orders: {', '.join(orders[it.contact_id])}", indent=4)


@contacts.command(epilog=CHANGE_EPILOG)
@click.argument("one", metavar="CONTACT", type=int)
@click.argument("other", metavar="CONTACT", type=int)
@act_options
def link(*, one: int, other: int, **words: Any) -> None:
    """Say that two contacts are the same customer's. Their clusters become one; the older primary stays."""
    _change("link", "linked", database.link, (one, other), **words)


@contacts.command(epilog=CHANGE_EPILOG)
@click.argument("contact_id", metavar="CONTACT", type=int)
@act_options
def unlink(*, contact_id: int, **words: Any) -> None:
    """Say that a contact is another customer's than the rest of its cluster.

    It leaves with what only it has; what it shares with those who stay, stays with them. Whoever gives a detail of both
    again joins them again.
    """
    _change("unlink", "unlinked", database.unlink, (contact_id,), **words)


def _change(
    act: str,
    done: str,
    change: Any,
    contact_ids: tuple[int, ...],
    *,
    configuration_file: Path | None,
    reason: str | None,
    actor: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    by = authorship.instruction(actor, reason or ("dry run" if dry_run else None), dry_run=dry_run)
    settings = configuration.load(configuration_file, to_deliver=False)
    with session(settings.database.conninfo, f"outbox-worker contacts {act}") as connection:
        change(connection, *contact_ids, by)
        if dry_run:  # it was tried, so what cannot be done is told, and taken back
            connection.rollback()
    named = " and ".join(map(str, contact_ids))
    if as_json:
        output.emit({"act": act, "dry_run": dry_run, "contact_ids": contact_ids})
    else:
        output.show(f"{named} would be {done}" if dry_run else f"{named} {done}")


@contacts.command(epilog=ERASE_EPILOG)
@who_options
@act_options
@options.yes_option
def erase(
    *,
    contact_id: int | None,
    email: str | None,
    phone: str | None,
    configuration_file: Path | None,
    reason: str | None,
    actor: str | None,
    dry_run: bool,
    is_sure: bool,
    as_json: bool,
) -> None:
    """Forget a customer: e-mail addresses and phones go from contacts, events and the journal of attempts.

    They go from the customer sync's links and directory too. What keeps facts from being sent twice stays: event ids,
    amounts, receipts. Deliveries that are not made yet are dropped. Erase the customer in accounting and at InBoost
    first: what they tell again is taken for new.
    """
    by = authorship.instruction(actor, reason, dry_run=dry_run)
    settings = configuration.load(configuration_file, to_deliver=False)
    region = settings.inboost.phone_region
    found = _found(settings, contact_id, email, phone)
    if not dry_run:
        options.confirm_many(f"Erase {output.counted(len(found), 'contact')}?", 2, is_sure=is_sure)
    dropped_count = None
    with session(settings.database.conninfo, "outbox-worker contacts erase") as connection:
        if not dry_run:
            database.begin_erasure(connection)
            found = database.cluster(connection, contact_id=found[0].contact_id, region=region)
        traces = database.traces(connection, found, region)
        customer_ids = database.customers_of(connection, traces.event_ids)
        if not dry_run:
            dropped_count = database.erase(connection, found, traces, by)
    if as_json:
        told = {"contact_ids": [it.contact_id for it in found], "event_ids": traces.event_ids}
        rest = {"shared_ids": traces.shared_ids, "customer_ids": customer_ids, "dropped_count": dropped_count}
        output.emit({"act": "erase", "dry_run": dry_run} | told | rest)
        return
    would = "would be " if dry_run else ""
    output.show(f"{output.counted(len(found), 'contact')} {would}erased")
    output.show(f"{output.counted(len(traces.event_ids), 'event')} {would}emptied of contact data")
    output.show(f"{output.counted(len(traces.shared_ids), 'list')} of phones {would}shortened")
    if dropped_count:
        output.show(f"{output.counted(dropped_count, 'delivery', 'deliveries')} dropped")
    if customer_ids:
        output.show(f"accounting knows them as customer {', '.join(customer_ids)}")


def _found(settings: Configuration, contact_id: int | None, email: str | None, phone: str | None) -> list[Contact]:
    if sum(it is not None for it in (contact_id, email, phone)) != 1:
        raise click.UsageError("Name one of: a contact's id, --email, --phone.")
    with session(settings.database.conninfo, "outbox-worker contacts") as connection:
        found = database.cluster(
            connection, contact_id=contact_id, email=email, phone=phone, region=settings.inboost.phone_region
        )
    if not found:
        raise NothingMatched("no contact is known by that")
    return found


class Person:
    """What an operator may see of a contact: masked, unless --reveal was said."""

    def __init__(self, *, reveals: bool) -> None:
        self._reveals = reveals

    def data(self, contact: Contact) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "contact_id": contact.contact_id,
            "email": self._email(contact.email),
            "phone_number": self._phone(contact.phone_number),
            "linked_id": contact.linked_id,
            "created_at": contact.created_at,
            "deleted_at": contact.deleted_at,
        }

    def line(self, contact: Contact) -> Text:
        """Return it for people."""
        details: Sequence[str] = [it for it in (self._email(contact.email), self._phone(contact.phone_number)) if it]
        role = "primary" if contact.linked_id is None else "secondary"
        gone = f", deleted {output.when(contact.deleted_at)}" if contact.deleted_at else ""
        since = f"since {output.when(contact.created_at)}{gone}"
        return Text.assemble((str(contact.contact_id), "bold"), f" {role} {', '.join(details) or 'erased'} {since}")

    def _phone(self, phone: str | None) -> str | None:
        return None if phone is None else phone if self._reveals else mask(phone)

    def _email(self, email: str | None) -> str | None:
        if email is None or self._reveals:
            return email
        name, at, host = email.partition("@")
        return f"{name[:1]}***{at}{host}"
