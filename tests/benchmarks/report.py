"""From runs to what is printed and kept: every run, medians, ratios of ours to each peer's, goals.

A ratio is taken within one repetition, where both ran one after the other, and the median is taken of the ratios: so a
machine that is busier in one minute than in the next does not speak for or against anybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tests.benchmarks.contenders import OURS
from tests.benchmarks.scenarios import Figure, Goal, Medians, Scenario


@dataclass(frozen=True, slots=True)
class Run:
    """One contender, one scenario, once."""

    scenario: str
    contender: str
    repetition: int
    figures: Mapping[str, float]


def medians(runs: Sequence[Run]) -> Medians:
    """Return the medians of each contender's figures, in order of appearance."""
    names = dict.fromkeys(run.contender for run in runs)
    return {name: _medians([run.figures for run in runs if run.contender == name]) for name in names}


def ratios(runs: Sequence[Run]) -> Medians:
    """Return the medians of ours to each peer's within each repetition."""
    ours = {run.repetition: run.figures for run in runs if run.contender == OURS}
    found: dict[str, list[dict[str, float]]] = {}
    for run in runs:
        if run.contender != OURS and run.repetition in ours:
            mine = ours[run.repetition]
            found.setdefault(run.contender, []).append(
                {key: mine[key] / value if value else float("nan") for key, value in run.figures.items()}
            )
    return {name: _medians(each) for name, each in found.items()}


def goals(scenario: Scenario, runs: Sequence[Run]) -> list[Goal]:
    """Return the scenario's goals for these runs."""
    return list(scenario.goals(medians(runs), ratios(runs)))


def tell(console: Console, scenario: Scenario, runs: Sequence[Run]) -> None:
    """Print a scenario's table, ratios and goals; OURS stands first."""
    table = Table(title=scenario.title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("")
    for figure in scenario.figures:
        table.add_column(figure.title, justify="right")
    for name, middle in medians(runs).items():
        table.add_row(name, *(_median_and_all(figure, name, middle, runs) for figure in scenario.figures))
    for name, ratio in ratios(runs).items():
        table.add_row(f"ours / {name}", *(f"{ratio[figure.key]:.2f}" for figure in scenario.figures), style="dim")
    console.print(table)
    for goal in goals(scenario, runs):
        beside = f" ({goal.peer})" if goal.peer else ""
        console.print(f"  {'met   ' if goal.met else 'MISSED'}  {goal.text}: {goal.measured}{beside}", highlight=False)


def document(description: Mapping[str, str], scenarios: Sequence[Scenario], runs: Sequence[Run]) -> dict[str, Any]:
    """Return everything, to be kept as JSON."""
    return {
        "description": dict(description),
        "scenarios": [_scenario(it, [run for run in runs if run.scenario == it.name]) for it in scenarios],
    }


def _scenario(scenario: Scenario, runs: Sequence[Run]) -> dict[str, Any]:
    return {
        "name": scenario.name,
        "title": scenario.title,
        "medians": medians(runs),
        "ratios of ours": ratios(runs),
        "goals": [asdict(it) for it in goals(scenario, runs)],
        "runs": [
            {"contender": run.contender, "repetition": run.repetition, "figures": dict(run.figures)} for run in runs
        ],
    }


def _medians(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: median(figures[key] for figures in each) for key in each[0]}


def _median_and_all(figure: Figure, name: str, middle: Mapping[str, float], runs: Sequence[Run]) -> str:
    shown = f"{middle[figure.key]:,.{figure.digits}f}"
    values = [f"{run.figures[figure.key]:,.{figure.digits}f}" for run in runs if run.contender == name]
    return f"[bold]{shown}[/bold]" + (f"\n[dim]{' '.join(values)}[/dim]" if len(set(values)) > 1 else "")
