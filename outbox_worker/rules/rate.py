"""How often each caller may come: a steady rate with a short burst (the generic cell rate algorithm). Pure."""

from __future__ import annotations

BURST_S = 1.0  # so much of the rate may come at once
CALLERS_MAX = 10_000  # remembered; more are forgotten, the longest known first, which does them good


class Rate:
    """Remembers of each caller when its allowance is full again; `per_s` requests a second, 0 for any number."""

    def __init__(self, per_s: float) -> None:
        self._interval_s = 1 / per_s if per_s else 0.0
        self._full_at_s: dict[str, float] = {}

    def wait_s(self, caller: str, now_s: float) -> float:
        """Return 0 and count the request, or how long the caller must wait, and count nothing."""
        full_at_s = max(self._full_at_s.get(caller, now_s), now_s)
        wait_s = full_at_s + self._interval_s - now_s - max(BURST_S, self._interval_s)
        if wait_s > 1e-9:
            return wait_s
        self._full_at_s[caller] = full_at_s + self._interval_s
        if len(self._full_at_s) > CALLERS_MAX:
            del self._full_at_s[next(iter(self._full_at_s))]
        return 0.0
