"""`outbox-worker monitoring`: alert rules and a dashboard, for those who watch."""

from __future__ import annotations

from importlib.resources import files

import click


@click.group()
def monitoring() -> None:
    """Print alert rules for Prometheus and a dashboard for Grafana.

    \b
    Have the worker scraped under this job name:
      scrape_configs:
        - job_name: outbox-worker
          static_configs: [{targets: ["127.0.0.1:9464"]}]
    """


@monitoring.command()
def rules() -> None:
    """Print the alert rules: save them below rule_files of Prometheus. Each links to what to do."""
    _print("alerts.yml")


@monitoring.command()
def dashboard() -> None:
    """Print the dashboard: import it in Grafana under Dashboards, New, Import."""
    _print("dashboard.json")


def _print(name: str) -> None:
    click.echo((files("outbox_worker") / "monitoring" / name).read_text(encoding="utf-8"), nl=False)
