"""Reads what a run costs: processor time of processes, transactions and write-ahead log of a database.

Processor time comes from the processes' own clocks, which count nanoseconds where /proc counts hundredths of a second.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def processor_s(pid: int) -> float:
    """Return the processor time of a process with all of its threads. Raises OSError if it is gone."""
    return time.clock_gettime((~pid << 3) | 2)  # what clock_getcpuclockid(3) computes


def machine_s() -> float:
    """Return the time that all processors of this machine have been busy."""
    user, nice, system, _, _, interrupt, soft_interrupt, *_ = map(
        int, _PROC.joinpath("stat").read_text().splitlines()[0].split()[1:]
    )
    return (user + nice + system + interrupt + soft_interrupt) / _TICKS_PER_S


@dataclass(frozen=True, slots=True)
class ServerProcesses:
    """The processes of a PostgreSQL server on this machine, by their parent."""

    postmaster: int

    @classmethod
    def of(cls, session: psycopg.Connection) -> ServerProcesses | None:
        """Find the server of a session; None when it is not on this machine."""
        backend = _PROC / str(session.info.backend_pid)
        with suppress(OSError):
            if backend.joinpath("comm").read_text().strip() == "postgres":
                return cls(int(_stat(backend)[1]))
        return None

    def processor_s(self) -> float:
        """Return the processor time of all processes, those included that have ended since the server started."""
        return family_s(self.postmaster)


def family_s(pid: int) -> float:
    """Return the processor time of a process and its children, those included that have ended."""
    words = _stat(_PROC / str(pid))
    total_s = processor_s(pid) + (int(words[13]) + int(words[14])) / _TICKS_PER_S
    for directory in _PROC.glob("[0-9]*"):
        with suppress(OSError):
            if int(_stat(directory)[1]) == pid:
                total_s += processor_s(int(directory.name))
    return total_s


def _stat(directory: Path) -> list[str]:
    """Return the words of proc(5)'s `stat` after the name: state, parent, …"""
    return (directory / "stat").read_text().rpartition(")")[2].split()


@dataclass(frozen=True, slots=True)
class Counters:
    """What the database has counted so far."""

    transactions: int
    wal_bytes: int

    @classmethod
    def read(cls, session: psycopg.Connection, dbname: str) -> Counters:
        """Read through a session in another database, so that the reading is not counted."""
        row = session.execute(
            "select xact_commit + xact_rollback, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"
            " from pg_stat_database where datname = %s",
            [dbname],
        ).fetchone()
        if row is None:
            raise LookupError(dbname)
        return cls(*row)
