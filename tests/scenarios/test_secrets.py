"""Secrets and phones sent down every path: none comes out in a log, in the journal of attempts, or in an error."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from pathlib import Path
from typing import ClassVar

import pytest

from tests.cli.desk import Desk
from tests.scenarios.waiting import until
from tests.scenarios.world import World

TOKEN = "hunter2-token-of-the-portal"
HOOK = "5e8f0c1a77hunter2hook"
SIGNING = base64.b64encode(b"a secret of 24 letters..").decode()
SETTINGS = {"inboost.token": TOKEN, "inboost.hooks.accrual.secrets": [f"whsec_{SIGNING}"]}


class Parrot(BaseHTTPRequestHandler):
    """Repeats in its answer all that it was sent, as careless servers do, with one status after the other."""

    statuses: ClassVar[Iterator[int]]

    def do_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        said = f"{self.command} {self.path}\n{self.headers}\n{body}".encode()
        self.send_response(next(self.statuses), TOKEN)
        self.send_header("Content-Length", str(len(said)))
        self.send_header("Location", f"http://127.0.0.1:9/{TOKEN}")
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_POST = do_PUT = do_any

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def parrot() -> Iterator[str]:
    Parrot.statuses = cycle((422, 500, 404, 200))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Parrot)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_a_careless_receiver_repeats_reaches_neither_log_nor_journal_nor_screen(
    world: World,
    worker_login: dict[str, str],
    parrot: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hooks = {f"inboost.hooks.{name}.url": f"{parrot}/in/{HOOK}/" for name in ("accrual", "redemption", "purchase")}
    gone = {"inboost.hooks.expiry.url": f"http://127.0.0.1:9/api/webhok/{HOOK}/"}  # nobody listens there
    phones = [f"+38050123456{number}" for number in range(8)]
    for phone in phones:
        world.shop.buy(world.shop.customer(phone))
    settings = SETTINGS | hooks | gone | {"inboost.base_url": parrot, "log.level": "debug", "retry.tries_max": 3}
    worker = world.start(settings)
    until(lambda: world.value("select count(*) > 12 from outbox.attempt"), "attempts with every answer")
    world.end_session(worker)
    until(lambda: worker.lines_of("database back"), "the worker to come back to its database")
    Parrot.statuses = cycle((401, 302))
    world.shop.buy(world.shop.customer("+380501234569"))
    paused = "select count(*) > 1 from outbox.destination where paused_at is not null"
    until(lambda: world.value(paused), "destinations to be paused by a 401 and a redirect")
    assert worker.stop() == 0

    journal = str(world.rows("select a::text from outbox.attempt a"))
    reasons = str(world.rows("select reason from outbox.delivery")) + str(
        world.rows("select pause_reason from outbox.destination")
    )
    desk = Desk(tmp_path / "worker-1.toml", monkeypatch, capsys)
    shown = "".join(
        desk(*words).out
        for words in (
            ("events", "list"), ("dead-letters", "list"), ("in-doubt", "list"), ("lanes",), ("destinations", "list"),
            ("status",), ("events", "show", "purchase:1"), ("events", "show", "purchase:1", "--json"),
        )
    )  # fmt: skip
    assert len(worker.lines_of("attempt")) > 8 and "POST" in journal and "purchase:1" in shown
    for secret in ("hunter2", SIGNING, worker_login["password"]):
        for place, text in (("log", worker.log.read_text()), ("journal", journal), ("why", reasons), ("screen", shown)):
            assert secret not in text, place
    for phone in phones:
        assert phone[1:] not in worker.log.read_text() + reasons + shown
