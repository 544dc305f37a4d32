"""`outbox-worker run`: the daemon."""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import Any

import click
import structlog
from prometheus_client import REGISTRY

from outbox_worker import __version__, configuration, logs, metrics
from outbox_worker.cli.options import configuration_option
from outbox_worker.configuration.assembly import assemble
from outbox_worker.configuration.reloading import Reloading
from outbox_worker.database.backlog import StatusReader
from outbox_worker.database.sync_figures import SyncFiguresReader
from outbox_worker.errors import ConfigurationError
from outbox_worker.inboost.operations import API, DEFAULT, DELIVERIES, HOOKS
from outbox_worker.runtime.companion import Companion
from outbox_worker.runtime.customer_gauges import CustomerGauges
from outbox_worker.runtime.gauges import BacklogGauges
from outbox_worker.runtime.heartbeat import Heartbeat
from outbox_worker.runtime.status_line import StatusLine
from outbox_worker.runtime.supervisor import Supervisor
from outbox_worker.web.monitoring import MonitoringServer

STOP_BEYOND_REQUEST_S = 15.0  # to write down what came of the requests, and to end what runs beside the relay
HUNG_AFTER_S = 60.0  # the loop makes progress every few seconds even when there is nothing to do


@click.command()
@configuration_option
def run(configuration_file: Path | None) -> None:
    """Deliver until SIGTERM or SIGINT, then finish what is in flight. SIGHUP has settings read again.

    Serves /metrics and /health. Several of these may run on one database. Exit status 78: a setting or the schema is
    wrong, and starting again will not help.
    """
    settings = configuration.load(configuration_file)
    logs.configure(settings.log.format, settings.log.level, levels=settings.log.levels)
    log = structlog.get_logger("outbox_worker")
    for warning in settings.warnings:
        log.warning("configuration", reason=warning)
    assembly = assemble(settings)
    relay = assembly.relay
    metrics.begin(__version__, DELIVERIES, (API, *HOOKS), [name for name in DELIVERIES if DEFAULT[name].look_up])
    REGISTRY.register(BacklogGauges(StatusReader(settings.database.conninfo, "outbox-worker metrics")))
    REGISTRY.register(CustomerGauges(SyncFiguresReader(settings.database.conninfo, "outbox-worker metrics")))
    status_line = StatusLine(StatusReader(settings.database.conninfo, "outbox-worker status line"))
    heartbeat = Heartbeat(relay, stop_within_s=settings.inboost.request_timeout.total_seconds() + STOP_BEYOND_REQUEST_S)
    reloading = Reloading(configuration_file, settings, assembly)
    rounds = _rounds(settings, configuration_file)
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
        status_line.start()
        Supervisor(
            relay,
            assembly.selector,
            heartbeat,
            lambda: _reload(reloading, rounds, log),
            on_calm=rounds.start,
            on_stop=rounds.stop,
        ).run()
        rounds.join()
        log.info("stopped", worker=str(assembly.worker))
    finally:
        rounds.join()
        status_line.stop()
        monitoring.stop()


def _rounds(settings: configuration.Configuration, file: Path | None) -> Companion:
    """Rounds are run by a process of their own, with the same settings: they must not hold up the relay."""
    named = [] if file is None else ["--configuration", str(file)]
    return Companion("rounds", ["rounds", "serve", *named], wanted=settings.rounds.enabled)


def _reload(reloading: Reloading, rounds: Companion, log: Any) -> None:
    """Take changed settings; wrong ones change nothing, least of all that deliveries go on."""
    try:
        taken, waiting = reloading()
    except ConfigurationError as error:
        remedy = "mend them and reload; until then the old ones hold"
        log.error("settings refused", error=str(error), remedy=remedy)  # noqa: TRY400  # a person's mistake
        return
    log.info("settings read again", taken=taken)
    rounds.renew()
    if waiting:
        log.warning("settings need a restart", settings=waiting, remedy="restart the worker when it suits you")
