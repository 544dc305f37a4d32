"""`outbox-worker dead-letters`: what InBoost refused."""

from __future__ import annotations

from typing import Any

import click

from outbox_worker.cli import listing, settling, telling
from outbox_worker.cli.settling import EPILOG
from outbox_worker.database.settling import DISCARD, REQUEUE

STATES = REQUEUE.states


@click.group(name="dead-letters")
def dead_letters() -> None:
    """Look at what InBoost refused; send it again once the cause is mended, or give it up."""


@dead_letters.command(name="list", epilog=listing.EPILOG)
@listing.listing_options
def list_(**words: Any) -> None:
    """List dead letters, the oldest first."""
    listing.list_them(STATES, words)


@dead_letters.command()
@telling.showing_options
def show(**words: Any) -> None:
    """Tell why EVENT was refused; as `events show`, of these operations only."""
    telling.show_parts(STATES, **words)


@dead_letters.command(epilog=EPILOG)
@settling.settling_options
def requeue(**words: Any) -> None:
    """Send dead letters again, with the same event ids, by the timetable from its beginning."""
    settling.settle(REQUEUE, STATES, words)


@dead_letters.command(epilog=EPILOG)
@settling.settling_options
def discard(**words: Any) -> None:
    """Give dead letters up: they are never sent again, nor by being recorded again."""
    settling.settle(DISCARD, STATES, words)
