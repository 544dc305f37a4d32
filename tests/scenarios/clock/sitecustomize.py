"""A wall clock that steps, for a worker that is started with this directory on its PYTHONPATH.

The file that OUTBOX_WORKER_TEST_CLOCK names holds by how many seconds the clock is off; whoever replaces the file steps
the clock. `time.time` and `datetime.now` are off, `time.monotonic` is not: so it is when somebody sets a host's clock,
or NTP does. What C libraries read for themselves (libcurl, libpq, OpenSSL) is not off.
"""

from __future__ import annotations

import datetime
import os
import time
from pathlib import Path
from typing import Any

_FILE = Path(os.environ["OUTBOX_WORKER_TEST_CLOCK"])
_datetime, _time = datetime.datetime, time.time


def _off_s() -> float:
    return float(_FILE.read_text())


class _Kind(type):
    def __instancecheck__(cls, it: Any) -> bool:
        return isinstance(it, _datetime)


class Stepped(_datetime, metaclass=_Kind):
    """The class of all instants; its own now is off. What it makes are plain ones, as libraries want."""

    def __new__(cls, *words: Any, **named: Any) -> Any:
        return _datetime(*words, **named)

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return _datetime.now(tz) + datetime.timedelta(seconds=_off_s())


datetime.datetime = Stepped  # type: ignore[misc]
time.time = lambda: _time() + _off_s()
