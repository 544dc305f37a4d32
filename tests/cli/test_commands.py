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


def test_the_list_of_commands_is_shown_without_importing_any_of_them() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from outbox_worker.cli import group\n"
        "print(CliRunner().invoke(group, ['--help']).output)\n"
        "assert not {'psycopg', 'sqlalchemy', 'pycurl', 'aiohttp', 'pydantic'} & set(sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert all(name in shown.stdout for name in COMMANDS)


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
