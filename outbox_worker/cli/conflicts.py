"""`outbox-worker customers conflicts`: clients of InBoost that need a person to say whose they are."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from outbox_worker import configuration
from outbox_worker.cli import authorship, options, output
from outbox_worker.cli.masking import Screen
from outbox_worker.configuration.customers import sync_terms
from outbox_worker.database import customers as database
from outbox_worker.database import mapping_keys
from outbox_worker.database.acts import Instruction
from outbox_worker.database.customers import CustomerStatus, Kept
from outbox_worker.database.engine import session
from outbox_worker.errors import NothingMatched
from outbox_worker.rules.clients import Client
from outbox_worker.rules.phones import mask
from outbox_worker.runtime.customer_sync import retry

LIST_EPILOG = """\b
Exit status: 0, or 1 if there is none.

\b
--json gives {"unstored": [...]}, of each: number, kind, reason, customer_ids
(who it may be), found_at, decision, decided_customer_id, client (null, or
client_id, phone, first_name, last_name, birth_date, source, specialty,
updated_at, remarks).
"""

EPILOG = """\b
Exit status: 0 done; 1 there is none of that number, or it could still not be
stored; 2 usage; 3 a sync is running, which will store it.

\b
--json gives one object: act, dry_run, number, decision (customer, ignore),
customer_id, is_stored.
"""


@click.group()
def conflicts() -> None:
    """List clients that could not be stored, and resolve those that need a person."""


@conflicts.command(name="list", epilog=LIST_EPILOG)
@options.configuration_option
@click.option("--all", "everything", is_flag=True, help="Also what accounting refused, has no phone, or is decided.")
@options.limit_option
@options.reveal_option
@options.json_option
def list_(configuration_file: Path | None, everything: bool, limit: int, reveal: bool, as_json: bool) -> None:
    """List them with both sides and the commands that settle them. Each run tries again by itself."""
    settings = configuration.load(configuration_file, to_deliver=False)
    screen = Screen(reveals=reveal)
    with session(settings.database.conninfo, "outbox-worker customers conflicts") as connection:
        found = database.kept(connection, conflicts_only=not everything, everything=everything, count_max=limit)
        keys = mapping_keys.read(connection)
        sides = {it: database.find(connection, keys, it, None) for kept in found for it in kept.customer_ids}
    if as_json:
        output.emit({"unstored": [kept_as_data(it, screen) for it in found]})
    if not found:
        raise NothingMatched("there is none")
    for it in found if not as_json else ():
        show_kept(it, screen)
        for customer_id in it.customer_ids:
            for side in sides[customer_id]:
                output.show(_side(side, screen), indent=4)


@conflicts.command(epilog=EPILOG)
@click.argument("number", type=click.IntRange(1))
@options.configuration_option
@click.option("--customer", "customer_id", metavar="ID", help="It is this customer of accounting.")
@click.option("--ignore", "is_ignored", is_flag=True, help="Let it be, until InBoost says something else of it.")
@options.reason_option
@options.actor_option
@options.dry_run_option
@options.json_option
def resolve(
    number: int,
    configuration_file: Path | None,
    customer_id: str | None,
    is_ignored: bool,
    reason: str | None,
    actor: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Say whose a client is, and have it stored at once; or let it be.

    What the customer, or the client, was linked with before, it is not any more.
    """
    by = authorship.instruction(actor, reason, dry_run=dry_run)
    if (customer_id is None) != is_ignored:
        raise click.UsageError("Say --customer ID, or --ignore.")
    settings = configuration.load(configuration_file, to_deliver=False)
    conninfo = settings.database.conninfo
    _decide(conninfo, number, customer_id, by, dry_run=dry_run)
    is_stored = False
    if not dry_run and customer_id is not None:
        retry(conninfo, sync_terms(settings, force=True))
        with session(conninfo, "outbox-worker customers conflicts") as connection:
            is_stored = database.take(connection, number) is None
    said = {"number": number, "decision": "ignore" if is_ignored else "customer", "customer_id": customer_id}
    if as_json:
        output.emit({"act": "resolve", "dry_run": dry_run} | said | {"is_stored": is_stored})
    else:
        output.show(_told(number, customer_id, dry_run=dry_run, is_stored=is_stored))
    if not dry_run and customer_id is not None and not is_stored:
        raise NothingMatched(f"{number} could not be stored; `outbox-worker customers conflicts list --all` tells why")


def _decide(conninfo: str, number: int, customer_id: str | None, by: Instruction, *, dry_run: bool) -> None:
    with session(conninfo, "outbox-worker customers conflicts") as connection:
        found = database.take(connection, number)
        if found is None:
            raise NothingMatched(f"there is no {number}; it may have been stored meanwhile")
        if customer_id is not None and (found.client is None or found.client.phone is None):
            raise NothingMatched(f"{number} has no phone to be linked by; it can only be let be")
        if customer_id is not None and not database.is_customer(connection, customer_id):
            raise NothingMatched(f"accounting has no customer {customer_id}, as far as the last sync knows")
        if not dry_run:
            database.decide(connection, found, customer_id, by)


def _told(number: int, customer_id: str | None, *, dry_run: bool, is_stored: bool) -> str:
    what = "let be" if customer_id is None else f"linked with customer {customer_id}"
    if dry_run:
        return f"{number} would be {what}"
    return f"{number} is {what}" if is_stored or customer_id is None else f"{number} is decided, and not yet stored"


def show_kept(it: Kept, screen: Screen) -> None:
    """Write a client that could not be stored, for people."""
    decided = f"; decided: {it.decision} {it.decided_customer_id or ''}".rstrip() if it.decision else ""
    output.show(f"{it.number} {output.spoken(it.kind)}: {screen.text(it.reason)}{decided}")
    if it.client is not None:
        name = " ".join(filter(None, (it.client.first_name, it.client.last_name)))
        output.show(
            f"InBoost: client {it.client.client_id or '(no id)'}, {phone_of(it.client, screen)} {name}", indent=4
        )
    for customer_id in it.customer_ids if it.decision is None else ():
        output.show_command(
            f"outbox-worker customers conflicts resolve {it.number} --customer {customer_id} --reason '…'", indent=4
        )


def _side(it: CustomerStatus, screen: Screen) -> str:
    name = " ".join(filter(None, (it.first_name, it.last_name)))
    linked = f"linked with client {it.link.client_id or '(no id)'}" if it.link else "not linked"
    return f"accounting: customer {it.customer_id}, {phone_text(it.phone, screen)} {name}, {linked}"


def phone_of(client: Client, screen: Screen) -> str:
    """Return a client's phone as it may be shown."""
    return phone_text(client.phone or client.spelled, screen)


def phone_text(phone: str | None, screen: Screen) -> str:
    """Return a phone as it may be shown."""
    return "(no phone)" if not phone else phone if screen.reveals else mask(phone)


def kept_as_data(it: Kept, screen: Screen) -> dict[str, Any]:
    """Return a client that could not be stored, for JSON."""
    data = asdict(it) | {"reason": screen.text(it.reason)}
    if it.client is not None:
        names = ("client_id", "first_name", "last_name", "birth_date", "source", "specialty", "updated_at", "remarks")
        data["client"] = {"phone": phone_of(it.client, screen)} | {name: getattr(it.client, name) for name in names}
    return data
