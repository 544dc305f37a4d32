"""Programs that the demo starts: they end with it, and say why when they end before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from outbox_worker.demo.processes import Processes
from outbox_worker.errors import OutboxWorkerError

PRODUCT = Path(__file__).parents[2]
SECONDS_MAX = 20

OWNER = """
    import sys
    from outbox_worker.demo.processes import Processes
    with Processes() as processes:
        processes.start("sandbox", "sandbox", "--port=0")
        print(processes.pid("sandbox"), processes.directory, flush=True)
        sys.stdin.read()
"""


def is_running(pid: int) -> bool:
    """A zombie runs no more, even where nobody reaps it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_everything_ends_and_goes_at_the_end_of_the_block() -> None:
    with Processes() as processes:
        processes.start("sandbox", "sandbox", "--port=0")
        pid = processes.pid("sandbox")
        processes.wait_until(lambda: b"listens" in processes.log("sandbox").read_bytes(), "the sandbox")
        processes.check()
    assert not is_running(pid)
    assert not processes.directory.exists()


def test_who_ends_too_early_is_named_with_its_last_words() -> None:
    with Processes() as processes:
        processes.start("sandbox", "sandbox", "--no-such-option")
        with pytest.raises(OutboxWorkerError, match=r"(?s)sandbox has ended, with status 2: .*no-such-option"):
            processes.wait_until(lambda: False, "the sandbox")


def test_settings_of_another_worker_are_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTBOX_WORKER__DATABASE__URL", "postgresql://elsewhere/precious")
    monkeypatch.setenv("PGHOST", "elsewhere")
    with Processes() as processes:
        processes.start("status", "status")
        with pytest.raises(OutboxWorkerError) as raised:
            processes.wait_until(lambda: False, "nothing")
    assert "elsewhere" not in str(raised.value)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_when_the_owner_is_killed_everything_ends_and_goes_all_the_same() -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env=os.environ | {"PYTHONPATH": str(PRODUCT)},
    )
    assert owner.stdout
    pid, directory = owner.stdout.readline().split()
    assert is_running(int(pid))
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    give_up_at_s = time.monotonic() + SECONDS_MAX
    while is_running(int(pid)) or Path(directory).exists():
        assert time.monotonic() < give_up_at_s
        time.sleep(0.02)
