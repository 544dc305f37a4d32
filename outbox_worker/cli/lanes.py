"""`outbox-worker lanes`: which customers wait, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from outbox_worker import configuration, logs
from outbox_worker.cli import authorship, options, output
from outbox_worker.cli.advice import Advice, Circumstances, advise
from outbox_worker.cli.story import circumstances
from outbox_worker.configuration import Configuration
from outbox_worker.database import destinations
from outbox_worker.database import lanes as database
from outbox_worker.database.acts import Instruction
from outbox_worker.database.deliveries import Delivery
from outbox_worker.database.engine import session
from outbox_worker.database.events import Fate
from outbox_worker.database.lanes import Lane
from outbox_worker.errors import NothingMatched

BATCH = 500  # lanes released in one transaction
SHOWN = 20  # lanes named one by one

EPILOG = """\b
Exit status: 0, or 1 if nobody waits.

\b
--json gives {"lanes": [...]}, of each: customer_id, destination, event_id,
operation, state, reason, attempt_count, due_at, since (when the event was
recorded that blocks the lane), behind_count, and advice: sentence, commands.
"""

RELEASE_EPILOG = """\b
Exit status: 0 all was released, 1 nobody waits for a client, 2 usage.

\b
--json gives one object: act, dry_run, lanes: of each customer_id, destination,
event_id and operation (of the first that waited), released_count.
"""


@click.group(invoke_without_command=True, epilog=EPILOG)
@options.configuration_option
@options.customer_option
@options.destination_option
@options.limit_option
@options.json_option
@click.pass_context
def lanes(context: click.Context, /, **words: Any) -> None:
    """Tell which customers wait, the longest first: for what, how many deliveries behind it, what to do next.

    A lane is the deliveries of one customer to one destination, in order. New ones that are on their way as they should
    be are not shown.
    """
    if context.invoked_subcommand is None:
        _list(**words)


def _list(
    *,
    configuration_file: Path | None,
    customer_id: str | None,
    destination: str | None,
    limit: int,
    as_json: bool,
) -> None:
    settings = configuration.load(configuration_file, to_deliver=False)
    with session(settings.database.conninfo, "outbox-worker lanes") as connection:
        found = database.stopped(
            connection,
            settings.relay.blocking_states,
            customer_id=customer_id,
            destination=destination,
            count_max=limit,
        )
        around = circumstances(settings, destinations.read(connection))
    if as_json:
        output.emit({"lanes": [_as_data(lane, around) for lane in found]})
    if not found:
        raise NothingMatched("nobody waits")
    if not as_json:
        _show(found, around)


def _show(found: Sequence[Lane], around: Circumstances) -> None:
    by_advice: dict[Advice, list[Lane]] = {}
    for lane in found:
        by_advice.setdefault(_advice(lane, around), []).append(lane)
    for advice, lanes in by_advice.items():
        for lane in lanes:
            output.show(_line(lane))
        output.show(advice.sentence, indent=2)
        for command in advice.commands:
            output.show_command(command, indent=4)


def _line(lane: Lane) -> Text:
    head = lane.head
    customer = f"customer {head.customer_id}" if head.customer_id is not None else "no customer"
    return Text.assemble(
        (customer, "bold"),
        f" at {head.destination} since {output.when(head.recorded_at)}: {head.event_id} {head.operation} is ",
        f"{_state_of(head)}; {lane.behind_count:,} behind",
    )


def _advice(lane: Lane, around: Circumstances) -> Advice:
    head = lane.head
    return advise(Fate(head.operation, head.destination, head), around)


def _as_data(lane: Lane, around: Circumstances) -> dict[str, Any]:
    head = lane.head
    return {
        "customer_id": head.customer_id,
        "destination": head.destination,
        "event_id": head.event_id,
        "operation": head.operation,
        "state": head.state,
        "reason": head.reason,
        "attempt_count": head.attempt_count,
        "due_at": head.due_at,
        "since": head.recorded_at,
        "behind_count": lane.behind_count,
        "advice": asdict(_advice(lane, around)),
    }


@lanes.command(epilog=RELEASE_EPILOG)
@options.configuration_option
@options.customer_option
@click.option("--all", "everything", is_flag=True, help="Of all customers.")
@options.reason_option
@options.actor_option
@options.dry_run_option
@options.yes_option
@options.json_option
@click.pass_context
def release(context: click.Context, /, configuration_file: Path | None, **words: Any) -> None:
    """Let deliveries go on that wait for their client, once you have mended the client.

    If InBoost still does not know it, they wait again.
    """
    named_before = context.parent.params["configuration_file"] if context.parent else None
    _release(configuration.load(configuration_file or named_before, to_deliver=False), **words)


def _release(
    settings: Configuration,
    *,
    customer_id: str | None,
    everything: bool,
    reason: str | None,
    actor: str | None,
    dry_run: bool,
    is_sure: bool,
    as_json: bool,
) -> None:
    by = authorship.instruction(actor, reason, dry_run=dry_run)
    if (customer_id is None) != everything:
        raise click.UsageError("Say --customer ID, or --all.")
    with session(settings.database.conninfo, "outbox-worker lanes release") as connection:
        found = database.awaiting_client(connection, settings.relay.blocking_states, customer_id)
    if not dry_run:
        question = f"Release {output.counted(len(found), 'lane')}?"
        options.confirm_many(question, len(found), is_sure=is_sure or customer_id is not None)
        found = [lane for released in _released(settings, found, by) for lane in released]
    if as_json:
        output.emit({"act": "release", "dry_run": dry_run, "lanes": [_released_as_data(lane) for lane in found]})
    if not found:
        raise NothingMatched("nobody waits for a client")
    if not as_json:
        _show_released(found, dry_run=dry_run)


def _released(settings: Configuration, found: Sequence[Lane], by: Instruction) -> Iterator[list[Lane]]:
    rest = iter(found)
    while batch := list(islice(rest, BATCH)):
        with session(settings.database.conninfo, "outbox-worker lanes release") as connection:
            released = database.release(connection, batch, by, settings.relay.blocking_states)
        yield released


def _show_released(found: Sequence[Lane], *, dry_run: bool) -> None:
    for lane in found[:SHOWN]:
        count = output.counted(lane.behind_count + 1, "delivery", "deliveries")
        said = "would be released" if dry_run else "released"
        output.show(f"customer {lane.head.customer_id or '(none)'} at {lane.head.destination}: {count} {said}")
    if len(found) > SHOWN:
        output.show(f"… {output.counted(len(found), 'lane')} in all")


def _released_as_data(lane: Lane) -> dict[str, Any]:
    return {
        "customer_id": lane.head.customer_id,
        "destination": lane.head.destination,
        "event_id": lane.head.event_id,
        "operation": lane.head.operation,
        "released_count": lane.behind_count + 1,
    }


def _state_of(delivery: Delivery) -> str:
    """Write the state of a delivery with its reason."""
    state = "being sent" if delivery.claimed_at is not None else output.spoken(delivery.state)
    return f"{state}: {logs.clean(delivery.reason)}" if delivery.reason else state
