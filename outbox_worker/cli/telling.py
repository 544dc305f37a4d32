"""The story of an event on one screen: the fact, then each operation with its attempts and what may be done next."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import click
from rich.text import Text

from outbox_worker import configuration
from outbox_worker.cli import options, output, story
from outbox_worker.cli.masking import Screen, Value, encoded
from outbox_worker.cli.story import Part, Story
from outbox_worker.database.acts import Act
from outbox_worker.database.addressees import Addressee
from outbox_worker.database.events import DUPLICATES_MAX, Attempt, Duplicate, Event, Fate
from outbox_worker.errors import NothingMatched

STYLES = {"delivered": "green", "held": "bold red", "dead": "bold red", "waiting": "yellow", "in_doubt": "yellow"}
CHOSEN_AS = {
    "client": "the client that the customer is",
    "linked": "the client that was linked first among the contact's phones",
    "customer": "the customer's phone in accounting, for InBoost knows none of the contact's, as far as known",
    "ordered": "where the last order of a customer with this contact went",
    "contact": "the contact's own phone, for InBoost knows none of its phones, as far as known",
    "never": "it ended before a phone was chosen",
    None: "no phone is known yet",
}
PURPOSES = {"send": "sent", "inquire": "asked"}
ATTEMPTS_SHOWN = 6  # of an operation; the first is shown as well
LINES_SHOWN = 4  # of a list in the payload
EXCERPT_SHOWN = 200  # characters of an answer

showing_options = options.together(
    click.argument("event_id", metavar="EVENT"),
    options.configuration_option,
    click.option("--requests", "with_requests", is_flag=True, help="With the bodies that would be sent now."),
    click.option("--every-attempt", is_flag=True, help="However many there are."),
    options.reveal_option,
    options.json_option,
)


def show_parts(
    states: tuple[str, ...],
    *,
    event_id: str,
    configuration_file: Path | None,
    with_requests: bool,
    every_attempt: bool,
    reveal: bool,
    as_json: bool,
) -> None:
    """Tell the story of an event, or of those of its operations that are in some states.

    Raises NothingMatched when there is no such event, or no such operation of it.
    """
    told = story.read(configuration.load(configuration_file, to_deliver=False), event_id, states)
    screen = Screen(reveals=reveal)
    if states and not told.parts:
        raise NothingMatched(
            f"{event_id} has nothing that is {' or '.join(states).replace('_', ' ')}; see `events show`"
        )
    if as_json:
        output.emit(story.as_data(told, screen))
    else:
        _Telling(told, screen).show(with_requests=with_requests, every_attempt=every_attempt)


class _Telling:
    """Writes a story through a screen that masks what is personal."""

    def __init__(self, told: Story, screen: Screen) -> None:
        self._told = told
        self._event = told.event
        self._screen = screen

    def show(self, *, with_requests: bool, every_attempt: bool) -> None:
        """Write it; of many attempts the first and the last ones, unless `every_attempt`."""
        self._show_event()
        if self._event.payload == "null":
            output.blank()
            output.show("Its story is older than [rounds.housekeeping] keep, and forgotten; it is not sent again.")
            return
        for part in self._told.parts:
            self._show_part(part, with_request=with_requests, every_attempt=every_attempt)
        if not self._told.parts:
            output.blank()
            output.show("Nothing was to be sent: no operation of its kind was switched on when it was recorded.")
        if self._told.acts:
            output.blank()
            output.show("people")
        for act in self._told.acts:
            output.show(f"{output.when(act.acted_at)}  {self._screen.text(_of_act(act))}", indent=2)
        if self._told.duplicates:
            output.blank()
            output.show(f"recorded again, and refused as a duplicate: {_of_duplicates(self._told.duplicates)}")

    def _show_event(self) -> None:
        event = self._event
        customer = f"customer {event.customer_id}" if event.customer_id is not None else "no customer"
        output.show(Text.assemble((event.event_id, "bold"), f"  {customer}{'  historic' if event.historic else ''}"))
        lag_s = (event.recorded_at - event.occurred_at).total_seconds()
        output.show(
            f"happened {output.when(event.occurred_at)}, recorded {output.when(event.recorded_at, event.occurred_at)}"
            + (f", {output.lasting(lag_s)} later" if lag_s >= 1 else "")
            + f" (UTC{datetime.now().astimezone():%z})"
        )
        for line in _of_payload(self._screen.value(event.payload)) if event.payload != "null" else ():
            output.show(line, indent=2)

    def _show_part(self, part: Part, *, with_request: bool, every_attempt: bool) -> None:
        fate = part.fate
        state = (output.spoken(fate.state), STYLES.get(fate.state, ""))
        title = Text.assemble((fate.operation, "bold"), f" to {fate.destination}: ", state)
        output.blank()
        output.show(title.append(self._screen.text(_since(fate, self._event))))
        if part.addressee is not None:
            output.show(self._screen.text(_of_addressee(part.addressee)), indent=4)
        if part.preview.request is not None:
            output.show(part.preview.line(self._screen), indent=4)
        if with_request:
            output.show(part.preview.body(self._screen), indent=4)
        for line in self._of_attempts(part, every_attempt=every_attempt):
            output.show(line, indent=2)
        if fate.delivery is not None or fate.state == "unknown":
            output.show(self._screen.text(part.advice.sentence), indent=2)
            for command in part.advice.commands:
                output.show_command(command, indent=4)

    def _of_attempts(self, part: Part, *, every_attempt: bool) -> Iterator[Text]:
        attempts = part.fate.attempts
        hidden = 0 if every_attempt else max(len(attempts) - 1 - ATTEMPTS_SHOWN, 0)
        for index, attempt in enumerate(attempts):
            if index == 1 and hidden:
                yield Text(f"   … {hidden} more: --every-attempt")
            if index == 0 or index > hidden:
                yield from self._of_attempt(attempt, part.preview.digest)

    def _of_attempt(self, attempt: Attempt, digest: str | None) -> Iterator[Text]:
        took = "" if attempt.took_us is None else output.lasting(attempt.took_us / 1e6)
        yield Text(
            f"{attempt.number:>2}  {output.when(attempt.begun_at, self._event.recorded_at)}  "
            f"{PURPOSES[attempt.purpose]:<5} {took:>7}  {_of_outcome(attempt)} → {output.spoken(attempt.verdict)}"
        )
        if attempt.reason and attempt.reason != f"answered {attempt.status}":
            yield Text(f"    {self._screen.text(attempt.reason)}", style="dim")
        if attempt.excerpt and attempt.outcome != "accepted":
            answer = " ".join(self._screen.text(attempt.excerpt).split())
            yield Text(f"    answer: {answer[:EXCERPT_SHOWN]}{'…' * (len(answer) > EXCERPT_SHOWN)}", style="dim")
        if attempt.purpose == "send" and attempt.digest and digest and attempt.digest != digest:
            yield Text("    its body was another one than would be sent now", style="dim")


def _of_addressee(addressee: Addressee) -> str:
    if addressee.identified_at is None:
        return "whose order it is, is to be identified"
    made_with = "without usable contact data" if addressee.contact_id is None else f"of contact {addressee.contact_id}"
    return f"{made_with}, to {addressee.phone or 'nobody'}: {CHOSEN_AS[addressee.chosen_as]}"


def _of_payload(payload: Value) -> Iterator[str]:
    if not isinstance(payload, dict):
        yield _plainly(payload)
        return
    lists = {name: value for name, value in payload.items() if isinstance(value, list)}
    yield " · ".join(f"{name} {_plainly(value)}" for name, value in payload.items() if name not in lists)
    for name, items in lists.items():
        yield f"{name}: {len(items)}"
        for item in items[:LINES_SHOWN]:
            yield "  " + (" · ".join(map(_plainly, item.values())) if isinstance(item, dict) else _plainly(item))
        if len(items) > LINES_SHOWN:
            yield f"  … and {len(items) - LINES_SHOWN} more"


def _plainly(value: Value) -> str:
    return value if isinstance(value, str) else encoded(value)


def _since(fate: Fate, event: Event) -> str:
    if fate.settled_at is not None:
        by = "" if fate.receipt is not None or fate.end is None else f", by the word of {fate.end.actor}"
        after = output.lasting((fate.settled_at - event.recorded_at).total_seconds())
        return f" {output.when(fate.settled_at, event.recorded_at)}, {after} after it was recorded{by}"
    delivery = fate.delivery
    if delivery is None:
        return ""
    if delivery.claimed_at is not None:
        return f", on its way since {output.when(delivery.claimed_at)}"
    since = f" since {output.when(delivery.due_at)}" if delivery.state in ("held", "dead", "waiting") else ""
    is_told = bool(fate.attempts) and fate.attempts[-1].reason == delivery.reason
    return since + (f": {delivery.reason}" if delivery.reason and not is_told else "")


def _of_outcome(attempt: Attempt) -> str:
    words = [output.spoken(attempt.outcome), "" if attempt.status is None else str(attempt.status)]
    evidence = "" if attempt.evidence in (None, "answered") else f"({output.spoken(attempt.evidence or '')})"
    return " ".join(filter(None, [*words, evidence]))


def _of_act(act: Act) -> str:
    what = f"{act.act} {act.operation}" if act.operation else act.act
    return f"{what}, by {act.actor} as {act.recorder}: {act.reason}"


def _of_duplicates(duplicates: list[Duplicate]) -> str:
    last, number = duplicates[0], len(duplicates)
    times = output.counted(number, "time") + (" or more" if number == DUPLICATES_MAX else "")
    return f"{times}, last {output.when(last.refused_at)} by {last.recorder}{', as history' if last.historic else ''}"
