"""`outbox-worker rounds`: work that comes every so often, when it was done last, and by whose word it rests."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from outbox_worker import configuration, logs
from outbox_worker.cli import authorship, options, output
from outbox_worker.configuration import Configuration
from outbox_worker.configuration.rounds import ASKS_INBOOST, identification, rounds_of
from outbox_worker.database import acts
from outbox_worker.database import rounds as database
from outbox_worker.database.acts import Deed
from outbox_worker.database.engine import session
from outbox_worker.database.round_states import RoundState
from outbox_worker.errors import NothingMatched
from outbox_worker.runtime.companion import end_with_parent
from outbox_worker.runtime.rounds import Round, Rounds, run_now

LIST_EPILOG = """\b
--json gives {"rounds": [...]}, of each: round, state (running, paused, off,
waiting, retrying), due_at (null: at once, or never), succeeded_at, began_at,
try_count (runs begun since it succeeded), done_count, failed_count,
crashed_count, paused_at, pause_reason, runs (the latest ones: planned_for,
began_at, ended_at, outcome, counts, error, recorder).
"""
RUN_EPILOG = """\b
Exit status: 0 done; 1 failed, or broken off by Ctrl-C (it may be run again at
any time); 2 usage; 3 it is being run elsewhere at this moment.

\b
--json gives one object: round, outcome (done, failed, stopped), counts, error.
"""
EPILOG = """\b
Exit status: 0 done; 1 nothing to do, for it is so already; 2 usage.

