"""What doctor makes of a mapping: what schema integration must have, and what it has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from outbox_worker.rules.diagnosis import Finding, fail, warn, well
from outbox_worker.rules.phones import mask, normalise

_KEY, _TEXT, _NUMBER, _INSTANT, _DATE, _JSON = "anything", "a text", "a number", "timestamptz", "a date", "json"
_EVENT = {"kind": _TEXT, "customer_id": _KEY, "payload": _JSON, "occurred_at": _INSTANT}
_NAMED_EVENT = _EVENT | {"source_id": _KEY}

PROMISED: Mapping[str, Mapping[str, str]] = {
    "customer": {
        "customer_id": _KEY,
        "phone": _KEY,
        "email": _TEXT,
        "first_name": _TEXT,
        "last_name": _TEXT,
        "birth_date": _DATE,
        "source": _TEXT,
        "specialty": _TEXT,
        "changed_at": _INSTANT,
    },
    "purchase": {
        "purchase_id": _KEY,
        "customer_id": _KEY,
        "phone": _KEY,
        "purchased_at": _INSTANT,
        "total": _NUMBER,
        "currency": _TEXT,
        "bonus_accrued": _NUMBER,
        "bonus_redeemed": _NUMBER,
        "lines": _JSON,
    },
    "bonus_balance": {"customer_id": _KEY, "phone": _KEY, "balance": _NUMBER, "changed_at": _INSTANT},
    "bonus_lot": {
        "bonus_lot_id": _KEY,
        "customer_id": _KEY,
        "phone": _KEY,
        "expires_on": _DATE,
        "remaining": _NUMBER,
    },
    "purchase_event": _NAMED_EVENT,
    "bonus_entry_event": _NAMED_EVENT,
    "bonus_balance_event": _EVENT,
    "fact": _NAMED_EVENT,
}
"""The views and their columns, with what each must be."""

OPTIONAL: Mapping[str, Mapping[str, str]] = {"purchase": {"contact_email": _TEXT, "contact_phone": _KEY}}
"""Columns that a mapping may leave out."""

FUNCTIONS = ("add_customer", "change_customer")
REFERENCE = "sql/accounting/reference_mapping.sql shows it"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a view: its type, of a domain the one beneath, and that type's category as pg_type has it."""

    view: str
    name: str
    type: str
    category: str
    is_readable: bool


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger of a capture function; all but the function is None where it has none."""

    function: str
    name: str | None
    table: str | None
    enabled: str | None  # pg_trigger.tgenabled: O, D, R or A
    is_deferred: bool | None
    is_on_insert: bool | None
    is_on_update: bool | None

    @property
    def is_of_balance(self) -> bool:
        """Whether it captures what is overwritten, by what our functions are called."""
        return "balance" in self.function


@dataclass(frozen=True, slots=True)
class FactSample:
    """Of so many recent facts, how many have a defect."""

    count: int
    nameless_count: int
    without_customer_count: int
    without_instant_count: int
    same_name_count: int


def judge_views(columns: Sequence[Column]) -> Iterator[Finding]:
    """Every promised view, with its columns in types that can be sent."""
    found: dict[str, dict[str, Column]] = {}
    for column in columns:
        found.setdefault(column.view, {})[column.name] = column
    problems = 0
    for view, promised in PROMISED.items():
        for finding in _judge_view(view, promised, found.get(view, {})):
            problems += 1
            yield finding
    if not problems:
        yield well("mapping", f"schema integration has its {len(PROMISED)} views with all their columns")


def _judge_view(view: str, promised: Mapping[str, str], found: Mapping[str, Column]) -> Iterator[Finding]:
    if not found:
        yield fail("mapping", f"view integration.{view} is missing: add it to your mapping; {REFERENCE}")
        return
    if not all(column.is_readable for column in found.values()):
        yield fail("mapping", f"the worker may not read it: grant select on integration.{view} to outbox_worker")
    missing = sorted(promised.keys() - found.keys())
    if missing:
        yield fail("mapping", f"view integration.{view} has no column {', '.join(missing)}; {REFERENCE}")
    known = {**promised, **OPTIONAL.get(view, {})}
    for name in sorted(known.keys() & found.keys()):
        yield from _judge_type(found[name], known[name])


def _judge_type(column: Column, promised: str) -> Iterator[Finding]:
    where = f"integration.{column.view}.{column.name} is {column.type}"
    if promised == _INSTANT and column.type != "timestamp with time zone":
        yield fail("mapping", f"{where}: nobody knows of which zone. Write {column.name} at time zone 'Europe/Kyiv'")
    elif promised == _JSON and column.type != "json":
        yield fail("mapping", f"{where}, and must be json, which keeps the scale of numbers; build it as such")
    elif promised == _NUMBER and column.category != "N":
        yield fail("mapping", f"{where}, and must be a number; cast it to numeric")
    elif promised == _NUMBER and column.type in ("double precision", "real"):
        yield warn(
            "mapping", f"{where}, a binary fraction: 0.1 + 0.2 leaves as 0.30000000000000004. Cast it to numeric"
        )
    elif promised == _DATE and column.category != "D":
        yield fail("mapping", f"{where}, and must be a date")
    elif promised == _TEXT and column.category in "NDB":
        yield warn("mapping", f"{where}, and is sent as a text; cast it to text")


def judge_functions(executable: Sequence[str]) -> Iterator[Finding]:
    """What the customer sync changes customers by."""
    for name in FUNCTIONS:
        if name not in executable:
            yield fail(
                "mapping",
                f"function integration.{name} is missing, or the worker may not execute it: customers of InBoost "
                f"cannot be made customers of accounting; {REFERENCE}",
            )


def judge_triggers(triggers: Sequence[Trigger]) -> Iterator[Finding]:
    """Every capture function hangs on a trigger that fires when it should."""
    if not triggers:
        yield fail("triggers", f"schema integration has no capture function, so no fact becomes an event; {REFERENCE}")
    problems = 0
    for finding in chain.from_iterable((*map(_judge_trigger, triggers), _judge_occasions(triggers))):
        problems += 1
        yield finding
    if triggers and not problems:
        tables = sorted({trigger.table or "" for trigger in triggers})
        yield well("triggers", f"{len(triggers)} capture triggers are on, on {', '.join(tables)}")


def _judge_trigger(trigger: Trigger) -> Iterator[Finding]:
    after = "then run `outbox-worker reconcile`"
    if trigger.name is None:
        yield fail(
            "triggers",
            f"no trigger calls integration.{trigger.function}: it was dropped, or its table was made anew. Load your "
            f"mapping again, {after}",
        )
        return
    where = f"trigger {trigger.name} on {trigger.table}"
    if trigger.enabled == "D":
        yield fail("triggers", f"{where} is disabled: alter table … enable trigger {trigger.name}, {after}")
    if trigger.enabled == "R":
        yield fail(
            "triggers",
            f"{where} fires for replication only, not for sales: alter table … enable trigger {trigger.name}, {after}",
        )
    if trigger.is_on_insert and not trigger.is_deferred and not trigger.is_of_balance:
        yield warn(
            "triggers",
            f"{where} is not deferred: what is written after the row in the same transaction, its lines say, is not in "
            "the event. Make it a constraint trigger, deferrable initially deferred",
        )


def _judge_occasions(triggers: Sequence[Trigger]) -> Iterator[Finding]:
    """A function may hang on several triggers, and has lost one of them when nothing calls it on its usual occasion."""
    called: dict[str, bool] = {}
    for it in triggers:
        if it.name is not None:
            is_usual = it.is_on_update if it.is_of_balance else it.is_on_insert
            called[it.function] = called.get(it.function, False) or bool(is_usual)
    for function, is_called in called.items():
        if not is_called:
            occasion = "changed" if "balance" in function else "inserted"
            yield warn(
                "triggers",
                f"no trigger calls integration.{function} when a row is {occasion}. If your mapping has one for that, "
                "it was dropped: load the mapping again, then run `outbox-worker reconcile`",
            )


def judge_facts(sample: FactSample) -> Iterator[Finding]:
    """A fact needs a name for all time, an instant, and somebody whom it concerns."""
    of = f"of {sample.count} recent facts"
    if sample.nameless_count:
        yield fail("facts", f"{sample.nameless_count} {of} have no kind or no source id, and cannot be recorded")
    if sample.same_name_count:
        yield fail(
            "facts",
            f"{sample.same_name_count} {of} have the name of another: only the first is sent. A source id names one "
            "fact for all time; look for a join that repeats rows",
        )
    if sample.without_instant_count:
        yield fail("facts", f"{sample.without_instant_count} {of} do not say when they occurred; set occurred_at")
    if sample.without_customer_count:
        yield warn("facts", f"{sample.without_customer_count} {of} have no customer: their deliveries wait for ever")
    if not (sample.nameless_count or sample.same_name_count or sample.without_instant_count):
        yield well("facts", f"{sample.count} recent facts have a name and an instant")


def judge_phones(phones: Sequence[str | None], region: str) -> Finding:
    """How many customers of a sample can be reached."""
    given = [phone for phone in phones if phone]
    unusable = [phone for phone in given if normalise(phone, region) is None]
    counts = f"of {len(phones)} customers {len(phones) - len(given)} have no phone, {len(unusable)} one that is none"
    examples = tuple(dict.fromkeys(mask(phone) for phone in unusable[:50]))[:5]
    if len(unusable) * 2 > len(given):
        return fail("phones", f"{counts}, read as of {region}: is [inboost] phone_region right?", *examples)
    if unusable:
        return warn("phones", f"{counts}: what concerns them waits until accounting has a better one", *examples)
    return well("phones", counts)
