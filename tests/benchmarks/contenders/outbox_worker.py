"""outbox-worker, as the daemon really runs: its commands, its configuration file, its JSON log.

Nothing of the product is imported here, so that another checkout of it can be measured beside this one.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import psycopg

from tests.benchmarks.contenders import OURS, ROOT, SLOTS, Command, Contender, Place, python
from tests.benchmarks.events import Event

CONFIGURATION = """
[database]
url = "{database_url}"
[inboost]
base_url = "{receiver_url}"
token = "not-a-secret"
hooks = {{ {hooks} }}
[relay]
slots = {slots}
[web]
port = 0
[log]
format = "json"
[inboost.operations.list_clients]
enabled = false
"""
DOORBELL = 122550254464888  # the lock of sql/install/ring_doorbell.sql
# As sql/README.md has it: one block with a handler that keeps the failure, and the rights of the outbox.
TRIGGER = """
create function shop.keep_failure(accrual_id bigint, sqlstate text, message text) returns void
language plpgsql set client_min_messages = error as $$
begin
    perform outbox.record_capture_failure('bonus_accrual', accrual_id::text, sqlstate, message);
exception when others then
    raise log 'outbox: accrual % was not captured (%: %): %', accrual_id, sqlstate, message, sqlerrm;
end
$$;
create function shop.capture() returns trigger
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set row_security = off as $$
begin
    perform outbox.record_event(
        'bonus_accrual', new.accrual_id::text, new.customer_id::text,
        json_build_object('phone', '+38050' || 1000000 + new.customer_id, 'code', new.code,
                          'amount', new.amount, 'balance', 100.25),
        new.entered_at);
    return null;
exception when others or assert_failure then
    perform shop.keep_failure(new.accrual_id, sqlstate, sqlerrm);
    return null;
end
$$;
create trigger capture after insert on shop.accrual for each row execute function shop.capture();
"""


class OutboxWorker(Contender):
    """The checkout at `root`, with its own SQL."""

    packages = ("psycopg", "pycurl", "structlog", "prometheus-client", "msgspec")
    settings = f"outbox-worker run, slots = {SLOTS}, JSON log at level info to a file, else as shipped"
    done = "select not exists (select from outbox.delivery) and not exists (select from outbox.claim)"
    record = (
        "select outbox.record_event('bonus_accrual', %(number)s, %(customer)s, %(payload)s::json, clock_timestamp())"
    )

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self.root = root

    def install(self, place: Place) -> None:
        command = self._command(place, "schema", "install", "--database", place.database_url)
        environment = os.environ | dict(command.environment)
        subprocess.run(command.arguments, cwd=place.directory, env=environment, capture_output=True, check=True)

    def fill(self, place: Place, events: Sequence[Event]) -> None:
        with psycopg.connect(place.database_url) as session:
            session.execute(
                "select count(outbox.record_event('bonus_accrual', number, customer, payload::json, clock_timestamp()))"
                " from unnest(%s::text[], %s::text[], %s::text[]) as it (number, customer, payload)",
                [[str(it.number) for it in events], [it.customer for it in events], [it.payload for it in events]],
            )

    def versions(self) -> Iterator[str]:
        answer = subprocess.run(
            ["git", "-C", str(self.root), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            check=False,
        )
        yield f"at {answer.stdout.strip() or self.root}"
        yield from super().versions()

    def trigger(self) -> str:
        return TRIGGER

    def command(self, place: Place) -> Command:
        file = place.directory / "outbox-worker.toml"
        hooks = ", ".join(
            f'{name} = {{ url = "{place.receiver_url}/api/webhok/{name}/" }}'
            for name in ("accrual", "redemption", "purchase", "expiry")
        )
        file.write_text(
            CONFIGURATION.format(
                database_url=place.database_url, receiver_url=place.receiver_url, hooks=hooks, slots=SLOTS
            )
        )
        file.chmod(0o600)
        return self._command(place, "run", "--configuration", str(file))

    def _command(self, place: Place, *arguments: str) -> Command:
        command = python(place, "-m", "outbox_worker", *arguments)
        return replace(command, environment={**command.environment, "PYTHONPATH": str(self.root)})


CONTENDER = OutboxWorker(OURS, ROOT)
