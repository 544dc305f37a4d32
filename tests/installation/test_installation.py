"""Installing on a clean machine by the README's own words: its commands are taken out of it and given in their order.

What stands for the machine: a directory for its root, `systemctl.py` for a systemd that does not run here, the checkout
for the package index, a script for the person at the editor.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import requests
from psycopg import sql

from outbox_worker.database import schema
from outbox_worker.demo.postgres import PostgresServer, embedded_directory
from outbox_worker.demo.sandbox import SandboxServer, Settings
from tests.conftest import BIN_DIRECTORY
from tests.scenarios.waiting import until
from tests.sql.till import add_customer, sell

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PASSWORD, TOKEN = "swordfish-of-the-worker", "sandbox-token"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(os.geteuid() != 0, reason="systemd-sysusers --root wants root"),
    pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not on this machine"),
]


def commands(heading: str) -> str:
    """Return the commands that stand below a heading."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## )", README, re.MULTILINE | re.DOTALL)
    return "\n".join(re.findall(r"^ *```sh\n(.*?)^ *```", section, re.MULTILINE | re.DOTALL))


class Machine:
    """A machine on which nothing of ours is installed, with a database server that has an accounting system."""

    def __init__(self, directory: Path, database: PostgresServer, inboost: SandboxServer) -> None:
        self.root = directory / "root"
        self.database = database
        self._tools = directory / "tools"
        self._prepare(inboost)

    def _prepare(self, inboost: SandboxServer) -> None:
        for name in (
            "opt",
            "etc/sysusers.d",
            "etc/tmpfiles.d",
            "etc/systemd/system",
            "etc/prometheus",
            "usr/local/bin",
        ):
            (self.root / name).mkdir(parents=True)
        self._tools.mkdir()
        stand_in = Path(__file__).with_name("systemctl.py")
        self._tool("systemctl", f'exec {sys.executable} {stand_in} {self.root} "$@"')
        for name in ("systemd-sysusers", "systemd-tmpfiles"):
            self._tool(name, f'exec {shutil.which(name)} --root={self.root} "$@"')
        url = self.database.url("accounting").replace(f":{self.database.password}@", "@")
        edits = {
            '"postgresql://outbox_worker@localhost/accounting"': json.dumps(url.replace("postgres@", "shop_outbox@")),
            "https://portal.inboost.ai": inboost.url,
            "#port = 9464": "port = 0",
        }
        self._tool("editor", "sed -i " + " ".join(f"-e 's|{was}|{now}|'" for was, now in edits.items()) + ' "$1"')

    def _tool(self, name: str, body: str) -> None:
        (self._tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (self._tools / name).chmod(0o755)

    def give(self, script: str) -> subprocess.CompletedProcess[str]:
        """Give commands, each of which must succeed, in a shell of this machine."""
        local = re.sub(r"(?<![\w/])/(opt|etc|usr/local)/", rf"{self.root}/\1/", script)
        local = re.sub(r"pip install (--upgrade )?outbox-worker", rf"pip install -q \1{ROOT}", local)
        programs = [self.root / "usr/local/bin", self._tools, Path(BIN_DIRECTORY or embedded_directory())]
        environment = {
            "PATH": ":".join([*map(str, programs), os.environ["PATH"]]),
            "HOME": str(self.root),
            "EDITOR": "editor",
            "ADMINISTRATOR": self.database.url("accounting"),
            "PASSWORD": PASSWORD,
            "TOKEN": TOKEN,
            "OUTBOX_WORKER_CONFIGURATION": f"{self.root}/etc/outbox-worker/outbox-worker.toml",
            **{name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HTTPS_"))},
        }
        given = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", local],
            cwd=self.root, env=environment, capture_output=True, text=True, timeout=400, check=False,
        )  # fmt: skip
        assert given.returncode == 0, given.stdout[-3000:] + given.stderr[-3000:]
        return given

    @property
    def journal(self) -> str:
        return (self.root / "run" / "outbox-worker" / "journal").read_text()


@pytest.fixture
def machine(own_server: PostgresServer, tmp_path: Path) -> Iterator[Machine]:
    with psycopg.connect(own_server.url(), autocommit=True) as session:
        session.execute("create database accounting")
    with psycopg.connect(own_server.url("accounting"), autocommit=True) as session, session.transaction():
        session.execute(sql.SQL(schema.script("accounting/reference_schema.sql")))
    with SandboxServer(Settings(any_client=True, seed=1)) as inboost:
        machine = Machine(tmp_path, own_server, inboost)
        shutil.copy(ROOT / "sql" / "accounting" / "reference_mapping.sql", machine.root / "mapping.sql")
        try:
            yield machine
        finally:
            if (machine.root / "run" / "outbox-worker" / "pid").exists():
                machine.give("systemctl stop outbox-worker")


def test_by_the_readmes_words_alone_a_clean_machine_delivers_and_is_watched(machine: Machine) -> None:
    told = machine.give(commands("Install on a server"))
    assert "Traceback" not in told.stdout + told.stderr
    started = next(json.loads(line) for line in machine.journal.splitlines() if '"started"' in line)
    with psycopg.connect(machine.database.url("accounting"), autocommit=True) as till:
        purchase = sell(till, add_customer(till))
    show = f"outbox-worker events show purchase:{purchase} --json"
    until(lambda: '"acknowledge"' in machine.give(show).stdout, "the receipt of a test purchase", 60)
    metrics = requests.get(f"{started['monitoring']}/metrics", timeout=5).text
    assert 'outbox_worker_attempts_total{operation="add_purchase",outcome="accepted"' in metrics
    assert requests.get(f"{started['monitoring']}/health/ready", timeout=5).status_code == 200
    assert PASSWORD not in machine.journal and TOKEN not in machine.journal
    secrets = list((machine.root / "etc" / "outbox-worker").glob("*_*"))
    assert {file.stat().st_mode & 0o777 for file in secrets} == {0o600}
