"""Who has something done, and why: what a command that changes something writes down with it."""

from __future__ import annotations

import getpass
import os
import socket

import click

from outbox_worker.database.acts import Instruction


def instruction(actor: str | None, reason: str | None, *, dry_run: bool) -> Instruction:
    """Return who has something done and why; a missing reason is a usage error, but for a dry run."""
    said = (reason or "").strip()
    if not said and not dry_run:
        raise click.UsageError("--reason is missing: say why; it is recorded with your name.")
    return Instruction((actor or "").strip() or _somebody(), said)


def _somebody() -> str:
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (OSError, KeyError):  # a container's user that has no name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"
