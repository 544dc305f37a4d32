"""The world of the demo: everything that a company would have, started in order and stopped in the opposite one.

    PostgreSQL ── accounting, outbox ──▶ the worker ──HTTP──▶ the sandbox
         ▲ role shop: accounting only        ▲ role worker: member of outbox_worker, nothing else

Each has its own process. Whatever ends this one, the others end too, and their directories are removed.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import requests
from psycopg import sql

from outbox_worker.database import schema
from outbox_worker.demo.control import Control
from outbox_worker.demo.postgres import PostgresServer, embedded_directory
from outbox_worker.demo.processes import Processes

DATABASE = "accounting"
TOKEN = "sandbox-token"  # noqa: S105  # the sandbox's default, for a sandbox that lives a minute on the loopback
HOOKS = ("accrual", "redemption", "purchase", "expiry")

_ROLES = """
    create role shop login password {shop};
    grant usage on schema accounting to shop;
    grant select, insert, update on all tables in schema accounting to shop;
    create role worker login password {worker} in role outbox_worker;
"""

# Waits are short, so that doubts settle while somebody is looking: a look-up waits for the request time-out.
_CONFIGURATION = """\
[database]
url = "{database}"

[inboost]
base_url = "{inboost}"
token = "{token}"
request_timeout = 2
connect_timeout = 1

{hooks}
[relay]
poll_interval = 1

[retry]
first = 0.1
longest = 2

# The judge knows what the shop sold, and nothing of what comes round by the clock. Orders are identified all the same.
[rounds]
customer_sync.enabled = false
reconciliation.enabled = false
expiry_notice.enabled = false
housekeeping.enabled = false

[web]
port = 0

[log]
format = "json"
"""
_HOOK = """\
[inboost.hooks.{name}]
url = "{inboost}/api/webhok/{name}/"
receiver_deduplicates = true
"""


@dataclass(frozen=True, slots=True)
class World:
    """Where everything is. Each database URL is one role's, password included."""

    owner_url: str
    shop_url: str
    worker_url: str
    processes: Processes
    control: Control
    configuration_file: Path
    monitoring_url: str

    @property
    def psql(self) -> str:
        """A command line to look into the database."""
        return f"{embedded_directory() / 'psql'} {self.owner_url}"


@contextmanager
def world(faults: Sequence[str], seed: int, *, deduplicate: bool = True) -> Iterator[World]:
    """Start it all, and stop it at the end of the block.

    `deduplicate=False` makes InBoost act again on an event id that it had, although the hooks are declared otherwise.
    Raises DatabaseUnavailable where no PostgreSQL can be run.
    """
    with ExitStack() as stack:
        server = stack.enter_context(PostgresServer(durable=True))
        passwords = _install(server)
        processes = stack.enter_context(Processes())
        control = Control(_start_sandbox(processes, faults, seed, deduplicate=deduplicate))
        stack.callback(control.close)
        worker_url = _url(server, "worker", passwords)
        file = _write_configuration(processes.directory, worker_url, control.url)
        yield World(
            owner_url=server.url(DATABASE),
            shop_url=_url(server, "shop", passwords),
            worker_url=worker_url,
            processes=processes,
            control=control,
            configuration_file=file,
            monitoring_url=_start_worker(processes, file),
        )


def _install(server: PostgresServer) -> dict[str, str]:
    """Make the database, the schemas and the two roles; return the roles' passwords."""
    passwords = {"shop": secrets.token_hex(16), "worker": secrets.token_hex(16)}
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(DATABASE)))
    with psycopg.connect(server.url(DATABASE), autocommit=True) as connection:
        schema.install(connection)
        schema.install_reference(connection)
        literals = {role: sql.Literal(password) for role, password in passwords.items()}
        connection.execute(sql.SQL(_ROLES).format(**literals))
    return passwords


def _url(server: PostgresServer, role: str, passwords: dict[str, str]) -> str:
    return f"postgresql://{role}:{passwords[role]}@{server.host}:{server.port}/{DATABASE}"


def _start_sandbox(processes: Processes, faults: Sequence[str], seed: int, *, deduplicate: bool) -> str:
    port_file = processes.directory / "sandbox.port"
    options = [f"--port-file={port_file}", "--port=0", f"--token={TOKEN}", f"--seed={seed}"]
    options += [f"--fault={fault}" for fault in faults]
    options += [] if deduplicate else ["--no-deduplicate=*"]
    processes.start("sandbox", "sandbox", *options)
    processes.wait_until(port_file.exists, "InBoost's stand-in")
    return f"http://127.0.0.1:{port_file.read_text().strip()}"


def _write_configuration(directory: Path, database: str, inboost: str) -> Path:
    hooks = "\n".join(_HOOK.format(name=name, inboost=inboost) for name in HOOKS)
    file = directory / "outbox-worker.toml"
    file.touch(mode=0o600)
    file.write_text(_CONFIGURATION.format(database=database, inboost=inboost, token=TOKEN, hooks=hooks))
    return file


def _start_worker(processes: Processes, configuration_file: Path) -> str:
    """Start the worker; return the address of its metrics once it is ready to deliver."""
    processes.start("worker", "run", f"--configuration={configuration_file}")
    found: list[str] = []

    def is_ready() -> bool:
        if not found:
            found.extend(_monitoring_urls(processes.log("worker")))
        return bool(found) and _answers(f"{found[0]}/health/ready")

    processes.wait_until(is_ready, "the worker")
    return found[0]


def _monitoring_urls(log: Path) -> Iterator[str]:
    """Find what the worker said when it started. The newest line may be half written."""
    for line in log.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError, TypeError, KeyError):
            yield json.loads(line)["monitoring"]


def _answers(url: str) -> bool:
    with suppress(requests.ConnectionError), requests.Session() as session:
        session.trust_env = False
        return session.get(url, timeout=5).ok
    return False


def last_error(world: World) -> str:
    """Return what the worker complained of last, for the one who waited in vain."""
    lines = world.processes.log("worker").read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line for line in reversed(lines) if '"level":"error"' in line), "nothing")


def describe(world: World) -> list[tuple[str, str]]:
    """Say how to look at a world that is kept running."""
    return [
        ("database", world.psql),
        ("metrics", f"{world.monitoring_url}/metrics"),
        ("InBoost", f"{world.control.url}/sandbox/summary"),
        ("worker's log", str(world.processes.log("worker"))),
        ("status", f"outbox-worker status -c {world.configuration_file}"),
    ]
