"""A process beside the relay's: rounds must not share the interpreter with the relay's loop.

    worker ──starts──▶ companion        again, at growing pauses, whenever it ends by itself
       └──────pipe──────▶ its standard input: closed when the worker stops, exits or is killed; then the companion ends

One pipe for all of them in a row: whoever is started after the stop finds it closed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic

import structlog

PAUSES_S = (1.0, 2.0, 5.0, 15.0, 60.0)
STEADY_AFTER_S = 300.0  # one that ran for so long is started again after the first pause
END_S_MAX = 10.0  # how long a companion may take to end; then it ends itself at once
KILL_AFTER_S = 3.0  # beyond that

_log = structlog.get_logger("outbox_worker")


class Companion:
    """Keeps `outbox-worker ARGUMENTS` running from `start` to `stop`; one that is not `wanted` is never started."""

    def __init__(self, name: str, arguments: Sequence[str], *, wanted: bool = True) -> None:
        self._name = name
        self._command = [sys.executable, "-m", "outbox_worker", *arguments]
        self._wanted = wanted
        self._heard, self._told = os.pipe()
        self._stopping = threading.Event()
        self._renewed: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name=name, daemon=True)

    def start(self) -> None:
        """Start it, and have it watched by a thread that does nothing but wait."""
        if self._wanted:
            self._thread.start()

    def renew(self) -> None:
        """Have it end in order and started again, to read its settings anew."""
        if self._process is not None:
            self._renewed = self._process
            self._process.terminate()

    def stop(self) -> None:
        """Ask it to end. May be called in a signal handler, and more than once."""
        if not self._stopping.is_set():
            self._stopping.set()
            os.close(self._told)

    def join(self) -> None:
        """Wait until it has ended; end it when it takes too long."""
        self.stop()
        if self._thread.ident is None:
            return
        self._thread.join(END_S_MAX + KILL_AFTER_S)
        if self._thread.is_alive() and self._process is not None:
            _log.warning(f"{self._name} did not end in time and is killed")
            self._process.kill()
            self._thread.join()

    def _keep(self) -> None:
        endings = 0
        while not self._stopping.is_set():
            began_s = monotonic()
            how = self._run()
            if self._stopping.is_set() or self._process is self._renewed:
                continue
            endings = 1 if monotonic() - began_s > STEADY_AFTER_S else endings + 1
            pause_s = PAUSES_S[min(endings, len(PAUSES_S)) - 1]
            _log.error(f"{self._name} ended by itself", **how, again_in_s=pause_s)
            self._stopping.wait(pause_s)

    def _run(self) -> dict[str, object]:
        """Run one to its end, and return how it ended."""
        try:
            self._process = subprocess.Popen(self._command, stdin=self._heard)  # noqa: S603  # ourselves
        except OSError as error:  # no memory, no process left: the relay goes on, and it is tried again
            return {"error": str(error)}
        return {"exit_status": self._process.wait()}


def end_with_parent(stop: threading.Event) -> None:
    """In the companion: set `stop` when standard input is closed, and end the process if that is not heeded."""

    def wait() -> None:
        with suppress(OSError):
            while os.read(0, 4096):
                pass
        stop.set()
        threading.Event().wait(END_S_MAX)
        os._exit(1)

    threading.Thread(target=wait, name="parent", daemon=True).start()
