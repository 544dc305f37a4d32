"""The process: its signals, and what it does beside delivering after each round of the relay's loop."""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType

from outbox_worker.runtime.heartbeat import Heartbeat
from outbox_worker.runtime.relay import Relay

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
BACKLOG_FIRST_S = 10.0  # how long the rest of the work waits at most for what had piled up before the start

Handler = Callable[[int, FrameType | None], None]


class Supervisor:
    """Runs a relay until SIGTERM or SIGINT, and calls `reload` between two rounds for each SIGHUP.

    `on_calm` is called once: when what had piled up before the start is delivered, or after ten seconds. What runs
    beside the relay begins then: to start a process takes a second of a processor, and deliveries come first.
    `on_stop` is called in the signal's handler: what runs beside the relay is to end as soon as it does.
    """

    def __init__(
        self,
        relay: Relay,
        selector: selectors.BaseSelector,
        heartbeat: Heartbeat,
        reload: Callable[[], None],
        on_calm: Callable[[], None] = lambda: None,
        on_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._relay = relay
        self._selector = selector
        self._heartbeat = heartbeat
        self._reload = reload
        self._on_calm: Callable[[], None] | None = on_calm
        self._on_stop = on_stop
        self._must_reload = False
        self._began_s = monotonic()

    def run(self) -> None:
        """Deliver; at a stop signal, finish what is in flight and return. To be called in the main thread."""
        handlers: dict[int, Handler] = dict.fromkeys(STOP_SIGNALS, self._hear_stop)
        with _woken_by(handlers | {signal.SIGHUP: self._hear_reload}, self._selector):
            self._relay.run(self._after_round)

    def _after_round(self) -> None:
        if self._must_reload:
            self._must_reload = False
            with self._heartbeat.reloading():
                self._reload()
        if self._on_calm is not None and (self._relay.is_idle or monotonic() > self._began_s + BACKLOG_FIRST_S):
            self._on_calm()
            self._on_calm = None
        self._heartbeat()

    def _hear_stop(self, number: int, frame: FrameType | None) -> None:
        self._relay.stop()
        self._on_stop()

    def _hear_reload(self, number: int, frame: FrameType | None) -> None:
        self._must_reload = True


@contextmanager
def _woken_by(handlers: dict[int, Handler], selector: selectors.BaseSelector) -> Iterator[None]:
    """Make signals wake the loop: a handler alone would be heard only when something else wakes the selector."""
    heard, told = os.pipe()
    os.set_blocking(told, False)
    os.set_blocking(heard, False)
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    wakeup_before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    selector.register(heard, selectors.EVENT_READ, lambda descriptor, mask: os.read(descriptor, 4096))
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        selector.unregister(heard)
        os.close(heard)
        os.close(told)
