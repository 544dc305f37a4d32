"""`outbox-worker systemd`: the units, printed to be saved where systemd looks for them."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from outbox_worker.cli.shipped import names, shipped

PLACES = {
    ".service": "/etc/systemd/system/{name}",
    "sysusers.conf": "/etc/sysusers.d/outbox-worker.conf",
    "tmpfiles.conf": "/etc/tmpfiles.d/outbox-worker.conf",
}
PROGRAM = "/opt/outbox-worker/bin/outbox-worker"


@click.command()
@click.argument("name", required=False)
def systemd(name: str | None) -> None:
    """Print a file for systemd, with this program's own path in it; without NAME, list them and where each belongs.

    \b
      outbox-worker systemd outbox-worker.service > /etc/systemd/system/outbox-worker.service
    """
    places = {each: place.format(name=each) for each in names() for end, place in PLACES.items() if each.endswith(end)}
    if name is None:
        for each, place in places.items():
            click.echo(f"{each:30} {place}")
    elif name in places:
        click.echo(shipped(name).replace(PROGRAM, _program()), nl=False)
    else:
        raise click.BadParameter(f"there is no {name}; there are {', '.join(places)}")


def _program() -> str:
    """Return the path of this program where it was installed as one, else that of the units."""
    beside = Path(sys.executable).parent / "outbox-worker"
    return str(beside) if beside.exists() else PROGRAM
