"""Waiting for a condition: looked at again and again until a deadline, never slept over."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
LOOK_EVERY_S = 0.01


def until(condition: Callable[[], T | None], what: str, within_s: float = 30) -> T:
    """Return what the condition returns as soon as that is true."""
    give_up_at = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < give_up_at, f"waited {within_s} s in vain for {what}"
        time.sleep(LOOK_EVERY_S)
    return found
