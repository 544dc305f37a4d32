"""The command line: one module per noun, imported only when its command is called, so that each starts fast."""

from __future__ import annotations

import sys
from importlib import import_module

import click
from click.shell_completion import CompletionItem

from outbox_worker import __version__
from outbox_worker.errors import OutboxWorkerError

COMMANDS = {
    "completion": "Have bash, zsh or fish complete commands and options.",
    "configuration": "The settings: check them, show them with where each comes from, print the example.",
    "contacts": "Which contact details belong to one customer: show, link, unlink, erase.",
    "customers": "Customers on both sides: sync, show, conflicts list, conflicts resolve.",
    "dead-letters": "What InBoost refused: list, show, requeue, discard.",
    "demo": "See the whole job done in a minute: a shop, InBoost's stand-in with faults, the worker, a verdict.",
    "destinations": "Where deliveries go: list, pause, resume.",
    "doctor": "What is wrong: triggers, rights, the mapping, the database, InBoost; each with what to do.",
    "events": "What was recorded and what became of it: show, list, record.",
    "expiry": "Whose bonuses will expire: preview, send.",
    "in-doubt": "What may have reached InBoost and may not: list, show, confirm, resend.",
    "lanes": "Which customers wait, and why: list, release.",
    "monitoring": "Alert rules for Prometheus, a dashboard for Grafana: rules, dashboard.",
    "reconcile": "Record what was never captured; ask InBoost whether it has what was delivered.",
    "rounds": "Work that comes every so often: list, run, pause, resume.",
    "run": "Deliver: the daemon.",
    "sandbox": "A stand-in for InBoost over real HTTP, with a ledger and faults that can be switched on.",
    "schema": "Install, upgrade, uninstall or print the database side.",
    "web": "Serve POST /identify: which contact details belong to one customer.",
    "status": "What waits, what is in doubt, what a person must look at.",
    "systemd": "Print the units and what belongs to them.",
}


class Commands(click.Group):
    """Finds a command in the module of its name, hyphens being underscores there."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"{__name__}.{module}"), module)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # The texts stand in COMMANDS, so that --help imports none of the modules.
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # click's own would import the module of each command that could be meant, to ask it for its help.
        meant = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=COMMANDS[name]) for name in meant), *options]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="outbox-worker")
def group() -> None:
    """Deliver what the accounting database records to InBoost, exactly once in effect, in order per customer."""


def main() -> None:
    """Run a command; show a person's mistake as a sentence, never as a trace back."""
    try:
        group(prog_name="outbox-worker")
    except OutboxWorkerError as error:
        click.echo(f"outbox-worker: {error}", err=True)
        sys.exit(error.exit_status)
