"""`outbox-worker completion`: the shell completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM = "outbox-worker"
VARIABLE = "_OUTBOX_WORKER_COMPLETE"  # that click looks for when the shell asks


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what has a shell complete commands and options.

    \b
      bash   outbox-worker completion bash > /etc/bash_completion.d/outbox-worker
      zsh    outbox-worker completion zsh > "${fpath[1]}/_outbox-worker"
      fish   outbox-worker completion fish > ~/.config/fish/completions/outbox-worker.fish
    """
    kind = get_completion_class(shell)
    if kind is not None:  # never None: the choice above names those that click has
        click.echo(kind(click.get_current_context().find_root().command, {}, PROGRAM, VARIABLE).source())
