"""The benchmarks run, in miniature: what is counted is asserted, what is timed is not."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import psycopg
import pytest
from click.testing import CliRunner

from outbox_worker.database import schema
from outbox_worker.demo.postgres import PostgresServer
from tests.benchmarks import host, report, table
from tests.benchmarks.contenders import OURS, ROOT, Place, load
from tests.benchmarks.contenders.outbox_worker import OutboxWorker
from tests.benchmarks.events import CUSTOMERS, PAYLOAD_BYTES
from tests.benchmarks.receivers import SlowStamper, Stamper
from tests.benchmarks.scenarios import Scenario, catalogue
from tests.benchmarks.scenarios.bulk_load import BulkLoad
from tests.benchmarks.scenarios.catalogue import KINDS, NAMES, Sizes, scenarios
from tests.benchmarks.scenarios.customer_sync import CustomerSync
from tests.benchmarks.scenarios.drain import Drain
from tests.benchmarks.scenarios.held_snapshot import HeldSnapshot
from tests.benchmarks.scenarios.host_inserts import PER_S, HostInserts
from tests.benchmarks.scenarios.host_latency import HostLatency
from tests.benchmarks.scenarios.identify import Identify
from tests.benchmarks.scenarios.idle import Idle, statement_count
from tests.benchmarks.scenarios.large_backlog import LargeBacklog
from tests.benchmarks.scenarios.large_customer import LargeCustomer
from tests.benchmarks.scenarios.latency import Latency
from tests.benchmarks.scenarios.loaded_latency import LoadedLatency
from tests.benchmarks.scenarios.workers import Workers, out_of_order_count
from tests.benchmarks.world import Server, World

FEW = host.Amount(each=5)


def test_a_drain_delivers_everything_once(server: Server, tmp_path: Path) -> None:
    """How many transactions it takes is measured and not bounded here: answers that come one by one take a turn each.

    `tests/runtime/test_relay.py` has the promise: however many have come, they are one transaction.
    """
    drain = Drain(500, receiver=Stamper)
    with closing(World(server, tmp_path)) as world:
        figures = drain.measure(world, load(OURS))
    assert figures["requests"] == 1
    assert min(figures["transactions"], figures["per_s"]) > 0


class Ours(OutboxWorker):
    """Ours, its schema installed by this process: starting one for it is what takes the time here."""

    def install(self, place: Place) -> None:
        with psycopg.connect(place.database_url, autocommit=True) as session:
            schema.install(session)


OURS_HERE = Ours(OURS, ROOT)


def measured(scenario: Scenario, server: Server, directory: Path) -> dict[str, dict[str, float]]:
    """Return the figures of each of the scenario's line-up, among the contenders only ours."""
    with closing(World(server, directory)) as world:
        return {it.name: scenario.measure(world, it) for it in scenario.lineup([OURS_HERE])}


def test_an_idle_worker_and_its_sessions_are_watched(server: Server, tmp_path: Path) -> None:
    figures = measured(Idle(0.5, settle_s=2), server, tmp_path)[OURS]
    assert 0 <= figures["worker_percent"] <= figures["percent"]


def test_every_statement_of_an_idle_workers_database_is_counted(own_server: PostgresServer) -> None:
    before = statement_count(own_server.log)
    with psycopg.connect(own_server.url(), options="-c log_statement=all", autocommit=True) as session:
        session.execute("select 1")
        session.execute("select %s::int", [1])
    assert statement_count(own_server.log) - before == 2


@pytest.mark.long
def test_the_host_inserts_beside_a_worker_that_drains(server: Server, tmp_path: Path) -> None:
    figures = measured(HostLatency(FEW, 50, Stamper), server, tmp_path)[OURS]
    assert 0 < figures["p50_beside_ms"] <= figures["p99_beside_ms"]


def test_a_large_backlog_has_a_first_and_a_last_tenth(server: Server, tmp_path: Path) -> None:
    figures = measured(LargeBacklog(2000, SlowStamper), server, tmp_path)[OURS]
    assert min(figures.values()) > 0


@pytest.mark.long
def test_others_are_not_behind_one_customer_whose_many_events_came_first(server: Server, tmp_path: Path) -> None:
    figures = measured(LargeCustomer(300, 200, after_s=0.5), server, tmp_path)[OURS]
    assert figures["speed"] <= 1.1, "two requests of one customer were under way at once"
    assert figures["beside_per_s"] > 3 * figures["one_beside_per_s"]


