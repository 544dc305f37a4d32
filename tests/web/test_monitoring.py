"""Metrics and health over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from outbox_worker.errors import ConfigurationError
from outbox_worker.web.monitoring import MonitoringServer

Health = dict[str, bool]


@pytest.fixture
def health() -> Health:
    return {"live": True, "ready": False}


@pytest.fixture
def server(health: Health) -> Iterator[MonitoringServer]:
    registry = CollectorRegistry()
    Counter("sold", "Things sold.", registry=registry).inc(3)
    running = MonitoringServer("127.0.0.1", 0, registry, lambda: health["live"], lambda: health["ready"]).start()
    yield running
    running.stop()


def test_metrics_are_served_in_the_format_that_prometheus_reads(server: MonitoringServer) -> None:
    answer = requests.get(server.url + "/metrics", timeout=5)
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert families["sold"].samples[0].value == 3
    assert answer.headers["Content-Type"].startswith("text/plain; version=")


@pytest.mark.parametrize("check", ["live", "ready"])
@pytest.mark.parametrize(("well", "status"), [(True, 200), (False, 503)])
def test_health_answers_by_its_status(
    server: MonitoringServer, health: Health, check: str, well: bool, status: int
) -> None:
    health[check] = well
    assert requests.get(f"{server.url}/health/{check}", timeout=5).status_code == status


def test_nothing_else_is_served(server: MonitoringServer) -> None:
    assert requests.get(server.url + "/health/other", timeout=5).status_code == 404


def test_an_address_that_cannot_be_had_is_refused_with_a_sentence(server: MonitoringServer) -> None:
    port = int(server.url.rsplit(":", 1)[1])
    with pytest.raises(ConfigurationError, match=r"cannot listen at 127\.0\.0\.1.*Set another \[web\] port"):
        MonitoringServer("127.0.0.1", port, CollectorRegistry(), lambda: True, lambda: True).start()
