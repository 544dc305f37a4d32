"""What the demo shows, on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from outbox_worker.demo.progress import Progress
from outbox_worker.demo.screen import Screen, show_verdict
from outbox_worker.demo.verdict import OPERATIONS, Verdict

PROGRESS = Progress(
    elapsed_s=12.0,
    sale_count=2_000,
    committed_count=1_200,
    event_count=4_000,
    delivered_count=5_000,
    retried_count=77,
    doubt_count=66,
    in_doubt_count=3,
    pending_count=20,
    held_count=2,
    dead_count=1,
    waiting_count=0,
    unidentified_count=0,
    lag_s=0.5,
    latency_ms_p50=2.25,
    latency_ms_p95=None,
    latency_ms_p99=2_500.0,
)


@pytest.fixture(autouse=True)
def _colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    return Console(file=written, force_terminal=terminal, width=80), written


def test_a_terminal_sees_a_table_that_lives() -> None:
    screen, written = console(terminal=True)
    with Screen(screen) as shown:
        shown.show(PROGRESS)
        shown.show(PROGRESS)
    for words in ("1,200", "of 2,000 sales", "4,000", "5,000", "77", "of 66", "0.5 s", "2.2 ms", "2.5 s"):
        assert words in written.getvalue()
    assert "\x1b[1A" in written.getvalue()  # it goes back up, to write over what it wrote


@pytest.mark.parametrize("terminal", [True, False])
def test_without_colours_or_without_a_terminal_there_are_lines_and_not_too_many(
    monkeypatch: pytest.MonkeyPatch, *, terminal: bool
) -> None:
    if terminal:
        monkeypatch.setenv("NO_COLOR", "1")
    screen, written = console(terminal=terminal)
    with Screen(screen) as shown:
        for _ in range(5):
            shown.show(PROGRESS)
        shown.show(PROGRESS, is_last=True)
    lines = written.getvalue().splitlines()
    assert len(lines) == 2
    assert "\x1b" not in written.getvalue()
    assert lines[0] == (
        " 12 s: 1200 of 2000 sales committed, 4000 events captured, 5000 delivered, 20 pending, 77 retried, "
        "3 in doubt, 2 held, lag 0.5 s, latency p50 2.2 ms, p99 2.5 s"
    )


def test_the_verdict_fits_on_eighty_columns() -> None:
    verdict = Verdict(overlapping_lanes=1)
    for operation in OPERATIONS:
        verdict.expected[operation] = verdict.arrived[operation] = 10_000
    verdict.complain("out of order", "add_purchase", "7 of +380*******67")
    screen, written = console(terminal=False)
    show_verdict(screen, verdict)
    text = written.getvalue()
    assert "…" not in text
    for words in ("duplicated", "redemption_webhook", "50,000", "out of order: add_purchase 7 of +380*******67"):
        assert words in text
    assert "two requests in flight: 1" in text
