"""`outbox-worker customers`: what is known of one, the sync with InBoost, and what it could not store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from outbox_worker import configuration, logs
from outbox_worker.cli import conflicts, options, output
from outbox_worker.cli.masking import Screen
from outbox_worker.configuration import Configuration
from outbox_worker.configuration.customers import listing, sync_terms
from outbox_worker.database import customers as database
from outbox_worker.database import mapping_keys
from outbox_worker.database.customers import CustomerStatus, Kept
from outbox_worker.database.engine import session
from outbox_worker.database.sync_record import Counts, SyncRun
from outbox_worker.errors import NothingMatched
from outbox_worker.rules.matching import Create, Decision, Store
from outbox_worker.rules.phones import normalise
from outbox_worker.runtime.customer_sync import sync as sync_now
from outbox_worker.runtime.sync_plan import Plan, plan

SYNC_EPILOG = """\b
Exit status: 0 all was read; 1 it stopped, and says what a person must look at;
3 a sync is running already; 69 the database or InBoost cannot be reached: what
was read is stored, and the next run goes on there; 78 settings or schema.

\b
--json gives one object: dry_run; sync_run_id, begun_at, ended_at, since,
watermark, counts (page_count, read_count, created_count, changed_count,
linked_count, history_count, balance_count, released_count, expired_count),
unstored (kind: count). With --dry-run: dry_run, customer_count, read_count,
counts (create, change, link, keep, and what could not be stored by kind),
examples (by the same words: client_id, phone, customer_id, changes, reason).
"""

SHOW_EPILOG = """\b
Exit status: 0, or 1 if nothing is known of it.

\b
--json gives one object: customers: of each customer_id, phone, phone_e164,
email, first_name, last_name, birth_date, source, specialty, changed_at, link
(null, or customer_id, client_id, phone, updated_at, remark, linked_at,
stored_at, history_sent_at, balance_sent_at, released_at); unstored: as
`customers conflicts list` has it.
"""

COUNTED = {
    "read_count": "clients read",
    "created_count": "customers created",
    "changed_count": "customers changed",
    "linked_count": "links made",
    "history_count": "purchases sent as history",
    "balance_count": "balances sent",
    "released_count": "deliveries released that had waited for their client",
    "expired_count": "deliveries closed that had waited too long",
}
PLANNED = {
    "create": "would be created",
    "change": "would be changed",
    "link": "would be linked as they are",
    "keep": "are linked, and nothing changes",
}


@click.group()
def customers() -> None:
    """Sync customers with InBoost, show one from both sides, settle what could not be matched."""


customers.add_command(conflicts.conflicts)


@customers.command(epilog=SYNC_EPILOG)
@options.configuration_option
@options.dry_run_option
@click.option("--force", is_flag=True, help="However many customers are created or changed.")
@click.option("--whole", is_flag=True, help="Read all clients, not only those updated since the last run.")
@options.reveal_option
@options.json_option
def sync(configuration_file: Path | None, dry_run: bool, force: bool, whole: bool, reveal: bool, as_json: bool) -> None:
    """Read InBoost's clients now: create, change and link customers, send the history and the balance of new links.

    The daemon does it by itself every so often. What was interrupted is gone on with. With --dry-run nothing is written
    but the directory of accounting's phones.
    """
    settings = configuration.load(configuration_file)
    logs.configure(settings.log.format, "warning")
    if dry_run:
        _tell_plan(settings, whole=whole, screen=Screen(reveals=reveal), as_json=as_json)
        return
    with listing(settings) as source, _progress() as show:
        terms = sync_terms(settings, force=force, whole=whole)
        done = sync_now(settings.database.conninfo, source, terms, progress=lambda counts: show(counts.read_count))
    with session(settings.database.conninfo, "outbox-worker customers") as connection:
        unstored = database.kept_counts(connection)
    if as_json:
        output.emit({"dry_run": False} | _run_as_data(done) | {"unstored": unstored})
    else:
        _show_run(done.counts, unstored)


def _tell_plan(settings: Configuration, *, whole: bool, screen: Screen, as_json: bool) -> None:
    with listing(settings) as source, _progress() as show:
        terms = sync_terms(settings, whole=whole)
        found = plan(settings.database.conninfo, source, terms, progress=lambda it: show(it.read_count))
    if as_json:
        output.emit(_plan_as_data(found, screen))
    else:
        _show_plan(found, screen)


def _show_run(counts: Counts, unstored: Mapping[str, int]) -> None:
    for name, words in COUNTED.items():
        output.show(f"{getattr(counts, name):>9,} {words}")
    for kind, number in unstored.items():
        output.show(f"{number:>9,} not stored: {output.spoken(kind)}")
    if unstored:
        output.show_command("outbox-worker customers conflicts list --all")


def _show_plan(found: Plan, screen: Screen) -> None:
    output.show(f"{found.read_count:>9,} clients read; accounting has {found.customer_count:,} customers")
    for word, number in sorted(found.counts.items()):
        if number:
            output.show(f"{number:>9,} {PLANNED.get(word, f'could not be stored: {output.spoken(word)}')}")
        for client, decision in found.examples.get(word, ()) if word != "keep" else ():
            name = " ".join(filter(None, (client.first_name, client.last_name)))
            phone = conflicts.phone_of(client, screen)
            output.show(f"{phone} {name} {_said(decision, screen)}", indent=12)


def _said(decision: Decision, screen: Screen) -> str:
    if isinstance(decision, Create):
        return ""
    if isinstance(decision, Store):
        return f"→ customer {decision.customer_id}" + (f": {', '.join(decision.changes)}" if decision.changes else "")
    return f": {screen.text(decision.reason)}"


@contextmanager
def _progress() -> Iterator[Any]:
    """Show on a terminal how many clients were read; how many there are InBoost does not say."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.completed:,} clients"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda count: bar.update(task, completed=count)


