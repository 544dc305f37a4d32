"""The alert rules: valid, each fires when it should and not before, each with its runbook in the README."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.desk import Desk
from tests.monitoring.names import metric_names, names_in

ROOT = Path(__file__).parents[2]
RULES = ROOT / "outbox_worker" / "monitoring" / "alerts.yml"
NAMES = re.findall(r"alert: (\w+)", RULES.read_text())

promtool = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(promtool is None, reason="promtool is not on this machine; Debian: prometheus")

JOB = 'job="outbox-worker", instance="a:9464"'


def state(name: str) -> str:
    return f'outbox_worker_deliveries{{{JOB}, destination="api", state="{name}"}}'


# For each alert: a series, its values each minute when it fires, and when it must be silent; the minute to look at.
CASES: dict[str, tuple[str, str, str, int]] = {
    "OutboxWorkerDown": (f"up{{{JOB}}}", "0x10", "1 1 0 1 1 1", 3),
    "OutboxWorkerAbsent": ('up{job="other"}', "1x10", "", 7),
    "OutboxWorkerDatabaseLost": (f"outbox_worker_database_up{{{JOB}}}", "0x10", "0 1 0 1 0", 4),
    "OutboxWorkerLag": (f"outbox_worker_lag_seconds{{{JOB}}}", "61x20", "59x20", 7),
    "OutboxWorkerDestinationPaused": (
        f'outbox_worker_destination_paused{{{JOB}, destination="api"}}', "1x10", "0x10", 3,
    ),
    "OutboxWorkerDestinationFailing": (
        f'outbox_worker_destination_failures{{{JOB}, destination="api"}}', "5x20", "4x20", 12,
    ),
    "OutboxWorkerHeld": (state("held"), "1x10", "0x10", 7),
    "OutboxWorkerDeadLetters": (state("dead"), "1x10", "0x10", 7),
    "OutboxWorkerInDoubt": (state("in_doubt"), "1x40", "0+1x20 0x20", 35),
    "OutboxWorkerWaiting": (f"outbox_worker_waiting_lanes{{{JOB}}}", "1x140", "0x140", 125),
    "OutboxWorkerUnidentified": (f"outbox_worker_unidentified_seconds{{{JOB}}}", "61x10", "59x10", 4),
    "OutboxWorkerCaptureFailures": (f"outbox_worker_capture_failures{{{JOB}}}", "1x10", "0x10", 7),
    "OutboxWorkerTurnsRefused": (f"outbox_worker_turns_refused_total{{{JOB}}}", "0+1x20", "7x20", 12),
    "OutboxWorkerBacklogUnread": (f"outbox_worker_backlog_read_ok{{{JOB}}}", "0x10", "1x10", 7),
    "OutboxWorkerOldSnapshot": (f"outbox_worker_oldest_snapshot_seconds{{{JOB}}}", "3601x20", "3599x20", 15),
    "OutboxWorkerRoundStale": (
        f'outbox_worker_round_age_seconds{{{JOB}, round="customer_sync"}}', "3601x20", "3599x20", 7,
    ),
    "OutboxWorkerRoundFailing": (f'outbox_worker_round_tries{{{JOB}, round="reconciliation"}}', "3x20", "2x20", 7),
    "OutboxWorkerCustomerSyncStopped": (f"outbox_worker_customer_sync_stopped{{{JOB}}}", "1x80", "0x80", 70),
    "OutboxWorkerCustomerConflicts": (
        f'outbox_worker_unstored_clients{{{JOB}, kind="shared_phone"}}', "1x80", "0x80", 70,
    ),
    "OutboxWorkerRestarts": (f"process_start_time_seconds{{{JOB}}}", "0+60x20", "1x9 2x9", 15),
}  # fmt: skip


def test_every_alert_has_its_case() -> None:
    assert sorted(CASES) == sorted(NAMES)


@needs_promtool
@pytest.mark.parametrize("fires", [True, False], ids=["fires", "is silent"])
@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_when_it_should_and_is_silent_otherwise(name: str, fires: bool, tmp_path: Path) -> None:
    series, bad, good, minute = CASES[name]
    assert promtool is not None
    # What is scraped well, so that the alert about nothing being scraped is silent in its silent case.
    values = [{"series": series, "values": bad if fires else good}] if (fires or good) else []
    if not values:
        values = [{"series": f"up{{{JOB}}}", "values": "1x10"}]
    test = {
        "rule_files": [str(RULES)],
        "tests": [
            {
                "interval": "1m",
                "input_series": values,
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) or vector(0)',
                        "eval_time": f"{minute}m",
                        "exp_samples": [{"labels": "{}", "value": int(fires)}],
                    }
                ],
            }
        ],
    }
    file = tmp_path / "test.yml"
    file.write_text(json.dumps(test))
    told = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


@needs_promtool
def test_promtool_has_nothing_against_the_rules() -> None:
    assert promtool is not None
    told = subprocess.run([promtool, "check", "rules", "--lint-fatal", str(RULES)], capture_output=True, check=False)
    assert told.returncode == 0, told.stdout


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_links_to_its_own_place_in_the_readme(name: str) -> None:
    (link,) = re.findall(rf"alert: {name}\n(?:.+\n)*?\s+runbook_url: (\S+)", RULES.read_text())
    headings = re.findall(r"^#+ (.+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert link.partition("#")[2] in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_alerts_and_dashboard_ask_for_metrics_that_there_are(desk: Desk) -> None:
    asked = names_in(desk("monitoring", "rules").out) | names_in(desk("monitoring", "dashboard").out)
    assert len(asked) > 15
    assert asked <= metric_names()


def test_the_commands_print_what_ships(desk: Desk) -> None:
    assert desk("monitoring", "rules").out == RULES.read_text()
    assert desk("monitoring", "dashboard").data["panels"]
