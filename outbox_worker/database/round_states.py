"""How the rounds stand: what the metrics and `status` tell of them, and what decides which is due (`rounds`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class RoundState:
    """A round's row, with what the server says of it at `read_at`."""

    round: str
    enabled_at: datetime | None
    done_for: datetime | None
    began_at: datetime | None
    succeeded_at: datetime | None
    try_count: int
    done_count: int
    failed_count: int
    crashed_count: int
    paused_at: datetime | None
    pause_reason: str | None
    read_at: datetime
    is_running: bool

    @property
    def fresh_s(self) -> float | None:
        """How long ago it last succeeded, or was switched on; None where it is switched off."""
        if self.enabled_at is None:
            return None
        return (self.read_at - max(self.enabled_at, self.succeeded_at or self.enabled_at)).total_seconds()


# Of all rounds, in no order. The lock of a round is said in `rounds`.
STATES = """
select it.round, it.enabled_at, it.done_for, it.began_at, it.succeeded_at, it.try_count, it.done_count, it.failed_count,
       it.crashed_count, it.paused_at, it.pause_reason, clock_timestamp() as read_at,
       exists (
           select from pg_locks held
           where held.locktype = 'advisory' and held.classid = 1919907182 and held.objsubid = 2 and held.granted
             and held.objid = (hashtext(it.round)::bigint & 4294967295)::oid
             and held.database = (select oid from pg_database where datname = current_database())
       ) as is_running
from outbox.round it
"""
