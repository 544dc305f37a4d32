"""What systemd hears of the relay's loop: ready when it can deliver, alive as long as it goes round, stopping.

Nothing here has a thread: a loop that hangs is silent, and that is what the watchdog restarts it for. A database that
is away is no hang: the loop goes on trying, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from outbox_worker.runtime.relay import Relay
from outbox_worker.sd_notify import notify, watchdog_s

BEAT_EVERY_S = 5.0  # the loop goes round at least ten
START_GOES_ON_S = 60.0  # the next beat comes within this: an address that does not answer is tried for seconds


class Heartbeat:
    """Beats once for each round of the loop; tells systemd every few seconds.

    `stop_within_s` is how long a stop may take at most; systemd is asked to wait that long, whatever the unit says.
    """

    def __init__(self, relay: Relay, *, stop_within_s: float) -> None:
        self._relay = relay
        self._stop_within_s = stop_within_s
        self._is_ready = False  # and systemd knows it
        self._is_stopping = False
        self._next_s = 0.0
        self._every_s = min(BEAT_EVERY_S, (watchdog_s() or 2 * BEAT_EVERY_S) / 2)

    def __call__(self) -> None:
        """Tell what has changed, and from time to time that nothing has."""
        if self._relay.is_stopping and not self._is_stopping:
            asked_us = _us(self._stop_within_s)
            self._is_stopping = notify(STOPPING=1, EXTEND_TIMEOUT_USEC=asked_us, STATUS="Stopping: finishing requests")
        elif not self._is_ready and self._relay.is_ready:
            self._is_ready = notify(READY=1)
        now_s = monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + self._every_s
        if self._is_ready or self._is_stopping:
            notify(WATCHDOG=1)
        else:  # a start that waits for its database goes on
            notify(EXTEND_TIMEOUT_USEC=_us(START_GOES_ON_S), STATUS="Starting: waiting for the database")

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Tell that settings are read again, and when that is over."""
        if self._is_ready:
            notify(RELOADING=1, MONOTONIC_USEC=_us(monotonic()))
        try:
            yield
        finally:
            if self._is_ready:
                notify(READY=1)


def _us(seconds: float) -> int:
    return round(seconds * 1_000_000)
