"""What a worker's process loads: all that it does not is time at its start, and memory for as long as it lives."""

from __future__ import annotations

import requests

from tests.scenarios.world import World

OF_OTHERS = {"aiohttp", "pydantic_settings", "requests", "sqlalchemy"}  # of rounds, `web`, variables


def test_a_worker_that_delivers_and_is_asked_for_metrics_loads_nothing_of_the_rounds(world: World) -> None:
    worker = world.start({}, {"PYTHONPROFILEIMPORTTIME": "1", "NOTIFY_SOCKET": "@nobody"})
    world.shop.buy(world.shop.customer())
    world.until_done()
    monitoring = worker.lines_of("started")[0]["monitoring"]
    assert "outbox_worker_lag_seconds" in requests.get(f"{monitoring}/metrics", timeout=10).text
    assert worker.stop() == 0
    lines = [line for line in worker.log.read_text().splitlines() if line.startswith("import time:")]
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert "psycopg" in loaded
    assert not loaded & OF_OTHERS