\b
--json gives one object: act, round, dry_run, outcome (done, would_be_done,
unchanged).
"""
RUNS_SHOWN = 5

Change = Callable[..., bool]

changing_options = options.together(
    click.argument("name", metavar="NAME"),
    options.configuration_option,
    options.reason_option,
    options.actor_option,
    options.dry_run_option,
    options.json_option,
)


@click.group()
def rounds() -> None:
    """List rounds, work that comes every so often; run one now, pause it, resume it.

    The workers run them, one worker each round at a time; which one, does not matter.
    """


@rounds.command(name="list", epilog=LIST_EPILOG)
@options.configuration_option
@options.json_option
def list_(configuration_file: Path | None, as_json: bool) -> None:
    """List rounds with when each was done last, and when it is due."""
    settings = configuration.load(configuration_file, to_deliver=False)
    known = {it.name: it for it in rounds_of(settings)}
    with session(settings.database.conninfo, "outbox-worker rounds") as connection:
        states = database.read(connection)
        latest = {it.round: database.runs(connection, it.round, RUNS_SHOWN) for it in states}
    if as_json:
        rows = [_as_data(it, known.get(it.round)) | {"runs": list(map(asdict, latest[it.round]))} for it in states]
        output.emit({"rounds": rows})
        return
    output.show_table(["round", "state", "done", "due", "last run"], (_row(it, known, latest) for it in states))


@rounds.command(epilog=RUN_EPILOG)
@click.argument("name", metavar="NAME")
@options.configuration_option
@options.reason_option
@options.actor_option
@options.json_option
@click.pass_context
def run(
    context: click.Context,
    name: str,
    configuration_file: Path | None,
    reason: str | None,
    actor: str | None,
    as_json: bool,
) -> None:
    """Run a round now, due or not, and also while it is paused. Ctrl-C breaks it off; what it did is kept."""
    by = authorship.instruction(actor, reason, dry_run=False)
    settings = configuration.load(configuration_file, to_deliver=name in ASKS_INBOOST)
    known = {it.name: it for it in rounds_of(settings)}
    if name not in known:
        raise click.UsageError(_unknown(settings, name, known))
    with session(settings.database.conninfo, "outbox-worker rounds run") as connection:
        acts.record(connection, by, [Deed("run", round=name)])
    with _stopping() as stop:
        ran = run_now(known[name], settings.database.conninfo, stop)
    if as_json:
        output.emit({"round": name, "outcome": ran.outcome, "counts": ran.counts, "error": ran.error})
    elif ran.outcome == "done":
        output.show(f"{name} is done{': ' * bool(ran.counts)}{_spoken(ran.counts)}")
    else:
        output.show(f"{name} {'failed: ' + ran.error if ran.error else 'was broken off; what it did is kept'}")
    context.exit(0 if ran.outcome == "done" else 1)


@rounds.command(epilog=EPILOG)
@changing_options
def pause(**words: Any) -> None:
    """Have the workers run a round no more until it is resumed. A run that is under way is not stopped."""
    _change("pause", "paused", database.pause, lambda it: it.paused_at is None, **words)


@rounds.command(epilog=EPILOG)
@changing_options
def resume(**words: Any) -> None:
    """Have the workers run a round again; what was missed meanwhile is made up for once."""
    _change("resume", "resumed", database.resume, lambda it: it.paused_at is not None, **words)


@rounds.command(hidden=True)
@options.configuration_option
def serve(configuration_file: Path | None) -> None:
    """Run rounds when they are due, and identify orders, until standard input is closed.

    `outbox-worker run` starts this itself.
    """
    settings = configuration.load(configuration_file)
    logs.configure(settings.log.format, settings.log.level, levels=settings.log.levels)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the worker, which tells us
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    end_with_parent(stop)
    identifies = threading.Thread(target=identification(settings, stop).run, name="identification")
    identifies.start()
    Rounds(rounds_of(settings), settings.database.conninfo, stop).run()
    identifies.join()


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Give an event that Ctrl-C sets; a second one interrupts at once."""
    stop = threading.Event()

    def heed(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, heed)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _change(
    act: str,
    done: str,
    change: Change,
    is_due: Callable[[RoundState], bool],
    *,
    name: str,
    configuration_file: Path | None,
    reason: str | None,
    actor: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    by = authorship.instruction(actor, reason, dry_run=dry_run)
    settings = configuration.load(configuration_file, to_deliver=False)
    with session(settings.database.conninfo, f"outbox-worker rounds {act}") as connection:
        states = {it.round: it for it in database.read(connection)}
        if name not in states:
            raise click.UsageError(f"no round is called {name}; there are {', '.join(states)}.")
        is_new = is_due(states[name]) if dry_run else change(connection, name, by)
    outcome = ("would_be_done" if dry_run else "done") if is_new else "unchanged"
    said = {"done": f"is {done}", "would_be_done": f"would be {done}", "unchanged": f"need not be {done}"}
    if as_json:
        output.emit({"act": act, "round": name, "dry_run": dry_run, "outcome": outcome})
    else:
        output.show(f"{name} {said[outcome]}")
    if not is_new:
        raise NothingMatched(f"there was nothing to {act}")


def _unknown(settings: Configuration, name: str, known: dict[str, Round]) -> str:
    with session(settings.database.conninfo, "outbox-worker rounds run") as connection:
        is_off = name in {it.round for it in database.read(connection)}
    if is_off:
        return f"{name} is switched off: [rounds.{name}] enabled in the settings."
    return f"no round is called {name}; there are {', '.join(known)}."


def _as_data(state: RoundState, known: Round | None) -> dict[str, Any]:
    row = asdict(state)
    for name in ("enabled_at", "done_for", "is_running", "read_at"):
        del row[name]
    return {"state": _state_of(state, known), "due_at": _due_at(state, known)} | row


def _state_of(state: RoundState, known: Round | None) -> str:
    if state.is_running:
        return "running"
    if state.paused_at is not None:
        return "paused"
    if known is None:
        return "off"
    return "retrying" if state.try_count else "waiting"


def _due_at(state: RoundState, known: Round | None) -> datetime | None:
    return None if known is None or state.paused_at is not None else known.due_at(state)


def _row(state: RoundState, known: dict[str, Round], latest: dict[str, list[database.Run]]) -> list[str]:
    what, due = _state_of(state, known.get(state.round)), _due_at(state, known.get(state.round))
    is_awaited = what in ("waiting", "retrying")
    return [
        state.round,
        what,
        output.ago(state.succeeded_at) if state.succeeded_at else "never",
        (output.when(due) if due and due > state.read_at else "now") if is_awaited else "-",
        _of_run(state, latest[state.round][:1]),
    ]


def _of_run(state: RoundState, latest: list[database.Run]) -> str:
    if state.pause_reason:
        return f"paused: {logs.clean(state.pause_reason)}"
    for run in latest:
        counts = _spoken({name: count for name, count in run.counts.items() if count})
        outcome = run.outcome or ("running" if state.is_running else "its worker is gone")
        return ": ".join(filter(None, (output.spoken(outcome), logs.clean(run.error or "") or counts)))
    return ""


def _spoken(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{output.spoken(name.removesuffix('_count'))} {count:,}" for name, count in counts.items())
