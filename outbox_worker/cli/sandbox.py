"""`outbox-worker sandbox`: a stand-in for InBoost to try a mapping, the worker, or a fault against."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from outbox_worker.demo.sandbox import Fault, Sandbox, Settings, listening, parse_fault
from outbox_worker.demo.sandbox.faults import KINDS
from outbox_worker.demo.sandbox.ledger import SeenRequest
from outbox_worker.demo.sandbox.operations import E164, EVENTFUL
from outbox_worker.errors import ConfigurationError
from outbox_worker.rules.phones import mask, mask_all


def read_faults(_ctx: click.Context, _param: click.Parameter, texts: tuple[str, ...]) -> list[Fault]:
    """Read the faults of the command line; a word that is not known is a usage error."""
    try:
        return [parse_fault(text) for text in texts]
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from error


def list_kinds() -> str:
    """List the kinds of faults and their parameters with the defaults, for --help."""
    rows = [
        (name, kind.about, [f"{key}={value}" for key, value in kind.defaults.items()]) for name, kind in KINDS.items()
    ]
    return "\n".join(f"  {name:<15}{about:<50}{','.join(words).lower()}".rstrip() for name, about, words in rows)


EPILOG = f"""\b
Operations
  list_clients, find_client, add_client, update_client, find_purchase,
  {", ".join(EVENTFUL[:3])},
  {", ".join(EVENTFUL[3:])}, unknown
  Hooks are /api/webhok/accrual/, redemption, purchase, expiry; any other id is operation webhook.

\b
Kinds of faults, and what they take besides probability=1.0 and count (of requests)
{list_kinds()}
  Where there is act=, it says whether the request has its effect all the same; the kinds that
  reset before, throttle, refuse credentials or redirect have none, the others have it. refuse
  closes the one port, and so hits all operations. Of several faults that fit, the first strikes.

\b
Examples
  A receiver that knows every phone, on a free port, and shows what comes in:
    outbox-worker sandbox --any-client --port 0 --verbose
  One purchase in twenty is stored and its answer lost; three requests are throttled at first:
    outbox-worker sandbox --fault 'add_purchase:reset_after:probability=0.05' \\
                          --fault '*:throttle:count=3,seconds=2'
  A hook that does not recognise what it had before, so that doubled events can be counted:
    outbox-worker sandbox --no-deduplicate accrual_webhook
  It can be killed, and remembers what it did:
    outbox-worker sandbox --ledger /tmp/inboost.jsonl

\b
While it runs (all but the ledger's rows also in one look at /sandbox/summary)
  curl localhost:8080/sandbox/summary
  curl 'localhost:8080/sandbox/ledger/effects?after=0&limit=100'
  curl -X POST localhost:8080/sandbox/clients -d '["+380501234567"]'
  curl -X PUT localhost:8080/sandbox/faults -d '["*:error:status=503,count=10"]'
  curl -X POST localhost:8080/sandbox/outage -d '{{"seconds": 5}}'
"""


@click.command(epilog=EPILOG)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65_535), help="0 takes a free one.")
@click.option(
    "--port-file", type=click.Path(path_type=Path, dir_okay=False), help="Write the port here when it listens."
)
@click.option(
    "--token", default="sandbox-token", show_default=True, help="Wanted as `Authorize: Bearer ...`, not by hooks."
)
@click.option(
    "--clients",
    "clients_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Clients that InBoost has: one phone (E.164) per line.",
)
@click.option("--any-client", is_flag=True, help="Treat every phone as one of a known client.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    callback=read_faults,
    metavar="OPERATION:KIND[:key=value,...]",
    help="Switch a fault on; `*` means all operations. Can be repeated.",
)
@click.option(
    "--seed", type=int, help="Make chance repeatable: same seed, same requests in the same order, same faults."
)
@click.option(
    "--no-deduplicate",
    "not_deduplicated",
    multiple=True,
    type=click.Choice(["*", *EVENTFUL]),
    metavar="OPERATION",
    help="Act again on an event id that is known; `*` means all operations. Can be repeated.",
)
@click.option(
    "--ledger",
    "ledger_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Append every effect to this file, and start from what it holds.",
)
@click.option("--ledger-max", default=1_000_000, show_default=True, type=click.IntRange(1), help="Rows kept in memory.")
@click.option(
    "--keep-alive", default=75.0, show_default=True, type=click.FloatRange(0.1), help="Seconds, for idle ones."
)
@click.option(
    "--hang-max", default=300.0, show_default=True, type=click.FloatRange(0.0), help="Seconds, for fault hang."
)
@click.option("--verbose", is_flag=True, help="Write a line per request, phones masked, to standard error.")
def sandbox(
    port_file: Path | None,
    clients_file: Path | None,
    faults: list[Fault],
    not_deduplicated: tuple[str, ...],
    keep_alive: float,
    hang_max: float,
    verbose: bool,
    **plain: Any,
) -> None:
    """Stand in for InBoost: all its operations over real HTTP, a ledger of what came and what it did, and faults.

    It says `sandbox listens at http://HOST:PORT` when it does, and ends on SIGTERM or SIGINT with status 0.
    """
    settings = Settings(
        not_deduplicated=frozenset(EVENTFUL if "*" in not_deduplicated else not_deduplicated),
        keep_alive_s=keep_alive,
        hang_s_max=hang_max,
        **plain,
    )
    phones = read_phones(clients_file) if clients_file else []
    served = Sandbox(settings, faults, show) if verbose else Sandbox(settings, faults)
    if settings.ledger_file is not None:
        click.echo(f"{served.restored_count} effects restored from {settings.ledger_file}", err=True)
    asyncio.run(serve(served, phones, port_file))


async def serve(served: Sandbox, phones: list[str], port_file: Path | None) -> None:
    """Serve until a signal comes."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    served.state.register(phones, time.time())
    async with listening(served) as url:
        if port_file is not None:
            write_port(port_file, url.rpartition(":")[2])
        click.echo(f"sandbox listens at {url}")
        await stop.wait()


def read_phones(path: Path) -> list[str]:
    """Read one phone per line; empty lines and those that begin with # are skipped. Raises ConfigurationError."""
    phones = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        phone = line.strip()
        if phone and not phone.startswith("#"):
            if not E164.fullmatch(phone):
                raise ConfigurationError(f"line {number} of {path} is no phone in E.164: {mask(phone)}")
            phones.append(phone)
    return phones


def write_port(path: Path, port: str) -> None:
    """Write the port so that who waits for the file never reads half of it."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.write_text(f"{port}\n")
    unfinished.replace(path)


def show(seen: SeenRequest) -> None:
    """Write one line about a request that has ended."""
    took_ms = ((seen.ended_monotonic_s or 0) - seen.arrived_monotonic_s) * 1_000
    words = [
        datetime.fromtimestamp(seen.arrived_at).astimezone().isoformat(" ", "milliseconds")[11:23],
        seen.method,
        mask_all(seen.path) if seen.operation == "unknown" else seen.operation,
        mask(seen.phone or "") or "-",
        seen.event_id or "-",
        str(seen.status or seen.ended),
        f"{took_ms:.1f}ms",
        "duplicate" if seen.duplicate else "",
        f"fault={seen.fault}" if seen.fault else "",
    ]
    print(*filter(None, words), file=sys.stderr)  # noqa: T201
