"""`outbox-worker expiry`: who would be told that bonuses will expire, and telling them now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from outbox_worker import configuration
from outbox_worker.cli import authorship, options, output
from outbox_worker.configuration import Configuration
from outbox_worker.configuration.rounds import expiry_notice
from outbox_worker.database.acts import Instruction
from outbox_worker.database.engine import session
from outbox_worker.errors import ConfigurationError, NothingMatched
from outbox_worker.rules.phones import mask
from outbox_worker.runtime.expiry_notice import ExpiryNotice, Told

EPILOG = """\b
Exit status: 0; 1 if there is nobody to be told; 2 usage.

\b
--json gives one object: event_id (null: nobody is to be told), expires_before,
phone_count, lot_count, unusable_phone_count, phones (--limit of them).
"""


@click.group()
def expiry() -> None:
    """Show whose bonuses will expire and who was not told of it; tell them now.

    The round expiry_notice does it once a day; `outbox-worker rounds list` shows when.
    """


@expiry.command(epilog=EPILOG)
@options.configuration_option
@options.limit_option
@options.reveal_option
@options.json_option
def preview(configuration_file: Path | None, **shown: Any) -> None:
    """Show who would be told now. Nothing is recorded, nothing is sent."""
    settings = configuration.load(configuration_file, to_deliver=False)
    _show(_checked(settings).preview(), done="would tell", **shown)


@expiry.command(epilog=EPILOG)
@options.configuration_option
@click.option("--again", "event_id", metavar="EVENT", help="The notice EVENT, which was discarded, with its own list.")
@options.reason_option
@options.actor_option
@options.dry_run_option
@options.limit_option
@options.reveal_option
@options.json_option
def send(
    configuration_file: Path | None,
    event_id: str | None,
    reason: str | None,
    actor: str | None,
    dry_run: bool,
    **shown: Any,
) -> None:
    """Tell those now who were not told yet, beside the notice of the day. Nobody is told twice of the same bonuses.

    Who was to be told by a notice that became a dead letter and was discarded is told by --again.
    """
    by = authorship.instruction(actor, reason, dry_run=dry_run)
    settings = configuration.load(configuration_file, to_deliver=False)
    if not settings.inboost.applied_operations()["expiry_webhook"].enabled:
        raise ConfigurationError(
            "[inboost.operations.expiry_webhook] enabled is false, so that nobody would be told; switch it on first"
        )
    _show(
        _send(_checked(settings), None if dry_run else by, event_id), done="would tell" if dry_run else "told", **shown
    )


def _send(notices: ExpiryNotice, by: Instruction | None, event_id: str | None) -> Told:
    """Make a notice; only show it where there is no instruction."""
    if event_id is None:
        return notices.preview() if by is None else notices.send(by)
    return notices.preview_again(event_id) if by is None else notices.send_again(by, event_id)


def _checked(settings: Configuration) -> ExpiryNotice:
    with session(settings.database.conninfo, "outbox-worker expiry"):
        pass  # refuses a schema that is not ours
    return expiry_notice(settings)


def _show(told: Told, *, done: str, limit: int, reveal: bool, as_json: bool) -> None:
    found = told.notice
    phones = [phone if reveal else mask(phone) for phone in found.phones[:limit]]
    if as_json:
        output.emit(
            {
                "event_id": told.event_id,
                "expires_before": told.horizon.expires_before,
                "phone_count": len(found.phones),
                "lot_count": len(found.lots),
                "unusable_phone_count": len(found.unusable_lots),
                "phones": phones,
            }
        )
    if told.event_id is None:
        but = output.counted(len(found.unusable_lots), "lot") + " of customers without a usable phone"
        raise NothingMatched(
            f"nobody is to be told of bonuses that expire before {told.horizon.expires_before}"
            + f", but for {but}" * bool(found.unusable_lots)
        )
    if not as_json:
        people, lots = output.counted(len(found.phones), "person", "people"), output.counted(len(found.lots), "lot")
        what = f"{people} of {lots}" if found.lots else f"{people} again"
        output.show(f"{done} {what}, expiring before {told.horizon.expires_before}: {told.event_id}")
        for phone in phones:
            output.show(phone, indent=2)
        if len(found.phones) > limit:
            output.show(f"… and {len(found.phones) - limit:,} more: --limit", indent=2)
        if found.unusable_lots:
            lots = output.counted(len(found.unusable_lots), "lot belongs", "lots belong")
            output.show(f"{lots} to customers without a usable phone; they are told once it is mended.")