@pytest.mark.long
def test_several_workers_keep_the_order_of_each_customer(server: Server, tmp_path: Path) -> None:
    figures = measured(Workers(3 * CUSTOMERS // 2, counts=(2,)), server, tmp_path)[f"{OURS} × 2"]
    assert (figures["requests"], figures["out_of_order"]) == (1, 0)


def test_a_request_before_the_answer_to_the_one_before_is_out_of_order() -> None:
    late_ns = SlowStamper.delay_ms * 1_000_000
    assert out_of_order_count({1: 0, 1 + CUSTOMERS: late_ns, 1 + 2 * CUSTOMERS: late_ns + 1, 2 + CUSTOMERS: 0}) == 1


def test_a_bulk_load_holds_nobody_up(server: Server, tmp_path: Path) -> None:
    figures = measured(BulkLoad(50), server, tmp_path)
    assert figures[OURS]["held_up"] == figures[OURS]["strong_locks"] == 0
    assert figures[OURS]["wal_bytes"] > figures["no trigger"]["wal_bytes"]


@pytest.mark.long
def test_what_is_recorded_under_a_held_snapshot_arrives(server: Server, tmp_path: Path) -> None:
    figures = measured(HeldSnapshot(1, warm_up_s=0), server, tmp_path)[OURS]
    assert figures["first_per_s"] > 0


@pytest.mark.long
def test_the_latency_under_load_is_that_of_the_hosts_rows(server: Server, tmp_path: Path) -> None:
    figures = measured(LoadedLatency(FEW), server, tmp_path)[OURS]
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]


@pytest.mark.long
def test_a_sync_of_customers_changes_those_that_changed(server: Server, tmp_path: Path) -> None:
    syncs = CustomerSync(3_000, idle_commits=3)
    with closing(World(server, tmp_path)) as world:
        ours, row_by_row = (syncs.measure(world, subject) for subject in syncs.lineup([load(OURS)]))
    assert (ours["changed"], row_by_row["changed"]) == (30, 1_000)
    assert min(ours["per_s"], row_by_row["per_s"], ours["slowdown"]) > 0


def test_the_catalogue_has_every_scenario_once() -> None:
    assert [type(it) for it in scenarios(Sizes())] == list(KINDS)
    assert len(set(NAMES)) == len(KINDS) == len(list(Path(catalogue.__file__).parent.glob("[a-z]*.py"))) - 1


def test_the_latency_has_a_stamp_for_every_commit(server: Server, tmp_path: Path) -> None:
    figures = measured(Latency(3), server, tmp_path)[OURS]
    assert 0 < figures["p50_with_commit_ms"] <= figures["p99_with_commit_ms"]


@pytest.mark.long
def test_every_host_inserts_with_its_own_capture(server: Server, tmp_path: Path) -> None:
    figures = measured(HostInserts(FEW, backlog=20, receiver=Stamper), server, tmp_path)
    assert all(row[it.key] > 0 for row in figures.values() for it in PER_S.values())


def test_the_hosts_trigger_is_an_adopters_and_captures_each_row(server: Server, tmp_path: Path) -> None:
    with closing(World(server, tmp_path)) as world, world.stage(Stamper) as stage:
        OURS_HERE.install(stage.place)
        host.install(stage.place.database_url, OURS_HERE.trigger())
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


def drains(path: Path, ours_per_s: float, peer_per_s: float) -> Path:
    """Keep a drain of two, as the command would, at so many deliveries per second."""
    drain = Drain(10)
    runs = [
        report.Run(drain.name, name, 0, {it.key: 1.0 for it in drain.figures} | {"per_s": per_s})
        for name, per_s in ((OURS, ours_per_s), ("pg-boss", peer_per_s))
    ]
    path.write_text(json.dumps(report.document({"machine": "this one"}, [drain], runs)))
    return path


def test_the_runs_of_several_files_are_repetitions_of_each_other(tmp_path: Path) -> None:
    files = [drains(tmp_path / f"{number}.json", per_s, 20.0) for number, per_s in enumerate((10.0, 30.0, 40.0))]
    told = CliRunner().invoke(table.main, [*map(str, files), "--plot", str(tmp_path / "all.svg")]).output
    assert "| deliveries per second: ahead of the best peer | 30 | pg-boss: 20 | met |" in told
    assert "machine this one" in told
    drawn = ElementTree.parse(tmp_path / "all.svg").getroot()  # noqa: S314  # ours
    texts = [it.text for it in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {OURS, "pg-boss", "30", "20"} < set(texts)


def test_a_goal_that_is_not_reached_is_said_to_be_missed(tmp_path: Path) -> None:
    told = CliRunner().invoke(table.main, [str(drains(tmp_path / "1.json", 10.0, 20.0))]).output
    assert "| deliveries per second: ahead of the best peer | 10 | pg-boss: 20 | **missed** |" in told


def test_identify_is_measured_for_what_is_known_for_what_is_new_and_for_large_clusters(
    server: Server, tmp_path: Path
) -> None:
    scenario = Identify(0.2, contacts=50)
    with closing(World(server, tmp_path)) as world:
        figures = scenario.measure(world, next(iter(scenario.lineup([]))))
    assert sorted(figures) == sorted(it.key for it in scenario.figures)
    assert all(it > 0 for it in figures.values())


def test_the_readme_shows_what_the_kept_runs_say(tmp_path: Path) -> None:
    here = Path(__file__).parent
    kept = sorted(map(str, (here / "measured").glob("*.json")))
    told = CliRunner().invoke(table.main, [*kept, "--plot", str(tmp_path / "all.svg")]).output
    assert told.strip() in (ROOT / "README.md").read_text(), "run the command that stands above the README's table"
    assert (here / "benchmarks.svg").read_text() == (tmp_path / "all.svg").read_text()
