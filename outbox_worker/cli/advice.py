"""What a person may do about a delivery: a sentence, and the commands to give next. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from outbox_worker.cli.output import when
from outbox_worker.database.addressees import NO_PHONE, TO_BE_IDENTIFIED
from outbox_worker.database.deliveries import Delivery
from outbox_worker.database.events import Attempt, Fate

WHY = "--reason '…'"
LONG_AGO = timedelta(minutes=2)  # longer than any request lasts by the usual settings


@dataclass(frozen=True, slots=True)
class Advice:
    """What may be done, and how."""

    sentence: str
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What counts beside the delivery.

    The instant, what InBoost knows before each event id, destinations that are paused and why, operations that the
    configuration switches off, and the delivery that this one waits behind.
    """

    now: datetime
    event_id_prefix: str = ""
    pause_reasons: Mapping[str, str] = field(default_factory=dict)
    switched_off: frozenset[str] = frozenset()
    blocker: Delivery | None = None


def advise(fate: Fate, around: Circumstances) -> Advice:
    """Say what a person may do about an operation of an event."""
    delivery = fate.delivery
    if delivery is None:
        return _ENDED[fate.state]
    if delivery.claimed_at is not None:
        return _claimed(delivery.claimed_at, around.now)
    if around.blocker is not None and delivery.state in ("pending", "waiting"):
        return _behind(around.blocker)
    if delivery.state in ("pending", "in_doubt") and delivery.operation in around.switched_off:
        return Advice(f"The configuration switches {delivery.operation} off; it goes out when that is changed.")
    if delivery.state in ("pending", "in_doubt") and delivery.destination in around.pause_reasons:
        return _paused(delivery.destination, around.pause_reasons[delivery.destination])
    return _OPEN[delivery.state](delivery, fate, around)


def command(*words: str) -> str:
    """Write a command of ours as a shell takes it."""
    return " ".join(["outbox-worker", *(shlex.quote(word) for word in words)])


def _claimed(claimed_at: datetime, now: datetime) -> Advice:
    if now - claimed_at < LONG_AGO:
        return Advice("It is being sent at this moment. Look again in a few seconds.")
    return Advice(
        f"It was claimed at {when(claimed_at, now)}, and whoever claimed it is probably gone: it may have been sent. "
        "The next worker settles that when it runs. Does one?"
    )


def _settling(group: str, act: str, delivery: Delivery) -> str:
    return f"{command(group, act, delivery.event_id, '--operation', delivery.operation)} {WHY}"


def _behind(blocker: Delivery) -> Advice:
    return Advice(
        f"It waits behind {blocker.event_id}, {blocker.operation}, which is {_SPOKEN[blocker.state]}.",
        (command("events", "show", blocker.event_id),),
    )


def _paused(destination: str, reason: str) -> Advice:
    return Advice(
        f"It waits for {destination}, which is paused: {reason}. When that is mended:",
        (f"{command('destinations', 'resume', destination)} {WHY}",),
    )


def _pending(delivery: Delivery, fate: Fate, around: Circumstances) -> Advice:
    if delivery.due_at > around.now:
        return Advice(f"Nothing to do: it is tried again at {when(delivery.due_at, around.now)}.")
    return Advice("Nothing to do: it is due now, and goes out as soon as a worker runs and its turn comes.")


def _in_doubt(delivery: Delivery, fate: Fate, around: Circumstances) -> Advice:
    return Advice(
        f"Nothing to do: InBoost is asked at {when(delivery.due_at, around.now)} whether it has it. "
        "If you know it already:",
        (_settling("in-doubt", "confirm", delivery), _settling("in-doubt", "resend", delivery)),
    )


def _held(delivery: Delivery, fate: Fate, around: Circumstances) -> Advice:
    return Advice(
        f"InBoost may have it. Ask there for {around.event_id_prefix}{delivery.event_id}: "
        "if it is there, confirm; only if it is not, resend.",
        (_settling("in-doubt", "confirm", delivery), _settling("in-doubt", "resend", delivery)),
    )


def _waiting(delivery: Delivery, fate: Fate, around: Circumstances) -> Advice:
    if delivery.reason == TO_BE_IDENTIFIED:
        return Advice(
            "Nothing to do: a worker finds out whose it is within a second. If it stays so, no worker runs with "
            "[rounds] enabled, or its journal says why."
        )
    if delivery.reason == NO_PHONE:
        return Advice(
            "Nothing was sent. It goes on by itself once its contact is known to have a phone: from another order, "
            "from POST /identify, or by:",
            (f"{command('contacts', 'link')} CONTACT CONTACT {WHY}",),
        )
    if delivery.customer_id is None:
        return Advice("Mend what its reason says, then:", (f"{command('lanes', 'release', '--all')} {WHY}",))
    release = f"{command('lanes', 'release', '--customer', delivery.customer_id)} {WHY}"
    return Advice("Nothing was sent. Mend the client, at InBoost or in accounting, then:", (release,))


def _dead(delivery: Delivery, fate: Fate, around: Circumstances) -> Advice:
    commands = (_settling("dead-letters", "requeue", delivery), _settling("dead-letters", "discard", delivery))
    doubtful = _doubtful(fate.attempts)
    if doubtful is not None:
        return Advice(
            f"The last attempt was refused, but attempt {doubtful.number} may have been acted upon. "
            "Ask at InBoost before you send it again:",
            commands,
        )
    return Advice(
        "InBoost did not act, so it is safe to send again. Mend the cause, then requeue; or give up:", commands
    )


def _doubtful(attempts: list[Attempt]) -> Attempt | None:
    """Return the last attempt in doubt that no look-up has settled since."""
    doubtful = None
    for attempt in attempts:
        if attempt.outcome == "in_doubt":
            doubtful = attempt
        elif attempt.outcome == "not_found" and attempt.verdict == "retry":
            doubtful = None
    return doubtful


_SPOKEN = {
    "pending": "still to be sent",
    "in_doubt": "in doubt",
    "held": "held",
    "waiting": "waiting for the client",
    "dead": "a dead letter",
}
_OPEN: Mapping[str, Callable[[Delivery, Fate, Circumstances], Advice]] = {
    "pending": _pending,
    "in_doubt": _in_doubt,
    "held": _held,
    "waiting": _waiting,
    "dead": _dead,
}
_ENDED = {
    "delivered": Advice("Done. Nothing sends it again."),
    "discarded": Advice("Given up by a person. Nothing sends it again."),
    "expired": Advice("It waited for its client until it was too old to be sent. Nothing sends it again."),
    "unknown": Advice("Neither a duty nor a receipt is left: their rows were removed."),
}