@customers.command(epilog=SHOW_EPILOG)
@click.argument("word", metavar="PHONE|ID")
@options.configuration_option
@options.reveal_option
@options.json_option
def show(word: str, configuration_file: Path | None, reveal: bool, as_json: bool) -> None:
    """Show a customer: what accounting has, the link with InBoost, what was sent, what could not be stored.

    PHONE is read as accounting's phones are; ID is accounting's or InBoost's.
    """
    settings = configuration.load(configuration_file, to_deliver=False)
    phone = normalise(word, settings.inboost.phone_region)
    with session(settings.database.conninfo, "outbox-worker customers show") as connection:
        found = database.find(connection, mapping_keys.read(connection), word, phone)
        kept = database.kept_of(connection, word, phone)
    screen = Screen(reveals=reveal)
    if as_json:
        output.emit(_as_data(found, kept, screen))
    if not found and not kept:
        raise NothingMatched(
            f"nothing is known of {screen.text(word)}; the directory of phones is as old as the last sync"
        )
    if not as_json:
        for it in found:
            _show_customer(it, screen)
        for unstored in kept:
            conflicts.show_kept(unstored, screen)


def _show_customer(it: CustomerStatus, screen: Screen) -> None:
    name = " ".join(filter(None, (it.first_name, it.last_name)))
    output.show(f"customer {it.customer_id}: {name}")
    output.show(
        f"accounting: phone {conflicts.phone_text(it.phone, screen)}, born {it.birth_date or '?'}, "
        f"source {it.source or '?'}, specialty {it.specialty or '?'}",
        indent=2,
    )
    if it.phone_e164 is None:
        output.show("its phone is not certainly one valid number, so it is nobody at InBoost", indent=2)
    link = it.link
    if link is None:
        output.show("InBoost: not linked", indent=2)
        return
    output.show(
        f"InBoost: client {link.client_id or '(no id)'}, phone {conflicts.phone_text(link.phone, screen)}, "
        f"linked {output.when(link.linked_at)}, stored {output.when(link.stored_at)}",
        indent=2,
    )
    for what, at in (("history", link.history_sent_at), ("balance", link.balance_sent_at)):
        output.show(f"{what}: {f'recorded {output.when(at)}' if at else 'still to be sent'}", indent=2)
    if link.remark:
        output.show(f"not stored: {link.remark}", indent=2)


def _as_data(found: list[CustomerStatus], kept: list[Kept], screen: Screen) -> dict[str, Any]:
    return {
        "customers": [_customer_as_data(it, screen) for it in found],
        "unstored": [conflicts.kept_as_data(it, screen) for it in kept],
    }


def _customer_as_data(it: CustomerStatus, screen: Screen) -> dict[str, Any]:
    data = asdict(it)
    for place in (data, data["link"] or {}):
        for name in ("phone", "phone_e164"):
            if place.get(name):
                place[name] = conflicts.phone_text(place[name], screen)
    return data


def _run_as_data(run: SyncRun) -> dict[str, Any]:
    names = ("sync_run_id", "begun_at", "ended_at", "since", "watermark")
    return {name: getattr(run, name) for name in names} | {"counts": asdict(run.counts)}


def _plan_as_data(found: Plan, screen: Screen) -> dict[str, Any]:
    return {
        "dry_run": True,
        "customer_count": found.customer_count,
        "read_count": found.read_count,
        "counts": dict(found.counts),
        "examples": {
            word: [
                {
                    "client_id": client.client_id,
                    "phone": conflicts.phone_of(client, screen),
                    "customer_id": getattr(decision, "customer_id", None),
                    "changes": sorted(getattr(decision, "changes", ())),
                    "reason": logs.clean(getattr(decision, "reason", "")) or None,
                }
                for client, decision in examples
            ]
            for word, examples in found.examples.items()
        },
    }
