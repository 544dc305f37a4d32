"""Metrics and health over real HTTP."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest
import requests
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from outbox_worker import logs
from outbox_worker.errors import ConfigurationError
from outbox_worker.web import monitoring
from outbox_worker.web.monitoring import MonitoringServer

Health = dict[str, bool]


class Broken(Collector):
    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        raise LookupError("no such reading")


@pytest.fixture
def health() -> Health:
    return {"live": True, "ready": False}


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("sold", "Things sold.", registry=registry).inc(3)
    return registry


@pytest.fixture
def server(health: Health, registry: CollectorRegistry) -> Iterator[MonitoringServer]:
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
    assert requests.post(server.url + "/metrics", timeout=5).status_code == 405


def test_a_question_for_the_head_alone_is_answered(server: MonitoringServer) -> None:
    answer = requests.head(server.url + "/health/live", timeout=5)
    assert (answer.status_code, answer.content) == (200, b"")


def test_a_caller_that_says_nothing_keeps_nobody_waiting_and_is_left(
    server: MonitoringServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitoring._Handler, "timeout", monitoring._Handler.timeout / 50)
    address = ("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
    with socket.create_connection(address, timeout=5) as silent, socket.create_connection(address, timeout=5) as slow:
        slow.sendall(b"GET /met")
        assert requests.get(server.url + "/health/live", timeout=5).status_code == 200
        assert silent.recv(1) == slow.recv(1) == b"", "both are closed"


def test_a_reading_that_fails_is_a_500_and_a_line_of_the_log(
    registry: CollectorRegistry, server: MonitoringServer, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.register(Broken())
    logs.configure("json")
    assert requests.get(server.url + "/metrics", timeout=5).status_code == 500
    assert requests.get(server.url + "/health/live", timeout=5).status_code == 200
    [line] = capsys.readouterr().err.splitlines()
    assert "no such reading" in json.loads(line)["exception"]


def test_it_listens_at_every_address_of_its_host() -> None:
    running = MonitoringServer("localhost", 0, CollectorRegistry(), lambda: True, lambda: True).start()
    found = {address[0] for *_, address in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    try:
        assert {listener.server_name for listener in running._listeners} == found
        assert requests.get(running.url + "/health/live", timeout=5).status_code == 200
    finally:
        running.stop()


def test_an_address_that_cannot_be_had_is_refused_with_a_sentence(server: MonitoringServer) -> None:
    port = int(server.url.rsplit(":", 1)[1])
    with pytest.raises(ConfigurationError, match=r"cannot listen at 127\.0\.0\.1.*Set another \[web\] port"):
        MonitoringServer("127.0.0.1", port, CollectorRegistry(), lambda: True, lambda: True).start()
