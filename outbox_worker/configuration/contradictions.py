"""What no single setting shows: settings that contradict one another, or miss one another."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from outbox_worker.configuration.model import Configuration, Rounds
from outbox_worker.configuration.overrides import OperationSettings
from outbox_worker.configuration.portal import Hook, InBoost
from outbox_worker.configuration.refusal import Complaint, Location, suggestion
from outbox_worker.configuration.values import is_plain_to_elsewhere
from outbox_worker.inboost.operations import API, DEFAULT, DELIVERIES, Operation
from outbox_worker.inboost.profile import Template
from outbox_worker.records import OnDoubt

KEPT_BEYOND_HISTORY = timedelta(days=27)  # three months and this are the 120 days that the database insists on
_UNCHANGED = OperationSettings()


def contradictions(configuration: Configuration, *, to_deliver: bool, to_identify: bool = False) -> Iterator[Complaint]:
    """Find them all. What only a delivery needs is missed only `to_deliver`, what the service needs `to_identify`."""
    yield from _numbers(configuration)
    yield from _database(configuration)
    yield from _rounds(configuration.rounds)
    yield from _kept(configuration)
    inboost, identify = configuration.inboost, configuration.identify
    if to_identify and not identify.tokens and not identify.is_for_this_machine:
        yield Complaint(
            ("identify", "tokens"),
            "is missing, and host can be reached from elsewhere: everybody there could read who your customers are; "
            'set tokens, or host = "127.0.0.1"',
        )
    if to_deliver:
        if inboost.ca_file is not None and not inboost.ca_file.is_file():
            yield Complaint(("inboost", "ca_file"), "is no file that can be read")
        yield from _portal(inboost)
        yield from _hooks(inboost)
    yield from _plain_addresses(inboost)
    for name, settings in inboost.operations.items():
        location = ("inboost", "operations", name)
        if name in DEFAULT:
            yield from _operation(location, settings, DEFAULT[name])
        else:
            yield Complaint(location, "is no operation" + suggestion(name, DEFAULT))
    yield from _doubts(inboost)


def _numbers(configuration: Configuration) -> Iterator[Complaint]:
    inboost, relay, retry = configuration.inboost, configuration.relay, configuration.retry
    if inboost.connect_timeout >= inboost.request_timeout:
        yield Complaint(
            ("inboost", "connect_timeout"),
            "must be shorter than request_timeout, which holds for the whole request, connecting and all",
        )
    if relay.lane_read_ahead > relay.read_ahead:
        yield Complaint(("relay", "lane_read_ahead"), f"must be at most read_ahead ({relay.read_ahead})")
    if retry.first > retry.longest:
        yield Complaint(("retry", "first"), "must not be longer than longest")


def _database(configuration: Configuration) -> Iterator[Complaint]:
    database = configuration.database
    if database.password is not None and database.has_password_in_url:
        yield Complaint(("database", "url"), "holds a password, and there is another; take it out of the url")


def _rounds(rounds: Rounds) -> Iterator[Complaint]:
    reconciliation = rounds.reconciliation
    if reconciliation.window < 2 * reconciliation.interval:
        yield Complaint(
            ("rounds", "reconciliation", "window"),
            "must be at least twice the interval, or a round that comes late leaves a gap that nobody looks into",
        )


def _kept(configuration: Configuration) -> Iterator[Complaint]:
    rounds, months = configuration.rounds, configuration.customers.history_months
    least = timedelta(days=31 * months) + KEPT_BEYOND_HISTORY
    if rounds.housekeeping.keep < least:
        yield Complaint(
            ("rounds", "housekeeping", "keep"),
            f"must be at least {least.days}d: history of {months} months is transferred ([customers] history_months), "
            "and a month is the margin",
        )
    if rounds.housekeeping.keep < rounds.reconciliation.window:
        yield Complaint(
            ("rounds", "reconciliation", "window"),
            "must not be longer than [rounds.housekeeping] keep: balances of then are not known any more",
        )


def _portal(inboost: InBoost) -> Iterator[Complaint]:
    in_use = [name for name in DELIVERIES if DEFAULT[name].destination == API and _is_enabled(inboost, name)]
    if not in_use:
        return
    remedy = f"or switch {' and '.join(in_use)} off, as [inboost.operations.{in_use[0]}] enabled = false"
    if inboost.base_url is None:
        yield Complaint(
            ("inboost", "base_url"), f'is missing; write base_url = "https://<portal>.inboost.ai", {remedy}'
        )
    if inboost.token is None:
        yield Complaint(
            ("inboost", "token"), f"is missing; set it, or token_file, or systemd's credential inboost_token; {remedy}"
        )


def _hooks(inboost: InBoost) -> Iterator[Complaint]:
    for destination, hook in inboost.hooks.by_destination().items():
        operation = _operation_of(destination)
        if hook.url is None and _is_enabled(inboost, operation):
            yield Complaint(
                (*_location_of(destination), "url"),
                "is missing; copy the webhook's whole URL from InBoost, or switch what goes there off: "
                f"[inboost.operations.{operation}] enabled = false",
            )


def _plain_addresses(inboost: InBoost) -> Iterator[Complaint]:
    addresses: dict[Location, str | None] = {("inboost", "base_url"): inboost.base_url}
    for destination, hook in inboost.hooks.by_destination().items():
        addresses[*_location_of(destination), "url"] = hook.url
    for location, url in addresses.items():
        if url is not None and is_plain_to_elsewhere(url) and not inboost.allow_plain_http:
            yield Complaint(
                location,
                "is http://, so that customers' data would travel readable; write https://, "
                "or allow_plain_http = true in [inboost] if the way there is private",
            )


def _operation(location: Location, settings: OperationSettings, known: Operation) -> Iterator[Complaint]:
    method = settings.method or known.method
    if (method == "GET") != (known.method == "GET") and (known.name in DELIVERIES or method != "POST"):
        yield Complaint((*location, "method"), f"cannot be {method}: {known.name} is a {known.method} by its nature")
    if settings.path is not None and known.destination != API:
        name = known.destination.removesuffix("_hook")
        yield Complaint((*location, "path"), f"goes for nothing: a hook's address is [inboost.hooks.{name}] url")
    elif settings.path is not None:
        yield from _placeholders((*location, "path"), settings.path, known)
    for wire, setting in settings.fields.items():
        if setting.source is None and setting.constant is None and wire not in known.fields:
            yield Complaint((*location, "fields", wire), "says neither `from` where its value comes nor a `constant`")


def _placeholders(location: Location, path: str, known: Operation) -> Iterator[Complaint]:
    names = Template(path).names
    asking = next((row for row in DEFAULT.values() if row.look_up == known.name), None)
    allowed = {"phone", "event_id"} | Template(known.path).names | _plain_sources(asking or known)
    for name in sorted(names - allowed):
        yield Complaint(location, f"has {{{name}}}, which is no value here{suggestion(name, allowed)}")
    if asking is not None and not names & {"event_id", "purchase_id"}:
        # It would find some other purchase, and the one in doubt would be taken for delivered.
        yield Complaint(location, "must name what is looked for, by {event_id} or {purchase_id}")


def _plain_sources(known: Operation) -> set[str]:
    return {field.source for field in known.fields.values() if field.source and field.each is None}


def _doubts(inboost: InBoost) -> Iterator[Complaint]:
    for name in DELIVERIES:
        location, doubt = ("inboost", "operations", name, "on_doubt"), _settings(inboost, name).on_doubt
        if doubt is OnDoubt.LOOKUP and not DEFAULT[name].look_up:
            yield Complaint(location, f'cannot be "lookup": InBoost has no look-up for {name}; write resend or hold')
        elif (doubt or DEFAULT[name].on_doubt) is OnDoubt.LOOKUP and not _is_enabled(inboost, DEFAULT[name].look_up):
            yield Complaint(location, f"is lookup, and {DEFAULT[name].look_up} is switched off; write hold")
    for destination, hook in inboost.hooks.by_destination().items():
        yield from _doubts_of_hook(destination, hook, _settings(inboost, _operation_of(destination)))


def _doubts_of_hook(destination: str, hook: Hook, settings: OperationSettings) -> Iterator[Complaint]:
    location = (*_location_of(destination), "on_doubt")
    if hook.on_doubt and settings.on_doubt and hook.on_doubt is not settings.on_doubt:
        yield Complaint(location, f"contradicts [inboost.operations.{_operation_of(destination)}] on_doubt; keep one")
    elif hook.on_doubt is OnDoubt.LOOKUP:
        yield Complaint(location, 'cannot be "lookup": a hook cannot be asked; write resend or hold')
    elif OnDoubt.RESEND in (hook.on_doubt, settings.on_doubt) and not hook.receiver_deduplicates:
        yield Complaint(
            location,
            "is resend, which may do everything twice unless the receiver knows event ids again; "
            "declare receiver_deduplicates = true if it does, or write hold",
        )


def _settings(inboost: InBoost, name: str) -> OperationSettings:
    return inboost.operations.get(name, _UNCHANGED)


def _is_enabled(inboost: InBoost, name: str) -> bool:
    return _settings(inboost, name).enabled


def _location_of(destination: str) -> Location:
    return ("inboost", "hooks", destination.removesuffix("_hook"))


def _operation_of(destination: str) -> str:
    return next(name for name, row in DEFAULT.items() if row.destination == destination)
