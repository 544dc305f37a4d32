"""The line that `systemctl status` shows: lag, what waits, what a person must look at.

It is read every so often, in a thread. The thread never feeds the watchdog: it would go on while the loop hangs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from outbox_worker.database.backlog import Status
from outbox_worker.errors import OutboxWorkerError
from outbox_worker.sd_notify import is_heard, notify

READ_EVERY_S = 30.0


class StatusLine:
    """Tells systemd how it stands, from `start` to `stop`; does nothing where systemd does not listen."""

    def __init__(self, read: Callable[[], Status]) -> None:
        self._read = read
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="status line", daemon=True)

    def start(self) -> None:
        """Tell from now on."""
        if is_heard():
            self._thread.start()

    def stop(self) -> None:
        """Tell no more. What is being read at this moment is not waited for."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            line = self._line()
            if not self._stopped.is_set():
                notify(STATUS=line)
            self._stopped.wait(READ_EVERY_S)

    def _line(self) -> str:
        try:
            return line_of(self._read())
        except OutboxWorkerError as error:
            return f"Cannot read the outbox: {error}"


def line_of(status: Status) -> str:
    """Return how it stands, in one line."""
    paused = [it.destination for it in status.destinations if it.paused_at is not None]
    states = {"pending": "pending", "in_doubt": "in doubt", "held": "held", "dead": "dead"}
    counts = (f"{status.count(it)}{'+' * status.is_at_least(it)} {name}" for it, name in states.items())
    return ", ".join([f"Lag {status.lag_s:.1f} s", *counts]) + (f"; paused: {', '.join(paused)}" if paused else "")
