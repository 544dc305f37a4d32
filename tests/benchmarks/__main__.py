"""The command: `python -m tests.benchmarks`.

Every repetition puts every contender into every scenario, one after another, beginning with another contender each
time; what counts are the ratios within one repetition.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
from psycopg.conninfo import make_conninfo
from rich.console import Console

from outbox_worker.demo.postgres import PostgresServer
from tests.benchmarks import report
from tests.benchmarks.contenders import NAMES, Contender, load
from tests.benchmarks.contenders.outbox_worker import OutboxWorker
from tests.benchmarks.receivers import Nginx
from tests.benchmarks.scenarios import Scenario
from tests.benchmarks.scenarios.catalogue import NAMES as SCENARIOS
from tests.benchmarks.scenarios.catalogue import Sizes
from tests.benchmarks.scenarios.catalogue import scenarios as all_scenarios
from tests.benchmarks.world import Server, World


@dataclass(frozen=True, slots=True)
class ExternalServer:
    """A server that somebody else runs."""

    conninfo: str

    def url(self, dbname: str = "postgres") -> str:
        return make_conninfo(self.conninfo, dbname=dbname)


@click.command(context_settings={"max_content_width": 120})
@click.option(
    "--only",
    "names",
    multiple=True,
    metavar="NAME",
    type=click.Choice([*SCENARIOS, *NAMES]),
    help=f"Run only these scenarios ({', '.join(SCENARIOS)}) or contenders ({', '.join(NAMES)}). May be repeated.",
)
@click.option("--repetitions", default=3, show_default=True, type=click.IntRange(1))
@click.option("--events", "event_count", default=20_000, show_default=True, help="How many wait in the drain.")
@click.option("--commits", "commit_count", default=200, show_default=True, help="How many the latency is taken from.")
@click.option("--seconds", default=5, show_default=True, help="How long what does not end by itself is measured.")
@click.option("--long", is_flag=True, help="A million events wait, and a snapshot is held for 20 minutes.")
@click.option(
    "--against",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Another checkout of outbox-worker, to be measured beside this one: before and after in one run.",
)
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Keep everything here too.")
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where the server's data go: a real disk, for commits are to be durable. The default is for temporary files.",
)
@click.option("--database", "database_url", help="Use this server, as a superuser, instead of starting one.")
def main(
    names: Sequence[str],
    repetitions: int,
    event_count: int,
    commit_count: int,
    seconds: int,
    long: bool,
    against: Path | None,
    json_file: Path | None,
    directory: Path | None,
    database_url: str | None,
) -> None:
    """Compare outbox-worker with others that deliver events from PostgreSQL over HTTP.

    Everybody gets the same 400-byte events of 2,000 customers, durable commits, one worker process and the same
    receiver on the loopback. Needs nginx (`apt-get install nginx-light`) and the peers (`pip install -e '.[bench]'`);
    a peer that is not installed is passed over. Nothing else should run on the machine meanwhile.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that no process of ours is left
    console = Console(width=None if Console().is_terminal else 160)
    sizes = Sizes(event_count, commit_count, seconds, long)
    scenarios = [it for it in all_scenarios(sizes) if _is_wanted(it.name, names, SCENARIOS)]
    contenders = list(_contenders(console, names))
    if against:
        contenders.append(OutboxWorker(f"outbox-worker in {against.name}", against.absolute()))
    if not Nginx.program():
        console.print("nginx is not here (`apt-get install nginx-light`): a slower receiver of ours takes its place.")
    runs: list[report.Run] = []
    with _world(directory, database_url) as world:
        description = world.description(contenders)
        for what, text in description.items():
            console.print(f"{what}: {text}", highlight=False, soft_wrap=True)
        for scenario in scenarios:
            for run in _run(console, world, scenario, contenders, repetitions):
                runs.append(run)
                if json_file:  # each time, so that what was measured is kept whatever comes
                    kept = report.document(description, scenarios, runs)
                    json_file.write_text(json.dumps(kept, indent=2, ensure_ascii=False))
    for scenario in scenarios:
        report.tell(console, scenario, [run for run in runs if run.scenario == scenario.name])


def _run(
    console: Console, world: World, scenario: Scenario, contenders: Sequence[Contender], repetitions: int
) -> Iterator[report.Run]:
    subjects = list(scenario.lineup(contenders))
    for repetition in range(repetitions):
        begin = repetition % len(subjects)
        for subject in [*subjects[begin:], *subjects[:begin]]:
            try:
                figures = scenario.measure(world, subject)
            except RuntimeError as error:  # a worker or a receiver that does not do what it should
                console.print(f"{scenario.name} {repetition + 1}, {subject.name}: FAILED: {error}", highlight=False)
                continue
            shown = ", ".join(f"{it.title} {figures[it.key]:,.{it.digits}f}" for it in scenario.figures)
            console.print(f"{scenario.name} {repetition + 1}, {subject.name}: {shown}", style="dim", soft_wrap=True)
            yield report.Run(scenario.name, subject.name, repetition, figures)


def _contenders(console: Console, names: Sequence[str]) -> Iterator[Contender]:
    for name in NAMES:
        if _is_wanted(name, names, NAMES):
            try:
                yield load(name)
            except ImportError as error:
                console.print(f"{name} is passed over: {error}. `pip install -e '.[bench]'` installs all but node.")


def _is_wanted(name: str, names: Sequence[str], of: Sequence[str] | dict[str, str]) -> bool:
    """Tell whether `--only` leaves a name, one of a group, in: so it is also where none of its group is named."""
    return name in names or not set(names) & set(of)


@contextmanager
def _world(directory: Path | None, database_url: str | None) -> Iterator[World]:
    with tempfile.TemporaryDirectory(dir=directory, prefix="outbox-benchmark-") as scratch:
        if database_url:
            with closing(World(ExternalServer(database_url), Path(scratch))) as world:
                yield world
            return
        with PostgresServer(parent_directory=Path(scratch), durable=True) as server:
            started: Server = server
            with closing(World(started, Path(scratch))) as world:
                yield world


if __name__ == "__main__":
    main(prog_name="python -m tests.benchmarks")
