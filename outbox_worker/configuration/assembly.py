"""From settings to working parts: the one place where the relay is put together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from selectors import BaseSelector
from uuid import UUID, uuid4

from outbox_worker.configuration.model import Configuration
from outbox_worker.database.outbox import Outbox
from outbox_worker.database.turns import Terms
from outbox_worker.inboost.operations import API, DELIVERIES, HOOKS
from outbox_worker.inboost.profile import Profile
from outbox_worker.inboost.wire import Wire
from outbox_worker.records import Action
from outbox_worker.rules import phones
from outbox_worker.rules.destination import Destination
from outbox_worker.rules.lanes import Lanes
from outbox_worker.rules.schedule import Timetable
from outbox_worker.rules.verdict import Policy
from outbox_worker.runtime.backlog import Backlog
from outbox_worker.runtime.doorbell import Doorbell
from outbox_worker.runtime.journal import Journal
from outbox_worker.runtime.judge import Flight, Judge
from outbox_worker.runtime.relay import Relay
from outbox_worker.runtime.selector import Selector

# A destination that fails again and again is probed at these waits: short, for the probe is one request.
REST = Timetable(first=timedelta(seconds=1), factor=2, longest=timedelta(seconds=30))
PROBE_AFTER_S = 1.0  # beyond the request time-out: then the one who probed is gone
SILENT_POLL_S = 0.1  # where transactions can be prepared and the doorbell is silent


@dataclass(frozen=True, slots=True)
class Assembly:
    """A relay with what it waits in, and its name: drawn anew each time, so that it is not taken for one before it."""

    relay: Relay
    selector: BaseSelector
    worker: UUID


def assemble(configuration: Configuration) -> Assembly:
    """Put a relay together; nothing is connected yet."""
    phones.prepare()
    worker = uuid4()
    selector = Selector()
    profile = configuration.profile()
    inboost, settings = configuration.inboost, configuration.relay
    wire: Wire[Flight] = Wire(
        selector,
        connect_timeout=inboost.connect_timeout,
        idle_connection_age=inboost.idle_connection_age,
        connections_max=settings.slots * (1 + len(HOOKS)),
        ca_file=inboost.ca_file,
    )
    terms = Terms(
        worker,
        operations=tuple(name for name in DELIVERIES if profile.operations[name].enabled),
        blocking_states=settings.blocking_states,
        failures_max=configuration.retry.circuit_threshold,
        probe_s=inboost.request_timeout.total_seconds() + PROBE_AFTER_S,
        rates=inboost.rates,
    )
    relay = Relay(
        Outbox(configuration.database.conninfo, terms),
        wire,
        profile,
        Backlog(_destinations(configuration), REST, _continues(configuration)),
        judge_of(configuration, profile),
        Doorbell(settings.poll_interval.total_seconds(), SILENT_POLL_S),
        selector,
        Journal(str(worker)),
        request_timeout_s=inboost.request_timeout.total_seconds(),
    )
    return Assembly(relay, selector, worker)


def judge_of(configuration: Configuration, profile: Profile) -> Judge:
    """Make the judge of attempts that these settings want."""
    policy = Policy(configuration.retry.timetable, settle=configuration.inboost.request_timeout)
    return Judge(profile, policy, configuration.inboost.answer_excerpt_max)


def _destinations(configuration: Configuration) -> list[Destination]:
    settings = configuration.relay
    return [
        Destination(
            name,
            slots=settings.slots,
            failures_max=configuration.retry.circuit_threshold,
            lanes=Lanes(lane_max=settings.lane_read_ahead, total_max=settings.read_ahead),
        )
        for name in (API, *HOOKS)
    ]


def _continues(configuration: Configuration) -> frozenset[Action]:
    policies = {Action.DEAD_LETTER: configuration.relay.on_dead_letter, Action.HOLD: configuration.relay.on_hold}
    return frozenset(action for action, policy in policies.items() if policy == "continue")
