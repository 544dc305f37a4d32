"""`outbox-worker demo`: the whole job, done once before your eyes, and judged."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import click
from rich.console import Console

from outbox_worker.demo import books, clients, customers, purchases, sales, shop
from outbox_worker.demo.control import Summary
from outbox_worker.demo.faults import STRENGTHS
from outbox_worker.demo.progress import Observer, Progress
from outbox_worker.demo.screen import Screen, show_verdict
from outbox_worker.demo.verdict import COMPLAINTS, Verdict, judge
from outbox_worker.demo.world import World, describe, last_error, world
from outbox_worker.errors import VerdictFailed

LOOK_EVERY_S = 0.4
INTERRUPTED = 130  # what a shell says of a command that Ctrl-C ended


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line."""

    purchases_file: Path | None
    count: int
    seed: int
    faults: str
    rate: float
    patience: float
    deduplicate: bool
    keep: bool


@click.command()
@click.option(
    "--purchases",
    "purchases_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A CSV file: customer_id, date, quantity, amount [default: drawn from the distributions of CDNOW].",
)
@click.option("--count", default=2_000, show_default=True, type=click.IntRange(1), help="Purchases to replay.")
@click.option("--seed", default=1, show_default=True, help="Same seed, same shop.")
@click.option(
    "--faults",
    default="some",
    show_default=True,
    type=click.Choice([*STRENGTHS]),
    help="How bad the network is. Many may take two minutes: who buys often waits often.",
)
@click.option(
    "--rate",
    default=100.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Sales per second; 0: as fast as it goes.",
)
@click.option(
    "--patience",
    default=120.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds for the rest, once all is sold.",
)
@click.option(
    "--deduplicate/--no-deduplicate",
    default=True,
    help="Whether InBoost ignores an event id that it had. If not, the verdict must fail.",
)
@click.option("--keep", is_flag=True, help="Leave everything running until Ctrl-C, and tell how to look at it.")
@click.pass_context
def demo(context: click.Context, /, **words: Any) -> None:
    """See the whole job done in a minute, and judged.

    Starts a PostgreSQL of its own, an accounting system with a bonus programme, a stand-in for InBoost that loses
    answers, throttles and hangs, and the worker between them. Replays purchases, and then holds the stand-in's ledger
    against the accounting tables; at the end customers and clients are synced. Exit status 1 unless nothing was lost,
    doubled, out of order, or otherwise wrong.
    Nothing is left behind.
    """
    options = Options(**words)
    try:
        play(options, Console())
    except KeyboardInterrupt:
        context.exit(INTERRUPTED)


def play(options: Options, console: Console) -> None:
    """Set the stage, play, judge. Raises VerdictFailed."""
    began_s = monotonic()
    planned = sales.plan(_purchases(options), options.seed)
    with world(STRENGTHS[options.faults], options.seed, deduplicate=options.deduplicate) as stage:
        customer_ids = _invite(stage, planned, options.seed)
        _say_ready(console, monotonic() - began_s, len(customer_ids), options.faults)
        with shop.Replay(stage.shop_url, planned, customer_ids, rate=options.rate) as replay:
            last = _watch(stage, replay, len(planned), Screen(console), options.patience)
        verdict = _judge(stage)
        sentence = _sentence(verdict, last, stage.control.summary())
        _tell(stage, console, verdict, last, sentence)
        synced = _sync(stage, console) if verdict.is_clean else None
        if options.keep:
            _keep(stage, console)
    if not verdict.is_clean:
        raise VerdictFailed(sentence)
    if synced is not None and not synced.is_right:
        raise VerdictFailed(str(synced))


def _purchases(options: Options) -> list[purchases.Purchase]:
    if options.purchases_file is None:
        return purchases.generate(options.seed, options.count)
    return purchases.read(options.purchases_file, options.count)


def _invite(stage: World, planned: Sequence[sales.Sale], seed: int) -> dict[str, int]:
    """Make everybody who will buy a customer of accounting and a client of InBoost."""
    invited = customers.invent((sale.customer for sale in planned if sale.customer is not None), seed)
    stage.control.register(customer.phone for customer in invited.values())
    return shop.register(stage.shop_url, invited.values(), sales.discreet(planned))


def _say_ready(console: Console, took_s: float, customer_count: int, faults: str) -> None:
    console.print(
        f"PostgreSQL, accounting, InBoost's stand-in and the worker are up after {took_s:.1f} s. "
        f"Customers: {customer_count:,}. Faults: {faults}.",
        highlight=False,
        soft_wrap=True,
    )


def _watch(stage: World, replay: shop.Replay, sale_count: int, screen: Screen, patience_s: float) -> Progress:
    """Show how it goes until all is sold and delivered, or patience ends; return the last look."""
    observer = Observer(stage.worker_url, stage.control, replay, sale_count)
    give_up_at_s = inf
    with screen:
        while True:
            stage.processes.check()
            all_sold = replay.is_over()  # asked before the look, so that the look sees everything that was sold
            progress = observer.look()
            if all_sold:
                give_up_at_s = min(give_up_at_s, monotonic() + patience_s)
            is_last = all_sold and (progress.is_settled or monotonic() >= give_up_at_s)
            screen.show(progress, is_last=is_last)
            if is_last:
                return progress
            sleep(LOOK_EVERY_S)


def _judge(stage: World) -> Verdict:
    """Ask accounting with its own rights, and InBoost's stand-in; ask the outbox nothing."""
    found = books.read(stage.shop_url)
    return judge(found, stage.control.ledger(found.balances))


def _sentence(verdict: Verdict, last: Progress, summary: Summary) -> str:
    faults = sum(sum(counts.faults.values()) for counts in summary.operations.values())
    refused = sum(counts.duplicates for counts in summary.operations.values())
    counts = ", ".join(f"{verdict.total(word) or 'none'} {word}" for word in COMPLAINTS)
    return (
        f"{verdict.expected['add_purchase']:,} purchases called for {verdict.expected.total():,} effects: {counts}; "
        f"{verdict.contact_count:,} orders with another phone or an e-mail address alone reached their buyer's client; "
        f"{faults:,} faults, {refused:,} repetitions that InBoost recognised, {last.elapsed_s:.0f} s."
    )


def _tell(stage: World, console: Console, verdict: Verdict, last: Progress, sentence: str) -> None:
    """Show the verdict; the sentence of one that fails is what the command ends with."""
    if not last.is_settled:
        console.print(f"Patience has ended. The worker's last error: {last_error(stage)}", soft_wrap=True)
    show_verdict(console, verdict)
    if verdict.is_clean:
        console.print(sentence, style="bold", highlight=False, soft_wrap=True)


def _sync(stage: World, console: Console) -> clients.Synced:
    """Bring clients and customers together, once, and tell what came of it."""
    synced = clients.sync(stage)
    if synced.is_right:
        console.print(str(synced), highlight=False, soft_wrap=True)
    return synced


def _keep(stage: World, console: Console) -> None:
    """Leave it running until Ctrl-C, or until a part of it ends."""
    console.print("\nEverything keeps running until Ctrl-C. To look at it:", highlight=False)
    for name, place in describe(stage):
        console.print(f"  {name:<14}{place}", highlight=False, soft_wrap=True)
    with suppress(KeyboardInterrupt):
        while True:
            stage.processes.check()
            sleep(LOOK_EVERY_S)
