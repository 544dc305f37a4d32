"""The process: signals, and what is served beside the relay's loop."""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from outbox_worker.runtime.relay import Relay

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run(relay: Relay, selector: selectors.BaseSelector) -> None:
    """Run the relay until SIGTERM or SIGINT; then let it finish what is in flight. To be called in the main thread."""
    with _stopping_at_signals(relay, selector):
        relay.run()


@contextmanager
def _stopping_at_signals(relay: Relay, selector: selectors.BaseSelector) -> Iterator[None]:
    """Make a stop signal wake the loop: a handler alone would be heard only when something else wakes the selector."""

    def stop(number: int, frame: FrameType | None) -> None:
        relay.stop()

    heard, told = os.pipe()
    os.set_blocking(told, False)
    os.set_blocking(heard, False)
    before = {number: signal.signal(number, stop) for number in STOP_SIGNALS}
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
