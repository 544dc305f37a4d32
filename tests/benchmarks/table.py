"""The command `python -m tests.benchmarks.table FILE…`: what was measured, as a table for the README.

    python -m tests.benchmarks --json 1.json; python -m tests.benchmarks --json 2.json
    python -m tests.benchmarks.table 1.json 2.json [--plot tests/benchmarks/benchmarks.svg]

Runs of several files count as repetitions of each other: so a long night can be cut into pieces.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from tests.benchmarks import plot, report
from tests.benchmarks.scenarios import Scenario
from tests.benchmarks.scenarios.catalogue import Sizes, scenarios

TOLD = ("date", "machine", "PostgreSQL", "its settings", "fdatasync")


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--plot", "svg_file", type=click.Path(dir_okay=False, path_type=Path), help="Draw it too, as SVG.")
def main(files: Sequence[Path], svg_file: Path | None) -> None:
    """Print the goals with what was measured, as Markdown."""
    documents = [json.loads(file.read_text()) for file in files]
    found = list(measured(documents))
    for line in table(documents[0]["description"], found):
        click.echo(line)
    if svg_file:
        svg_file.write_text(plot.svg({scenario.name: report.medians(runs) for scenario, runs in found}))


def measured(documents: Sequence[dict[str, Any]]) -> Iterator[tuple[Scenario, list[report.Run]]]:
    """Return each scenario that was run with all of its runs; repetitions are counted anew for each contender."""
    for scenario in scenarios(Sizes()):
        kept = [it for document in documents for it in document["scenarios"] if it["name"] == scenario.name]
        runs, so_far = [], Counter[str]()
        for run in (run for it in kept for run in it["runs"]):
            name = run["contender"]
            runs.append(report.Run(scenario.name, name, so_far[name], run["figures"]))
            so_far[name] += 1
        if runs:
            scenario.title = kept[0]["title"]  # type: ignore[misc]  # of the sizes that were measured
            yield scenario, runs


def table(description: dict[str, str], found: Sequence[tuple[Scenario, Sequence[report.Run]]]) -> Iterator[str]:
    """Yield the lines: where it was measured, then each goal with ours, the best peer's, and whether it is met."""
    yield "; ".join(f"{what} {description[what]}" for what in TOLD if what in description)
    yield ""
    yield "| what must hold | outbox-worker | beside | |"
    yield "| --- | --- | --- | --- |"
    for scenario, runs in found:
        for goal in report.goals(scenario, runs):
            yield f"| {goal.text} | {goal.measured} | {goal.peer} | {'met' if goal.met else '**missed**'} |"


if __name__ == "__main__":
    main(prog_name="python -m tests.benchmarks.table")
