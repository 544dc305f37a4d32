"""The sandbox without its network: settings and the parts that every request meets."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from outbox_worker.demo.sandbox.barrier import Barrier
from outbox_worker.demo.sandbox.faults import Fault, Faults
from outbox_worker.demo.sandbox.ledger import Ledger, SeenRequest
from outbox_worker.demo.sandbox.ledger_file import LedgerFile
from outbox_worker.demo.sandbox.operations import EVENTFUL
from outbox_worker.demo.sandbox.state import State


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a sandbox can be told at its start."""

    host: str = "127.0.0.1"
    port: int = 0  # 0: a free one
    token: str = "sandbox-token"  # noqa: S105  (everybody may know it)
    any_client: bool = False
    not_deduplicated: frozenset[str] = frozenset()
    seed: int | None = None
    ledger_max: int = 1_000_000
    ledger_file: Path | None = None
    keep_alive_s: float = 75.0
    hang_s_max: float = 300.0


class Sandbox:
    """State, faults, barrier; `restored_count` effects came from the ledger file.

    `on_ended` is called with each finished row of the ledger. `refuse_for` closes the port for some seconds.
    """

    def __init__(
        self,
        settings: Settings,
        faults: Iterable[Fault] = (),
        on_ended: Callable[[SeenRequest], None] = lambda _seen: None,
    ) -> None:
        self.settings = settings
        self.barrier = Barrier()
        self.faults = Faults(random.Random(settings.seed).random)  # noqa: S311  (chance that can be repeated is wanted)
        self.faults.replace(faults)
        self.on_ended = on_ended
        self.refuse_for: Callable[[float], None] = lambda _seconds: None  # the listener puts itself here
        self._file = None if settings.ledger_file is None else LedgerFile(settings.ledger_file)
        self.state = State(
            Ledger(settings.ledger_max),
            any_client=settings.any_client,
            deduplicated=frozenset(EVENTFUL) - settings.not_deduplicated,
            file=self._file,
        )
        self.restored_count = self.state.restore()

    def summary(self) -> dict[str, Any]:
        """Count everything that a judge may ask for."""
        return self.state.ledger.summary() | {"held": self.barrier.counts(), "state": self.state.totals()}

    def close(self) -> None:
        """Close the ledger file."""
        if self._file is not None:
            self._file.close()
