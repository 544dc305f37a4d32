"""The figures as a picture: one panel of bars for each, SVG without any library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from statistics import median

from tests.benchmarks.contenders import NAMES, OURS
from tests.benchmarks.scenarios import Medians
from tests.benchmarks.scenarios.host_inserts import ONE_ROW

WIDTH, BAR, GAP, LABEL, MARGIN = 420, 14, 5, 190, 16
COLUMNS = 2
FAR = 4.0  # a bar of more than so many times the middle one is cut off; its figure says how long it is
COLOURS = {OURS: "#1f6feb", ONE_ROW: "#57606a"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One figure of one scenario, for all that were measured."""

    scenario: str
    key: str
    title: str
    more_is_better: bool = False
    digits: int = 0


PANELS = (
    Panel("drain", "per_s", "Deliveries per second (more is better)", more_is_better=True),
    Panel("host inserts", "per_s_32", "Host inserts per s, 32 clients (more is better)", more_is_better=True),
    Panel("drain", "worker_us", "Worker processor time per delivery, µs (less is better)"),
    Panel("drain", "server_us", "PostgreSQL processor time per delivery, µs (less)"),
    Panel("latency", "p50_ms", "Commit to request, idle worker, p50 in ms (less)", digits=2),
    Panel("drain", "wal_bytes", "WAL per event captured and delivered, bytes (less)"),
)


def svg(medians: Mapping[str, Medians]) -> str:
    """Draw every panel that there are figures for."""
    panels = [(panel, _rows(panel, medians[panel.scenario])) for panel in PANELS if panel.scenario in medians]
    lines, top = [], MARGIN
    for begin in range(0, len(panels), COLUMNS):
        beside = panels[begin : begin + COLUMNS]
        for column, (panel, rows) in enumerate(beside):
            lines += _panel(panel, rows, MARGIN + column * (WIDTH + MARGIN), top)
        top += max(_height(rows) for _, rows in beside) + MARGIN
    width = MARGIN + COLUMNS * (WIDTH + MARGIN)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top}" viewBox="0 0 {width} {top}"'
    style = ' font-family="sans-serif" font-size="11">'
    return "\n".join([head + style, '<rect width="100%" height="100%" fill="white"/>', *lines, "</svg>", ""])


def _rows(panel: Panel, medians: Medians) -> list[tuple[str, float]]:
    shown = [(name, row[panel.key]) for name, row in medians.items() if name in NAMES or name == ONE_ROW]
    return sorted(shown, key=lambda row: row[1], reverse=panel.more_is_better)


def _height(rows: list[tuple[str, float]]) -> int:
    return 24 + len(rows) * (BAR + GAP)


def _panel(panel: Panel, rows: list[tuple[str, float]], left: int, top: int) -> Iterator[str]:
    far = FAR * median(value for _, value in rows)
    longest = max(min(value, far) for _, value in rows)
    room = WIDTH - LABEL - 60
    yield f'<text x="{left}" y="{top + 12}" font-weight="bold">{escape(panel.title)}</text>'
    for number, (name, value) in enumerate(rows):
        y, start = top + 24 + number * (BAR + GAP), left + LABEL
        length = max(1.0, min(value, far) / longest * room)
        colour, weight = COLOURS.get(name, "#a8b1bb"), "bold" if name == OURS else "normal"
        cut = " …" if value > far else ""
        yield f'<text x="{start - 6}" y="{y + 11}" text-anchor="end" font-weight="{weight}">{escape(name)}</text>'
        yield f'<rect x="{start}" y="{y}" width="{length:.0f}" height="{BAR}" fill="{colour}"/>'
        yield f'<text x="{start + length + 4:.0f}" y="{y + 11}">{value:,.{panel.digits}f}{cut}</text>'
