"""Deliveries chosen by filters, and listed: what `in-doubt list` and `dead-letters list` have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from rich.text import Text

from outbox_worker import configuration, logs
from outbox_worker.cli import options, output, story
from outbox_worker.configuration import Configuration
from outbox_worker.database import deliveries
from outbox_worker.database.deliveries import Delivery, Selection
from outbox_worker.database.engine import session
from outbox_worker.errors import NothingMatched

EPILOG = """\b
Exit status: 0, or 1 if there is none.

\b
--json gives one object: count (of all that match), deliveries: of each
event_id, operation, destination, customer_id, state, reason, attempt_count,
due_at, recorded_at, claimed_at.
"""


@dataclass(frozen=True, slots=True)
class Filters:
    """What was said on the command line of the deliveries that are meant."""

    event_ids: tuple[str, ...] = ()
    operation: str | None = None
    destination: str | None = None
    customer_id: str | None = None
    older_than: timedelta | None = None

    @classmethod
    def taken_from(cls, words: dict[str, Any]) -> Self:
        """Take what belongs to the filters out of the words of a command."""
        return cls(**{field.name: words.pop(field.name) for field in fields(cls) if field.name in words})

    @property
    def says_nothing(self) -> bool:
        """Whether all deliveries are meant."""
        return self == Filters()

    def selection(self, settings: Configuration, states: tuple[str, ...]) -> Selection:
        """Return what is meant among those in some states."""
        event_ids = tuple(story.without_prefix(settings, it) for it in self.event_ids)
        return Selection(states, event_ids, self.operation, self.destination, self.customer_id, self.older_than)


FILTER_OPTIONS = (
    options.operation_option,
    options.destination_option,
    options.customer_option,
    options.older_than_option,
)


listing_options = options.together(
    options.configuration_option, *FILTER_OPTIONS, options.limit_option, options.json_option
)


def list_them(states: tuple[str, ...], words: dict[str, Any]) -> None:
    """List deliveries in some states, the oldest first. Raises NothingMatched if there is none."""
    filters = Filters.taken_from(words)
    _list(states, filters, **words)


def _list(
    states: tuple[str, ...], filters: Filters, *, configuration_file: Path | None, limit: int, as_json: bool
) -> None:
    settings = configuration.load(configuration_file, to_deliver=False)
    selection = filters.selection(settings, states)
    with session(settings.database.conninfo, "outbox-worker list") as connection:
        found = deliveries.find(connection, selection, limit)
        count = len(found) if len(found) < limit else deliveries.count(connection, selection)
    if as_json:
        output.emit({"count": count, "deliveries": [_as_data(it) for it in found]})
    if not found:
        raise NothingMatched("nothing matches")
    if not as_json:
        _show(found, count)


def _show(found: Sequence[Delivery], count: int) -> None:
    for delivery in found:
        output.show(_line(delivery))
        if delivery.reason:
            output.show(logs.clean(delivery.reason), indent=2)
    if count > len(found):
        output.show(f"… and {count - len(found):,} more: --limit")


def _line(delivery: Delivery) -> Text:
    customer = f"customer {delivery.customer_id}" if delivery.customer_id is not None else "no customer"
    state = "being sent" if delivery.claimed_at is not None else output.spoken(delivery.state)
    rest = f" {delivery.operation}, {customer}, recorded {output.when(delivery.recorded_at)}: {state}"
    return Text.assemble((delivery.event_id, "bold"), rest)


def _as_data(delivery: Delivery) -> dict[str, Any]:
    return {
        "event_id": delivery.event_id,
        "operation": delivery.operation,
        "destination": delivery.destination,
        "customer_id": delivery.customer_id,
        "state": delivery.state,
        "reason": delivery.reason,
        "attempt_count": delivery.attempt_count,
        "due_at": delivery.due_at,
        "recorded_at": delivery.recorded_at,
        "claimed_at": delivery.claimed_at,
    }
