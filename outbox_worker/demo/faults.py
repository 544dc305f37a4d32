"""How bad the network is: the faults that the sandbox is given, in three strengths.

Throttling is rare, for it is not one delivery that then waits but the whole destination.
"""

from __future__ import annotations

from collections.abc import Sequence

SOME = (
    "*:throttle:probability=0.002,seconds=1",
    "*:reset_before:probability=0.02",
    "*:reset_after:probability=0.02",
    "*:error:probability=0.02,status=500,act=true",
    "*:error:probability=0.02,status=503",
    "*:cut:probability=0.01",
    "*:garbage:probability=0.01",
    "*:slow:probability=0.02,seconds=0.3",
    "*:hang:probability=0.005,act=true",
    "*:hang:probability=0.005",
)
MANY = (
    "*:throttle:probability=0.003,seconds=1",
    "*:reset_unread:probability=0.02",
    "*:reset_before:probability=0.03",
    "*:reset_after:probability=0.03",
    "*:error:probability=0.03,status=500,act=true",
    "*:error:probability=0.03,status=503",
    "*:error:probability=0.02,status=502",
    "*:cut:probability=0.02",
    "*:garbage:probability=0.02",
    "*:slow:probability=0.03,seconds=0.5",
    "*:hang:probability=0.005,act=true",
    "*:hang:probability=0.005",
)
STRENGTHS: dict[str, Sequence[str]] = {"none": (), "some": SOME, "many": MANY}
