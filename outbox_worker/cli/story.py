"""The whole story of an event: read from the database, and as JSON. `telling` puts it on a screen.

event ─┬─ fate of each operation ─┬─ attempts, look-ups among them, with request and answer
       │                          └─ what a person may do now
       ├─ people's acts
       └─ recordings that were refused as duplicates
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from outbox_worker.cli import output
from outbox_worker.cli.advice import Advice, Circumstances, advise
from outbox_worker.cli.masking import Screen
from outbox_worker.cli.preview import Preview, preview
from outbox_worker.configuration import Configuration
from outbox_worker.database import acts, addressees, destinations, events, lanes
from outbox_worker.database.acts import Act
from outbox_worker.database.addressees import Addressee
from outbox_worker.database.engine import session
from outbox_worker.database.events import Attempt, Duplicate, Event, Fate
from outbox_worker.errors import NothingMatched


@dataclass(frozen=True, slots=True)
class Part:
    """One operation of the event: what became of it, what would be sent now, what a person may do."""

    fate: Fate
    preview: Preview
    advice: Advice
    addressee: Addressee | None  # where the event has contact data


@dataclass(frozen=True, slots=True)
class Story:
    """All that is known of an event."""

    event: Event
    parts: list[Part]
    acts: list[Act]
    duplicates: list[Duplicate]


def read(settings: Configuration, event_id: str, states: Collection[str] = ()) -> Story:
    """Read the story of an event, or of those of its operations that are in one of the states.

    The id may bear the prefix under which InBoost knows it. Raises NothingMatched with what may be the reason.
    """
    name = without_prefix(settings, event_id)
    with session(settings.database.conninfo, "outbox-worker events show") as connection:
        event = events.find(connection, name)
        if event is None:
            kind, _, source_id = name.partition(":")
            raise NothingMatched(_not_there(name, events.capture_failure(connection, kind, source_id)))
        fates = [it for it in events.fates(connection, [event])[name] if not states or it.state in states]
        around = circumstances(settings, destinations.read(connection))
        to = {it.operation: it for it in addressees.of_events(connection, [name])}
        blocking = settings.relay.blocking_states
        blockers = [it.delivery and lanes.blocker_of(connection, it.delivery, blocking) for it in fates]
        return Story(
            event,
            [
                Part(
                    fate,
                    _preview(settings, event, fate, to.get(fate.operation)),
                    advise(fate, replace(around, blocker=blocker)),
                    to.get(fate.operation),
                )
                for fate, blocker in zip(fates, blockers, strict=True)
            ],
            acts.of_events(connection, [name]),
            events.duplicates(connection, event),
        )


def without_prefix(settings: Configuration, event_id: str) -> str:
    """Return our own id of an event that may be given as InBoost sees it."""
    return event_id.removeprefix(settings.inboost.event_id_prefix)


def circumstances(settings: Configuration, found: Collection[destinations.Destination]) -> Circumstances:
    """Return what counts for an advice, whatever the delivery."""
    return Circumstances(
        now=datetime.now(UTC),
        event_id_prefix=settings.inboost.event_id_prefix,
        pause_reasons={it.destination: it.pause_reason for it in found if it.pause_reason is not None},
        switched_off=frozenset(name for name, it in settings.inboost.applied_operations().items() if not it.enabled),
    )


def _preview(settings: Configuration, event: Event, fate: Fate, addressee: Addressee | None) -> Preview:
    return preview(
        settings.profile(),
        fate.operation,
        fate.destination or "",
        event_id=event.event_id,
        payload=event.payload,
        occurred_at=event.occurred_at,
        recorded_at=event.recorded_at,
        phone=None if addressee is None else addressee.phone,
    )


def _not_there(name: str, failure: events.CaptureFailure | None) -> str:
    if ":" not in name:
        return f"{name} is no event id; it is kind:source id, as purchase:{name}"
    if failure is None:
        return f"no event {name} was recorded, so nothing of it was sent or will be"
    return (
        f"no event {name} was recorded: it could not be captured when it happened, "
        f"at {output.when(failure.failed_at)}: {failure.message}"
    )


def as_data(story: Story, screen: Screen) -> dict[str, Any]:
    """Return the story for JSON; `events show --help` describes it."""
    return {
        "event": asdict(story.event) | {"payload": screen.value(story.event.payload)},
        "operations": [_part_as_data(part, screen) for part in story.parts],
        "acts": [_act_as_data(act) for act in story.acts],
        "duplicates": [asdict(it) for it in story.duplicates],
    }


def _part_as_data(part: Part, screen: Screen) -> dict[str, Any]:
    fate, delivery = part.fate, part.fate.delivery
    return {
        "operation": fate.operation,
        "destination": fate.destination,
        "state": fate.state,
        "settled_at": fate.settled_at,
        "due_at": delivery and delivery.due_at,
        "claimed_at": delivery and delivery.claimed_at,
        "reason": delivery and screen.maybe(delivery.reason),
        "addressee": part.addressee and _addressee_as_data(part.addressee, screen),
        "attempts": [_attempt_as_data(it, part.preview, screen) for it in fate.attempts],
        "request": part.preview.as_data(screen),
        "advice": asdict(part.advice),
    }


def _addressee_as_data(addressee: Addressee, screen: Screen) -> dict[str, Any]:
    data = asdict(addressee)
    del data["event_id"], data["operation"]
    return data | {"phone": screen.maybe(addressee.phone)}


def _attempt_as_data(attempt: Attempt, now: Preview, screen: Screen) -> dict[str, Any]:
    data = asdict(attempt)
    del data["event_id"], data["operation"]
    return data | {
        "reason": screen.maybe(attempt.reason),
        "excerpt": screen.maybe(attempt.excerpt),
        "is_same_body": None if attempt.digest is None else attempt.digest == now.digest,
    }


def _act_as_data(act: Act) -> dict[str, Any]:
    return asdict(act) | {"detail": None if act.detail is None else Screen(reveals=True).value(act.detail)}
