"""The benchmarks run, in miniature: what is counted is asserted, what is timed is not."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from tests.benchmarks import report
from tests.benchmarks.contenders import OURS, load
from tests.benchmarks.receivers import Stamper
from tests.benchmarks.scenarios.drain import TRANSACTIONS_MAX, Drain
from tests.benchmarks.scenarios.latency import Latency
from tests.benchmarks.world import Server, World


def test_a_drain_delivers_everything_once_in_few_transactions(server: Server, tmp_path: Path) -> None:
    drain = Drain(500, receiver=lambda _: Stamper())
    with closing(World(server, tmp_path)) as world:
        figures = drain.measure(world, load(OURS))
    assert figures["requests"] == 1
    assert figures["transactions"] <= TRANSACTIONS_MAX
    assert figures["per_s"] > 0


def test_the_latency_has_a_stamp_for_every_commit(server: Server, tmp_path: Path) -> None:
    latency = Latency(3)
    with closing(World(server, tmp_path)) as world:
        figures = latency.measure(world, load(OURS))
    assert 0 < figures["p50_with_commit_ms"] <= figures["p99_with_commit_ms"]


def test_a_ratio_is_taken_within_a_repetition() -> None:
    runs = [
        report.Run("drain", name, repetition, {"per_s": per_s})
        for name, speeds in ((OURS, (10.0, 100.0, 30.0)), ("peer", (5.0, 50.0, 10.0)))
        for repetition, per_s in enumerate(speeds)
    ]
    assert report.medians(runs) == {OURS: {"per_s": 30.0}, "peer": {"per_s": 10.0}}
    assert report.ratios(runs) == {"peer": {"per_s": 2.0}}
