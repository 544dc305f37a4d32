"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

configuration_option = click.option(
    "--configuration",
    "-c",
    "configuration_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The TOML file [default: $OUTBOX_WORKER_CONFIGURATION, else /etc/outbox-worker/outbox-worker.toml].",
)
