"""A stand-in for InBoost over real HTTP, with a ledger that judges and faults that can be switched on."""

from __future__ import annotations

from outbox_worker.demo.sandbox.faults import Fault, parse_fault
from outbox_worker.demo.sandbox.sandbox import Sandbox, Settings
from outbox_worker.demo.sandbox.server import SandboxServer, listening

__all__ = ["Fault", "Sandbox", "SandboxServer", "Settings", "listening", "parse_fault"]
