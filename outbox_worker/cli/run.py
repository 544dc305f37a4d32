"""`outbox-worker run`: the daemon."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

import click
import structlog
from prometheus_client import REGISTRY

from outbox_worker import __version__, configuration, logs
from outbox_worker.cli.options import configuration_option
from outbox_worker.configuration.assembly import assemble
from outbox_worker.database.backlog import StatusReader
from outbox_worker.runtime import supervisor
from outbox_worker.runtime.gauges import BacklogGauges
from outbox_worker.web.monitoring import MonitoringServer

HUNG_AFTER_S = 60.0  # the loop makes progress every few seconds even when there is nothing to do


@click.command()
@configuration_option
def run(configuration_file: Path | None) -> None:
    """Deliver until SIGTERM or SIGINT, then finish what is in flight.

    Serves /metrics and /health. Several of these may run on one database. Exit status 78: a setting or the schema is
    wrong, and starting again will not help.
    """
    settings = configuration.load(configuration_file)
    logs.configure(settings.log.format, settings.log.level)
    log = structlog.get_logger("outbox_worker")
    for warning in settings.warnings:
        log.warning("configuration", reason=warning)
    assembly = assemble(settings)
    relay = assembly.relay
    REGISTRY.register(BacklogGauges(StatusReader(settings.database.conninfo, "outbox-worker metrics")))
    monitoring = MonitoringServer(
        settings.web.host,
        settings.web.port,
        REGISTRY,
        live=lambda: monotonic() - relay.progress_s < HUNG_AFTER_S,
        ready=lambda: relay.is_ready,
    ).start()
    try:
        log.info(
            "started",
            version=__version__,
            worker=str(assembly.worker),
            database=settings.database.server,
            inboost=settings.inboost.base_url,
            monitoring=monitoring.url,
        )
        supervisor.run(relay, assembly.selector)
        log.info("stopped", worker=str(assembly.worker))
    finally:
        monitoring.stop()
