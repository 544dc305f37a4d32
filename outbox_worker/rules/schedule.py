"""When a failed attempt is made again. Clock and chance come as arguments."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice

import backoff


@dataclass(frozen=True)
class Timetable:
    """The waits between tries: growing by `factor` from `first` to `longest`, for `tries_max` tries.

    Each wait is drawn between half of its step and the whole of it, so that deliveries that failed together
    do not come back together, and none comes back at once.
    """

    first: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    longest: timedelta = timedelta(minutes=15)
    tries_max: int = 20
    _steps_s: tuple[float, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        waits = backoff.expo(
            base=self.factor, factor=self.first.total_seconds(), max_value=self.longest.total_seconds()
        )
        next(waits)  # backoff's generators begin with a None for their caller to send into
        object.__setattr__(self, "_steps_s", tuple(islice(waits, max(self.tries_max, 1))))

    def wait(self, try_number: int, chance: float) -> timedelta:
        """Return the wait after the given try (from 1); `chance` is drawn evenly from [0, 1)."""
        step_s = self._steps_s[min(try_number, len(self._steps_s)) - 1]
        return timedelta(seconds=step_s * (0.5 + chance / 2))

    def is_spent(self, try_number: int) -> bool:
        """Tell whether the given try was the last one."""
        return try_number >= self.tries_max
