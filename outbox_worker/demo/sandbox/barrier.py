"""Holding requests at an exact point, so that a test can kill the worker there."""

from __future__ import annotations

import asyncio


class Barrier:
    """The requests that are held, by point, oldest first."""

    def __init__(self) -> None:
        self._held: dict[str, list[asyncio.Future[None]]] = {"arrived": [], "acted": []}

    def counts(self) -> dict[str, int]:
        """Count what is held at each point."""
        return {point: len(held) for point, held in self._held.items()}

    async def hold(self, point: str) -> None:
        """Wait until this request is released. Its client may be gone by then: who has read a request acts on it."""
        released = asyncio.get_running_loop().create_future()
        self._held[point].append(released)
        try:
            await released
        finally:
            if released in self._held[point]:
                self._held[point].remove(released)

    def release(self, point: str | None = None, count: int | None = None) -> int:
        """Let `count` of those held now at a point go on, oldest first (none: all; at both points), and count them."""
        released = [future for at in ((point,) if point else self._held) for future in self._held[at]][:count]
        for held in self._held.values():
            held[:] = [future for future in held if future not in released]
        for future in released:
            if not future.done():
                future.set_result(None)
        return len(released)
