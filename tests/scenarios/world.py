"""A world to prove the relay in: an accounting database, InBoost's stand-in, and workers as real processes.

    shop ──facts──▶ database ◀──▶ workers ──HTTP──▶ inboost (a sandbox with faults and a ledger)
                        └──────────── judgement ──────────┘

The workers' database role has what sql/install/rights.sql gives and nothing else; the world itself is superuser.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo

from outbox_worker.demo.sandbox import SandboxServer
from tests.scenarios.shop import Shop
from tests.scenarios.waiting import until
from tests.scenarios.worker import Worker

T = TypeVar("T")
GATE = 0x6761_7465
DOORBELL = 122550254464888  # of sql/install/ring_doorbell.sql
HOOKS = ("accrual", "redemption", "purchase", "expiry")

# Short times, so that a scenario takes seconds; the one declared to deduplicate is the accrual hook.
SETTINGS = {
    "inboost.token": "sandbox-token",
    "inboost.request_timeout": 2,
    "inboost.connect_timeout": 0.5,
    "inboost.hooks.accrual.receiver_deduplicates": True,
    "retry.first": 0.1,
    "retry.longest": 1,
    "web.port": 0,
    "rounds.enabled": False,  # but where a scenario is about them
    "log.format": "json",
}
PATIENT = {"inboost.request_timeout": 30}  # of one that is to be killed, and must not give up first
QUICK = {"inboost.request_timeout": 1}  # of one that comes after it, and takes over soon
DEDUPLICATING = {f"inboost.hooks.{hook}.receiver_deduplicates": True for hook in HOOKS}


class World:
    """Everything of one scenario. `workers` are all that were started, dead ones too."""

    def __init__(
        self, database_url: str, worker_login: dict[str, str], directory: Path, inboost: SandboxServer
    ) -> None:
        self.database_url = database_url
        self.inboost = inboost
        self.workers: list[Worker] = []
        self.shop = Shop(database_url)
        self._directory = directory
        self.worker_url = make_conninfo(database_url, **worker_login)
        self._session = self._connect()

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        self.shop.close()
        self._session.close()

    def reconnect(self) -> None:
        """Come back to a database that was away."""
        self._session.close()
        self._session = self._connect()

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.database_url, autocommit=True, application_name="scenario")

    def until(self, condition: Callable[[], T | None], what: str, within_s: float = 30) -> T:
        """Wait for a condition; in vain at once if a worker ends by itself meanwhile."""

        def look() -> T | None:
            for worker in self.workers:
                worker.assert_well()
            return condition()

        return until(look, what, within_s)

    # Workers

    def start(self, settings: dict[str, Any] | None = None, environment: dict[str, str] | None = None) -> Worker:
        """Start a worker with these settings beside the usual ones, and these variables."""
        name = f"worker-{len(self.workers) + 1}"
        worker = Worker(self.configure(name, settings), self._directory / f"{name}.log", environment)
        self.workers.append(worker)
        return worker

    def configure(self, name: str, settings: dict[str, Any] | None = None) -> Path:
        """Write the configuration of a worker."""
        file = self._directory / f"{name}.toml"
        file.touch(0o600)
        file.write_text(self._configuration(settings or {}))
        return file

    def _configuration(self, settings: dict[str, Any]) -> str:
        addresses: dict[str, Any] = {"database.url": self.worker_url, "inboost.base_url": self.inboost.url}
        addresses |= {f"inboost.hooks.{hook}.url": f"{self.inboost.url}/api/webhok/{hook}/" for hook in HOOKS}
        # TOML's strings, numbers, booleans and lists are those of JSON, and its keys may have dots.
        whole = addresses | SETTINGS | settings
        return "".join(f"{key} = {json.dumps(value)}\n" for key, value in whole.items())

    def until_asleep(self, worker: Worker) -> None:
        """Wait until a worker found nothing to do and holds the doorbell: whatever it could do, it has done."""
        self.until(lambda: self._holds_doorbell(worker), "the worker to fall asleep")

    def until_gone(self, worker: Worker) -> None:
        """Wait until PostgreSQL has heard of a killed worker's death: until then its last statement may commit."""
        self.until(
            lambda: not self.rows("select from pg_stat_activity where application_name = %s", worker.session),
            "the worker's session to end",
        )

    def end_session(self, worker: Worker) -> None:
        """End the worker's session with the database, as an administrator or a fail-over does."""
        self.rows(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = %s", worker.session
        )

    def _holds_doorbell(self, worker: Worker) -> bool:
        return bool(
            self.rows(
                "select from pg_locks join pg_stat_activity using (pid) where application_name = %s and granted"
                " and locktype = 'advisory' and mode = 'ExclusiveLock' and classid = %s and objid = %s",
                worker.session,
                DOORBELL >> 32,
                DOORBELL & 0xFFFFFFFF,
            )
        )

    # Gates: points in the database where a worker's transaction can be held.

    @contextmanager
    def gate(self, table: str, doing: str = "insert") -> Iterator[None]:
        """Hold every transaction that inserts into a table, until the block ends; see `until_at_gate`."""
        self._session.execute(
            "create or replace function public.gate() returns trigger language plpgsql security definer as"
            f" $$ begin perform pg_advisory_xact_lock_shared({GATE}); return null; end $$"
        )
        self._session.execute("select pg_advisory_lock(%s)", [GATE])
        self._session.execute(
            f"create trigger gate before {doing} on {table} for each statement execute function public.gate()"
        )
        try:
            yield
        finally:
            self.open_gate()
            self._session.execute(f"drop trigger gate on {table}")

    def open_gate(self) -> None:
        """Let those go on that are held, and hold nobody any more."""
        self._session.execute("select pg_advisory_unlock_all()")

    def until_at_gate(self, worker: Worker) -> None:
        """Wait until a worker's transaction is seen waiting at the gate."""
        self.until(
            lambda: self.rows(
                "select from pg_stat_activity where application_name = %s and wait_event_type = 'Lock'"
                " and wait_event = 'advisory'",
                worker.session,
            ),
            "the worker's transaction to come to the gate",
        )

    # The outbox

    def rows(self, statement: str, *parameters: Any) -> list[Any]:
        return self._session.execute(statement, parameters).fetchall()

    def value(self, statement: str, *parameters: Any) -> Any:
        return self.rows(statement, *parameters)[0][0]

    def do(self, statement: str, *parameters: Any) -> int:
        """Change something as a person would, and count the rows."""
        return self._session.execute(statement, parameters).rowcount

    def states(self) -> dict[str, int]:
        """Count the deliveries that are not done, by state."""
        return dict(self.rows("select state, count(*) from outbox.delivery group by state"))

    def claims(self) -> list[tuple[str, str]]:
        """Return operation and event of what is claimed."""
        return self.rows(
            "select operation, event_id from outbox.claim join outbox.delivery using (lane, delivery_id) order by 1, 2"
        )

    def attempts(self, operation: str) -> list[tuple[str, str]]:
        """Return outcome and verdict of each attempt at an operation, in order."""
        return self.rows(
            "select outcome, verdict from outbox.attempt where operation = %s order by event_id, number", operation
        )

    def until_done(self, within_s: float = 30) -> None:
        """Wait until nothing is claimed, pending or in doubt."""
        self.until(self._is_done, "everything to be delivered", within_s)

    def _is_done(self) -> bool:
        return bool(
            self.value(
                "select not exists (select from outbox.claim)"
                " and not exists (select from outbox.delivery where state in ('pending', 'in_doubt'))"
            )
        )

    # InBoost

    def effect_count(self) -> int:
        return self.inboost.state.ledger.effects.last

    def request_count(self) -> int:
        return self.inboost.state.ledger.requests.last

    def until_held(self, point: str, number: int) -> None:
        """Wait until so many requests are held at the barrier."""
        self.until(lambda: self.held(point) == number, f"{number} requests to be held, {point}")

    def held(self, point: str) -> int:
        return int(self.inboost.do(self.inboost.sandbox.barrier.counts)[point])

    def release(self) -> None:
        """Let go on what is held at a barrier, and hold nothing any more."""
        self.inboost.put_faults()
        self.inboost.do(self.inboost.sandbox.barrier.release)
