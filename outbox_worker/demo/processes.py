"""Programs that end with us, however we end.

    Processes ──starts──▶ the sandbox, the worker      our direct children: each is stopped by its own pid
        │
        └──pipe──▶ watcher   lines of sh that wait for the pipe to close, then end what runs and remove the directory

As in `postgres`, the pipe closes when we close it, when we exit and when we are killed with SIGKILL.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import outbox_worker
from outbox_worker.errors import OutboxWorkerError

START_S_MAX = 30.0
STOP_S_MAX = 15.0
RUN_S_MAX = 60.0
LOOK_EVERY_S = 0.01
_LAST_WORDS_MAX = 2000

# $1 is the directory. Each line of the input lists the processes that run. Where a lazy init does not reap them they
# look alive for ever, so the wait is bounded, and nothing else waits for it.
_WATCHER = """
    trap '' INT TERM HUP
    while read -r line; do running=$line; done
    [ -z "$running" ] || kill -TERM $running
    rm -rf -- "$1"
    waits=200
    for process in $running; do
        while kill -0 $process && [ $((waits -= 1)) -gt 0 ]; do sleep 0.05; done
        kill -KILL $process
    done
    rm -rf -- "$1"
"""


class Processes:
    """Commands of outbox-worker, run as processes of their own, and a directory for what they write."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="outbox-worker-demo-"))  # mode 0700
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._watcher = subprocess.Popen(  # noqa: S603  # a script of ours and a path as its argument
            ["/bin/sh", "-c", _WATCHER, "sh", str(self.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # a Ctrl-C at the terminal is for us, and we end the rest in order
            bufsize=0,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, name: str, *arguments: str) -> None:
        """Start `outbox-worker ARGUMENTS`; what it says goes to its log."""
        with self.log(name).open("wb") as log:
            self._running[name] = subprocess.Popen(  # noqa: S603  # ourselves, with arguments of ours
                [sys.executable, "-m", "outbox_worker", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=_environment(),
                start_new_session=True,
            )
        self._tell_watcher()

    def run(self, name: str, *arguments: str) -> int:
        """Run `outbox-worker ARGUMENTS` to its end, and return its exit status; what it says goes to its log."""
        self.start(name, *arguments)
        try:
            return self._running[name].wait(RUN_S_MAX)
        finally:
            _stop(self._running.pop(name))
            self._tell_watcher()

    def pid(self, name: str) -> int:
        """Return the process id of what was started under a name."""
        return self._running[name].pid

    def log(self, name: str) -> Path:
        """Return where a process writes."""
        return self.directory / f"{name}.log"

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a start to be over. Raises OutboxWorkerError when a process ends instead, or takes too long."""
        give_up_at_s = time.monotonic() + START_S_MAX
        while not condition():
            self.check()
            if time.monotonic() > give_up_at_s:
                raise OutboxWorkerError(f"{what} did not come up within {START_S_MAX:.0f} s")
            time.sleep(LOOK_EVERY_S)

    def check(self) -> None:
        """Raise OutboxWorkerError, with its last words, if a process has ended."""
        for name, process in self._running.items():
            if process.poll() is not None:
                words = self.log(name).read_text(errors="replace")[-_LAST_WORDS_MAX:].strip()
                raise OutboxWorkerError(f"the {name} has ended, with status {process.returncode}: {words}")

    def close(self) -> None:
        """Stop them, the last one first, and remove the directory. A second time does nothing."""
        while self._running:
            name = next(reversed(self._running))
            _stop(self._running[name])
            del self._running[name]
            self._tell_watcher()
        self._watcher.communicate()

    def _tell_watcher(self) -> None:
        if self._watcher.stdin:
            self._watcher.stdin.write((" ".join(str(it.pid) for it in self._running.values()) + "\n").encode())


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _environment() -> dict[str, str]:
    """Hand on ours without settings of another outbox-worker and of libpq, and with the way to this very package."""
    inherited = {name: os.environ[name] for name in os.environ if not name.startswith(("OUTBOX_WORKER", "PG"))}
    inherited.pop("CREDENTIALS_DIRECTORY", None)
    package = str(Path(outbox_worker.__file__).parents[1])
    places = filter(None, (package, inherited.get("PYTHONPATH", "")))
    return inherited | {"PYTHONPATH": os.pathsep.join(places)}
