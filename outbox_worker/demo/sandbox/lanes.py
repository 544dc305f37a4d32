"""Who is in the sandbox at the same time: the product promises never to have two requests of one lane in flight.

A lane is a destination and a phone. A request enters its lane as soon as its phone is known (from the path, or from the
body of a hook) and leaves it when its answer is written or its connection ends.
"""

from __future__ import annotations

from typing import Protocol

Lane = tuple[str, str]  # destination, phone


class Occupant(Protocol):
    """A request that stays in a lane."""

    def has_left(self) -> bool:
        """Say whether its client is gone, by asking the kernel: the event loop may not have heard of it yet."""


class Lanes:
    """The lanes that are occupied now, and how full each has been, where that was more than one."""

    def __init__(self) -> None:
        self._occupants: dict[Lane, list[Occupant]] = {}
        self.overlap_max: dict[Lane, int] = {}

    def enter(self, lane: Lane, occupant: Occupant) -> int:
        """Note an arrival, and return how many are in the lane with it, itself included."""
        present = [other for other in self._occupants.get(lane, ()) if not other.has_left()]
        present.append(occupant)
        self._occupants[lane] = present
        count = len(present)
        if count > max(1, self.overlap_max.get(lane, 0)):
            self.overlap_max[lane] = count
        return count

    def leave(self, lane: Lane, occupant: Occupant) -> None:
        """Note a departure; an occupant that was found gone before is no mistake."""
        present = self._occupants.get(lane, [])
        if occupant in present:
            present.remove(occupant)
        if not present:
            self._occupants.pop(lane, None)
