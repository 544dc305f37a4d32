"""The benchmarks run, in miniature: what is counted is asserted, what is timed is not."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from tests.benchmarks import host, report
from tests.benchmarks.contenders import OURS, load
from tests.benchmarks.events import PAYLOAD_BYTES
from tests.benchmarks.receivers import Stamper
from tests.benchmarks.scenarios.drain import TRANSACTIONS_MAX, Drain
from tests.benchmarks.scenarios.host_inserts import PER_S, HostInserts
from tests.benchmarks.scenarios.latency import Latency
from tests.benchmarks.world import Server, World

FEW = host.Amount(each=5)


def test_a_drain_delivers_everything_once_in_few_transactions(server: Server, tmp_path: Path) -> None:
    drain = Drain(500, receiver=Stamper)
    with closing(World(server, tmp_path)) as world:
        figures = drain.measure(world, load(OURS))
    assert figures["requests"] == 1
    assert figures["transactions"] <= 2 * TRANSACTIONS_MAX  # a few hundred events have little to share
    assert figures["per_s"] > 0


def test_the_latency_has_a_stamp_for_every_commit(server: Server, tmp_path: Path) -> None:
    latency = Latency(3)
    with closing(World(server, tmp_path)) as world:
        figures = latency.measure(world, load(OURS))
    assert 0 < figures["p50_with_commit_ms"] <= figures["p99_with_commit_ms"]


def test_every_host_inserts_with_its_own_capture(server: Server, tmp_path: Path) -> None:
    inserts = HostInserts(FEW, backlog=20, receiver=Stamper)
    with closing(World(server, tmp_path)) as world:
        for subject in inserts.lineup([load(OURS)]):
            figures = inserts.measure(world, subject)
            assert all(figures[it.key] > 0 for it in PER_S.values()), subject.name


def test_the_hosts_trigger_is_an_adopters_and_captures_each_row(server: Server, tmp_path: Path) -> None:
    ours = load(OURS)
    with closing(World(server, tmp_path)) as world, world.stage(Stamper) as stage:
        ours.install(stage.place)
        host.install(stage.place.database_url, ours.trigger())
        load_ = host.insert(stage.place.database_url, stage.place.directory, clients=2, amount=FEW)
        with psycopg.connect(stage.place.database_url) as session:
            counts = session.execute(
                "select (select count(*) from outbox.event), (select count(*) from outbox.delivery),"
                " (select count(*) from outbox.capture_failure)"
            ).fetchone()
            sizes = session.execute("select min(length(payload::text)), max(length(payload::text)) from outbox.event")
            assert sizes.fetchone() == pytest.approx((PAYLOAD_BYTES, PAYLOAD_BYTES), abs=40)
    assert counts == (load_.count, load_.count, 0)


def test_a_ratio_is_taken_within_a_repetition() -> None:
    runs = [
        report.Run("drain", name, repetition, {"per_s": per_s})
        for name, speeds in ((OURS, (10.0, 100.0, 30.0)), ("peer", (5.0, 50.0, 10.0)))
        for repetition, per_s in enumerate(speeds)
    ]
    assert report.medians(runs) == {OURS: {"per_s": 30.0}, "peer": {"per_s": 10.0}}
    assert report.ratios(runs) == {"peer": {"per_s": 2.0}}
