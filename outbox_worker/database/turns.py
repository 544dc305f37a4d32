"""What the relay asks of the database in one turn, and what it is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from outbox_worker.records import Claim, Conclusion
from outbox_worker.rules.lanes import Due


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for every turn of a worker.

    `operations` are those that it can send; `blocking_states` are those of a delivery that holds up its lane.
    A destination that has failed `failures_max` times in a row gets one probe, which is over within `probe_s`.
    `rates` are requests a second, by destination; None: as many as there are.
    """

    worker: UUID
    operations: tuple[str, ...]
    blocking_states: tuple[str, ...]
    failures_max: int
    probe_s: float
    rates: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Look:
    """Look for deliveries of a destination after an id, at most so many."""

    destination: str
    after: int
    count_max: int


@dataclass(frozen=True, slots=True)
class DestinationNote:
    """What is to be written down of a destination: it answers, or it failed once more, or it must be paused.

    `rest_s` is for how long it asked to be left alone; `backoff_s` for how long it is left alone because it fails.
    """

    destination: str
    well: bool
    rest_s: float
    backoff_s: float
    pause_reason: str | None


@dataclass(frozen=True, slots=True)
class DestinationState:
    """What all workers know of a destination.

    `rest_s` is for how long nothing may go there; `at_once` how much at most, where a rate holds.
    """

    destination: str
    paused: bool
    failure_count: int
    rest_s: float
    at_once: int | None = None


@dataclass(slots=True)
class Turn:
    """What the relay wants of the database now."""

    conclusions: list[Conclusion] = field(default_factory=list)
    notes: list[DestinationNote] = field(default_factory=list)
    candidates: list[Due] = field(default_factory=list)
    probes: list[str] = field(default_factory=list)  # failing destinations that candidates would go to
    asked: dict[str, int] = field(default_factory=dict)  # candidates for destinations that have a rate
    looks: list[Look] = field(default_factory=list)
    fresh: list[Look] = field(default_factory=list)  # what these find is claimed at once
    rereads: list[int] = field(default_factory=list)  # lanes to be read from their heads
    unclaimed: list[Due] = field(default_factory=list)  # candidates of the turn before that could not be claimed
    arm: bool = False
    disarm: bool = False
    at_ring: bool = False  # nothing but `fresh`, the sooner the better
    survey_but: list[int] | None = None  # find the oldest claim in other lanes than these

    def __bool__(self) -> bool:
        return bool(
            self.conclusions
            or self.notes
            or self.candidates
            or self.looks
            or self.rereads
            or self.unclaimed
            or self.arm
            or self.disarm
            or self.survey_but is not None
        )


@dataclass(slots=True)
class Answer:
    """What the database answered."""

    overtaken: list[Conclusion] = field(default_factory=list)  # their claims were taken over: they changed nothing
    claims: list[Claim] = field(default_factory=list)
    found: dict[str, list[Due]] = field(default_factory=dict)  # by destination, in order
    reread: list[Due] = field(default_factory=list)
    destinations: list[DestinationState] = field(default_factory=list)
    oldest_foreign_claim_s: float | None = None  # the age of the oldest claim that this worker knows nothing of
    armed: bool = False
