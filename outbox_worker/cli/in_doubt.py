"""`outbox-worker in-doubt`: what may have reached InBoost, and may not have."""

from __future__ import annotations

from typing import Any

import click

from outbox_worker.cli import listing, settling, telling
from outbox_worker.cli.settling import EPILOG
from outbox_worker.database.settling import CONFIRM, RESEND

STATES = CONFIRM.states
HELD = ("held",)  # what the relay settles by itself is left to it, unless it is named


@click.group(name="in-doubt")
def in_doubt() -> None:
    """Settle what may have reached InBoost and may not have: held for you, or still being looked up."""


@in_doubt.command(name="list", epilog=listing.EPILOG)
@listing.listing_options
def list_(**words: Any) -> None:
    """List what is held or in doubt, the oldest first."""
    listing.list_them(STATES, words)


@in_doubt.command()
@telling.showing_options
def show(**words: Any) -> None:
    """Tell how EVENT came to be in doubt; as `events show`, of these operations only."""
    telling.show_parts(STATES, **words)


@in_doubt.command(epilog=EPILOG)
@settling.settling_options
def confirm(**words: Any) -> None:
    """Say that a delivery has reached InBoost: it is done, and your word is the receipt.

    Where no EVENT is named, only what is held is meant, not what is still looked up by itself.
    """
    settling.settle(CONFIRM, HELD, words)


@in_doubt.command(epilog=EPILOG)
@settling.settling_options
def resend(**words: Any) -> None:
    """Send a delivery again, because it has not reached InBoost. If it has after all, it is done there twice.

    Where no EVENT is named, only what is held is meant, not what is still looked up by itself.
    """
    settling.settle(RESEND, HELD, words)
