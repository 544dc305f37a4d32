"""The command line as a person meets it: every command explains itself, and a mistake is a sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from outbox_worker import __version__
from outbox_worker.cli import COMMANDS, group


def outbox_worker(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "outbox_worker", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself(name: str) -> None:
    shown = CliRunner().invoke(group, [name, "--help"])
    assert shown.exit_code == 0
    assert "Usage: " in shown.output


HEAVY = {"aiohttp", "phonenumbers", "psycopg", "pycurl", "pydantic", "requests", "rich", "sqlalchemy"}


def loaded_after(code: str) -> set[str]:
    """Return which heavy libraries a process has loaded that has run this."""
    code += "\nimport sys; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return HEAVY & set(ran.stdout.split())


def test_the_list_of_commands_is_shown_without_importing_any_of_them() -> None:
    code = (
        "from click.testing import CliRunner; from outbox_worker.cli import COMMANDS, group\n"
        "shown = CliRunner().invoke(group, ['--help']).output; assert all(name in shown for name in COMMANDS)"
    )
    assert loaded_after(code) == set()


def test_a_shell_is_told_what_commands_there_are_without_importing_any_of_them() -> None:
    code = (
        "from click.shell_completion import ShellComplete; from outbox_worker.cli import COMMANDS, group\n"
        "told = ShellComplete(group, {}, 'outbox-worker', '_X').get_completions([], '')\n"
        "assert {it.value: it.help for it in told} == COMMANDS"
    )
    assert loaded_after(code) == set()


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("run", {"psycopg", "pycurl", "pydantic", "rich"}),
        ("sandbox", {"aiohttp"}),
        ("status", {"psycopg", "pydantic", "rich"}),
        ("web", {"aiohttp", "psycopg", "pydantic", "rich"}),
    ],
)
def test_a_command_loads_what_it_needs_and_no_more(name: str, needed: set[str]) -> None:
    """rich comes with structlog; SQLAlchemy is loaded by the commands that change something, and by rounds."""
    assert loaded_after(f"import outbox_worker.cli.{name}") <= needed


def test_the_version_is_told() -> None:
    assert __version__ in outbox_worker("--version").stdout


def test_an_unknown_command_is_a_usage_error() -> None:
    answer = outbox_worker("deliver")
    assert answer.returncode == 2
    assert "No such command" in answer.stderr


def test_a_missing_configuration_is_a_sentence_and_not_to_be_restarted(tmp_path: Path) -> None:
    answer = outbox_worker("run", "-c", tmp_path / "none.toml")
    assert answer.returncode == 78
    assert "none.toml" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_database_without_the_schema_ends_the_daemon_with_a_sentence_and_no_restart(
    tmp_path: Path, empty_database_url: str
) -> None:
    file = tmp_path / "settings.toml"
    hooks = "\n".join(
        f'[inboost.hooks.{name}]\nurl = "http://127.0.0.1:9/"'
        for name in ("accrual", "redemption", "purchase", "expiry")
    )
    file.write_text(
        f'[database]\nurl = "{empty_database_url}"\n[inboost]\nbase_url = "http://127.0.0.1:9"\ntoken = "t"\n{hooks}\n'
        "[web]\nport = 0\n"
    )
    file.chmod(0o600)
    answer = outbox_worker("run", "-c", file)
    assert answer.returncode == 78
    assert "schema install" in answer.stderr
    assert "Traceback" not in answer.stderr
