"""`outbox-worker configuration`: whether the settings would do, what they are, and where each comes from."""

from __future__ import annotations

from pathlib import Path

import click

from outbox_worker import configuration as settings_of
from outbox_worker.cli import output
from outbox_worker.cli.masking import encoded
from outbox_worker.cli.options import configuration_option, json_option


@click.group()
def configuration() -> None:
    """Check the settings, show them, print the example in which each is explained.

    Settings come from a TOML file, from the environment (OUTBOX_WORKER__RELAY__SLOTS=32) and from files with secrets;
    the environment wins.
    """


@configuration.command()
@configuration_option
def check(configuration_file: Path | None) -> None:
    """Tell whether `run` would take the settings. Exit status 78, and every mistake at once, if not.

    Connects to nothing; `outbox-worker doctor` does.
    """
    settings = settings_of.load(configuration_file)
    for warning in settings.warnings:
        output.show(f"warning: {warning}")
    output.show(f"The settings would do: deliver from {settings.database.server} to {settings.inboost.base_url}.")


@configuration.command()
@configuration_option
@json_option
def show(configuration_file: Path | None, as_json: bool) -> None:
    """Show every setting as it holds, and where it comes from: a file, a variable, or the default.

    Secrets are hidden, and so is the last part of a hook's address. Durations are in seconds.
    """
    found = settings_of.explained(configuration_file)
    if as_json:
        output.emit([it._asdict() for it in found])
    else:
        output.show_table(
            ["setting", "value", "from"],
            [[it.name, "" if it.value is None else encoded(it.value), it.origin] for it in found],
        )


@configuration.command()
def example() -> None:
    """Print the configuration file in which every setting is explained, to begin with."""
    click.echo(settings_of.example(), nl=False)
