"""What the demo shows: a table that lives, or plain lines where nobody sees it live; then the verdict.

A terminal without NO_COLOR (no-color.org) gets the table.
"""

from __future__ import annotations

import os
from time import monotonic
from types import TracebackType
from typing import Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from outbox_worker.demo.progress import Progress
from outbox_worker.demo.shop import SESSIONS
from outbox_worker.demo.verdict import COMPLAINTS, OPERATIONS, Verdict

LINE_EVERY_S = 3.0


class Screen:
    """Shows one look after the other."""

    def __init__(self, console: Console) -> None:
        self._console = console
        is_alive = console.is_terminal and not os.environ.get("NO_COLOR")
        self._live = Live(console=console, auto_refresh=False) if is_alive else None
        self._line_at_s = 0.0

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, progress: Progress, *, is_last: bool = False) -> None:
        """Show a look; of plain lines one every few seconds, and the last."""
        if self._live:
            self._live.update(_table(progress), refresh=True)
        elif is_last or monotonic() >= self._line_at_s:
            self._line_at_s = monotonic() + LINE_EVERY_S
            self._console.print(_line(progress), highlight=False, soft_wrap=True)


def show_verdict(console: Console, verdict: Verdict) -> None:
    """Show what accounting expects of InBoost, what InBoost did, and everything that is wrong."""
    table = Table(box=SIMPLE_HEAD, padding=0)  # a space between columns: it must fit into 80
    table.add_column(no_wrap=True)
    for heading in ("expected", "effects", *COMPLAINTS):
        table.add_column(heading.replace("of ", "of\n"), justify="right")
    for operation in sorted({*OPERATIONS, *verdict.arrived}, key=_place):
        counts = [verdict.counts[word][operation] for word in COMPLAINTS]
        table.add_row(
            operation, f"{verdict.expected[operation]:,}", f"{verdict.arrived[operation]:,}", *_marked(counts)
        )
    table.add_section()
    totals = [verdict.total(word) for word in COMPLAINTS]
    table.add_row("all", f"{verdict.expected.total():,}", f"{verdict.arrived.total():,}", *_marked(totals))
    console.print(table)
    _show_count(console, "customers and destinations with two requests in flight", verdict.overlapping_lanes)
    _show_count(console, "customers whose balance or purchases differ in the end", verdict.differing_customers)
    for example in verdict.examples:
        console.print(f"  {example}", style="red", highlight=False)


def _show_count(console: Console, what: str, count: int) -> None:
    console.print(Text.assemble(f"{what}: ", *_marked([count])))


def _place(operation: str) -> tuple[int, str]:
    return (OPERATIONS.index(operation) if operation in OPERATIONS else len(OPERATIONS)), operation


def _marked(counts: list[int]) -> list[Text]:
    return [Text(f"{count:,}", style="bold red" if count else "green") for count in counts]


def _table(progress: Progress) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(justify="right", min_width=8)
    table.add_column(style="dim")
    for row in (
        ("committed", f"{progress.committed_count:,}", f"of {progress.sale_count:,} sales, in {SESSIONS} sessions"),
        ("captured", f"{progress.event_count:,}", "events, each in the transaction of its fact"),
        ("delivered", f"{progress.delivered_count:,}", f"and {progress.pending_count:,} on the way"),
        ("retried", f"{progress.retried_count:,}", "attempts made again"),
        ("in doubt", f"{progress.in_doubt_count:,}", f"now, of {progress.doubt_count:,} whose answer was lost"),
        ("held", f"{progress.held_count:,}", f"for a person; dead {progress.dead_count:,}"),
        ("lag", f"{progress.lag_s:.1f} s", "since the oldest that is due"),
        ("latency", _ms(progress.latency_ms_p50), "half of all, from commit to effect"),
        ("", _ms(progress.latency_ms_p95), "95 %"),
        ("", _ms(progress.latency_ms_p99), "99 %, faults and all"),
        ("time", f"{progress.elapsed_s:.0f} s", ""),
    ):
        table.add_row(*row)
    return table


def _line(progress: Progress) -> str:
    return (
        f"{progress.elapsed_s:3.0f} s: {progress.committed_count} of {progress.sale_count} sales committed, "
        f"{progress.event_count} events captured, {progress.delivered_count} delivered, "
        f"{progress.pending_count} pending, {progress.retried_count} retried, {progress.in_doubt_count} in doubt, "
        f"{progress.held_count} held, lag {progress.lag_s:.1f} s, "
        f"latency p50 {_ms(progress.latency_ms_p50)}, p99 {_ms(progress.latency_ms_p99)}"
    )


def _ms(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "-"
    return f"{milliseconds:.1f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"
