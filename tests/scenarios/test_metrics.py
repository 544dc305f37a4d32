"""What Prometheus reads of a real worker: clean by promtool, at zero from the start, right after what has happened."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.scenarios.waiting import until
from tests.scenarios.worker import Worker
from tests.scenarios.world import World

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "outbox_worker" / "monitoring"

promtool, prometheus = shutil.which("promtool"), shutil.which("prometheus")


def scraped(worker: Worker) -> str:
    assert worker.name
    (line,) = worker.lines_of("started")
    return requests.get(f"{line['monitoring']}/metrics", timeout=5).text


def samples(worker: Worker) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(scraped(worker))
    return {(it.name, frozenset(it.labels.items())): it.value for family in families for it in family.samples}


def value(worker: Worker, name: str, **labels: str) -> float | None:
    return samples(worker).get((f"outbox_worker_{name}", frozenset(labels.items())))


def test_known_label_sets_begin_at_zero_and_count_what_happens(world: World) -> None:
    accepted = {"operation": "add_purchase", "purpose": "send", "outcome": "accepted", "verdict": "acknowledge"}
    doubt = accepted | {"outcome": "in_doubt", "verdict": "hold"}
    worker = world.start()
    assert value(worker, "attempts_total", **accepted) == value(worker, "attempts_total", **doubt) == 0
    assert value(worker, "delivered_seconds_count", operation="purchase_webhook") == 0
    assert value(worker, "destination_pauses_total", destination="api") == 0
    assert value(worker, "claim_conflicts_total") == value(worker, "wakeups_total", cause="doorbell") == 0
    assert value(worker, "deliveries", destination="expiry_hook", state="held") == 0
    world.until_asleep(worker)
    world.shop.buy(world.shop.customer())
    world.until_done()
    assert value(worker, "attempts_total", **accepted) == 1
    assert value(worker, "delivered_seconds_count", operation="purchase_webhook") == 1
    assert (value(worker, "wakeups_total", cause="doorbell") or 0) >= 1


def test_what_waits_is_told_with_its_age(world: World) -> None:
    customers = world.shop.customers(2)
    for customer in customers:
        world.shop.accrue(customer)
    world.do("update outbox.destination set paused_at = now(), pause_reason = '401', failure_count = 3")
    world.do("update outbox.delivery set due_at = now() - interval '2 minutes' where operation = 'accrual_webhook'")
    world.do("update outbox.delivery set state = 'waiting', reason = 'x' where operation = 'set_bonus_balance'")
    worker = world.start()
    found = samples(worker)

    def one(name: str, **labels: str) -> float:
        return found[f"outbox_worker_{name}", frozenset(labels.items())]

    assert 120 <= one("lag_seconds") < 240
    assert one("oldest_due_timestamp_seconds") < one("destination_paused", destination="api") + 9e9
    assert one("waiting_lanes") == 2
    assert one("deliveries", destination="api", state="waiting") == 2
    assert (one("destination_paused", destination="api"), one("destination_failures", destination="api")) == (1, 3)
    assert one("backlog_read_ok") == 1 and one("backlog_read_seconds") > 0


def test_the_oldest_snapshot_is_told_to_a_role_that_may_see_it_and_not_guessed_for_another(world: World) -> None:
    worker = world.start()
    world.until_asleep(worker)
    assert value(worker, "oldest_snapshot_seconds") is None
    role = world.value("select usename from pg_stat_activity where application_name = %s", worker.session)
    world.do(f"grant pg_read_all_stats to {role}")
    with psycopg.connect(world.database_url) as report:
        report.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        report.execute("select 1")
        first = value(worker, "oldest_snapshot_seconds") or 0
        assert (value(worker, "oldest_snapshot_seconds") or 0) > first > 0


def test_a_delivery_that_somebody_else_is_at_is_counted_as_a_conflict(world: World) -> None:
    world.shop.accrue(world.shop.customer())
    with psycopg.connect(world.database_url) as somebody:
        somebody.execute("select from outbox.delivery for update")
        worker = world.start()
        until(lambda: value(worker, "claim_conflicts_total"), "a conflict to be counted")
    world.until_done()


@pytest.mark.skipif(promtool is None, reason="promtool is not on this machine; Debian: prometheus")
def test_promtool_has_nothing_against_the_names_and_units(world: World) -> None:
    assert promtool is not None
    world.shop.accrue(world.shop.customer())
    worker = world.start()
    world.until_done()
    told = subprocess.run(
        [promtool, "check", "metrics"], input=scraped(worker), capture_output=True, text=True, check=False
    )
    assert (told.returncode, told.stdout + told.stderr) == (0, "")


# A real Prometheus


@contextmanager
def prometheus_watching(target: str, directory: Path) -> Iterator[str]:
    """Run Prometheus, scraping this target every second with the rules that ship, and give its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (directory / "prometheus.yml").write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(MONITORING / "alerts.yml")],
                "scrape_configs": [{"job_name": "outbox-worker", "static_configs": [{"targets": [target]}]}],
            }
        )
    )
    words = [f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/tsdb"]
    process = subprocess.Popen(
        [str(prometheus), *words, f"--web.listen-address={address}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: is_ready(f"http://{address}"), "Prometheus to be ready")
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(20)


def is_ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/-/ready", timeout=5).ok
    except requests.ConnectionError:
        return False


def asked(url: str, expression: str) -> list[Any]:
    """Return what Prometheus answers to a query; an error in it is a failure."""
    answer = requests.get(f"{url}/api/v1/query", params={"query": expression}, timeout=5).json()
    assert answer["status"] == "success", (expression, answer)
    return list(answer["data"]["result"])


def queries_of_the_dashboard() -> list[tuple[str, str]]:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    return [
        (panel["title"], target["expr"].replace("$job", "outbox-worker").replace("$__rate_interval", "10s"))
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]


@pytest.mark.long
@pytest.mark.skipif(prometheus is None, reason="prometheus is not on this machine")
def test_every_query_of_the_dashboard_is_answered_by_a_prometheus_that_scrapes_a_worker(
    world: World, tmp_path: Path
) -> None:
    worker = world.start({"rounds.enabled": True})
    world.until_asleep(worker)
    role = world.value("select usename from pg_stat_activity where application_name = %s", worker.session)
    world.do(f"grant pg_read_all_stats to {role}")
    target = re.sub(r"^http://", "", worker.lines_of("started")[0]["monitoring"])
    queries = queries_of_the_dashboard()
    assert len(queries) > 20
    with prometheus_watching(target, tmp_path) as url:
        until(lambda: asked(url, 'up{job="outbox-worker"} == 1'), "the worker to be scraped")

        def unanswered() -> list[str]:
            world.shop.buy(world.shop.customer())
            return [f"{title}: {query}" for title, query in queries if not asked(url, query)]

        until(lambda: not unanswered(), "every panel to show something", 60)
        rules = requests.get(f"{url}/api/v1/rules", timeout=5).json()["data"]["groups"][0]["rules"]
        assert {rule["health"] for rule in rules} == {"ok"}
        assert {rule["name"] for rule in rules if rule["state"] == "firing"} == set()
