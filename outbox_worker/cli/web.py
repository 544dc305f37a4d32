"""`outbox-worker web`: the service that identifies customers by their contact details."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from time import monotonic

import click
import structlog
import uvloop

from outbox_worker import __version__, configuration, logs, metrics
from outbox_worker.cli.options import configuration_option
from outbox_worker.configuration import Configuration
from outbox_worker.database.identity import Identity
from outbox_worker.sd_notify import notify, watchdog_s
from outbox_worker.web.identify import IdentifyServer, Terms
from outbox_worker.web.monitoring import MonitoringServer

BEAT_EVERY_S = 1.0
HUNG_AFTER_S = 60.0


class Heart:
    """Beats as long as the loop goes round, and tells systemd so: a loop that hangs is silent, and is started anew.

    What takes long is awaited, a database that is away too, so nothing but a fault keeps the loop from going round.
    """

    def __init__(self) -> None:
        self._beat_s = monotonic()
        self._every_s = min(BEAT_EVERY_S, (watchdog_s() or 2 * BEAT_EVERY_S) / 2)

    @property
    def is_beating(self) -> bool:
        """Whether the loop made progress lately."""
        return monotonic() - self._beat_s < HUNG_AFTER_S

    async def beat(self) -> None:
        """Beat until cancelled."""
        while True:
            self._beat_s = monotonic()
            notify(WATCHDOG=1)
            await asyncio.sleep(self._every_s)


@click.command()
@configuration_option
def web(configuration_file: Path | None) -> None:
    """Serve POST /identify until SIGTERM or SIGINT, then finish what is under way.

    Says at /openapi.json what it takes and gives. /metrics and /health are at a port of their own. Several of these may
    run on one database. Exit status 78: a setting or the schema is wrong, and starting again will not help.
    """
    settings = configuration.load(configuration_file, to_deliver=False, to_identify=True)
    logs.configure(settings.log.format, settings.log.level, levels=settings.log.levels)
    log = structlog.get_logger("outbox_worker.web")
    for warning in settings.warnings:
        log.warning("configuration", reason=warning)
    uvloop.run(serve(settings))


async def serve(settings: Configuration) -> None:
    """Serve until a stop signal."""
    log = structlog.get_logger("outbox_worker.web")
    stop, heart = _stop_signal(), Heart()
    identity = Identity(settings.database.conninfo, settings.identify.connections)
    server = IdentifyServer(_terms(settings), identity.identify)
    monitoring = MonitoringServer(
        settings.identify.host,
        settings.identify.monitoring_port,
        metrics.IDENTIFY,
        live=lambda: heart.is_beating,
        ready=lambda: identity.is_ready,
        setting="[identify] monitoring_port",
    ).start()
    beating = asyncio.create_task(heart.beat())
    try:
        if await _is_open(identity, stop):
            await server.start()
            notify(READY=1)
            log.info(
                "started",
                version=__version__,
                address=server.url,
                monitoring=monitoring.url,
                database=settings.database.server,
            )
            await stop.wait()
            notify(STOPPING=1)
    finally:
        await server.stop()
        await identity.close()
        beating.cancel()
        monitoring.stop()
    log.info("stopped")


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _is_open(identity: Identity, stop: asyncio.Event) -> bool:
    """Wait for the database, however long it is away, or for a stop. Raises SchemaMismatch."""
    opening, stopping = asyncio.ensure_future(identity.open()), asyncio.ensure_future(stop.wait())
    await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not opening.done():
        opening.cancel()
        return False
    opening.result()
    return True


def _terms(settings: Configuration) -> Terms:
    identify = settings.identify
    return Terms(
        host=identify.host,
        port=identify.port,
        tokens=tuple(token.get_secret_value() for token in identify.tokens),
        body_bytes_max=identify.body_max,
        requests_per_s_max=identify.requests_per_second,
        phone_region=settings.inboost.phone_region,
    )
