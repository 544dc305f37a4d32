"""What we say to InBoost: makes the request of a claim, by the table in `operations` as the configuration left it.

The body is made by `body`, signatures by `signing`. Here are the address, the headers and the phone numbers, and the
rule that nothing of an event or a setting may break out of the line it is put into.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

import msgspec

from outbox_worker import __version__
from outbox_worker.errors import ConfigurationError, Unsendable
from outbox_worker.inboost import body
from outbox_worker.inboost.operations import API, DELIVERIES, Operation
from outbox_worker.inboost.signing import Signer
from outbox_worker.records import Claim, Purpose, Request
from outbox_worker.rules.phones import normalise

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_VISIBLE = re.compile(r"[!-$&-~]+")  # visible ASCII but the percent sign, which says that something was encoded
_PATH_SAFE = re.compile(r"[+\w~-]+", re.ASCII)  # nothing but a plus to encode, as in phones
_HEADER_SAFE = "!\"#$&'()*+,/:;<=>?@[\\]^`{|}"  # what `quote` need not touch in a header, with what it never touches


@dataclass(frozen=True, slots=True)
class Hook:
    """Where a hook's requests go, and the secrets that sign them: none, one, or two during a rotation."""

    url: str
    secrets: tuple[str, ...] = ()


class Template:
    """A path with `{name}` where a value stands. Raises ConfigurationError for a brace that is part of no name."""

    def __init__(self, text: str) -> None:
        self._pieces = _PLACEHOLDER.split(text)
        self.names = frozenset(self._pieces[1::2])
        if {"{", "}"} & set("".join(self._pieces[::2])):
            raise ConfigurationError(f"the path {text} has a brace that is part of no {{name}}")

    def fill(self, value_of: Callable[[str], str | None]) -> str:
        """Put values, percent-encoded, in the places of their names. Raises Unsendable for what cannot stand there."""
        if not self.names:
            return self._pieces[0]
        pieces = self._pieces.copy()
        for index in range(1, len(pieces), 2):
            value = value_of(pieces[index])
            if value in {None, "", ".", ".."}:  # the receiver would take the path for another one
                raise Unsendable(f"{pieces[index]} is missing or dots, and cannot stand in a path")
            pieces[index] = value.replace("+", "%2B") if _PATH_SAFE.fullmatch(value) else quote(value, safe="")
        return "".join(pieces)


class _Rendering:
    """An operation, made ready once and used for every delivery."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.template = Template(operation.path)
        self.body = body.BodyMap(operation.fields)
        # A GET carries no body: its fields, where it has any, are those of the answer.
        self.sources = self.template.names | (frozenset() if operation.method == "GET" else self.body.sources)


class Profile:
    """The table of operations, ready to make requests of claims. One for the process; it keeps nothing of what it sees.

    `authorization` is a whole header line and goes to the portal (`base_url`) only: a hook may be anybody's address.
    Hooks are by destination. Raises ConfigurationError for an address or a header that could not be sent as it stands.
    """

    def __init__(
        self,
        *,
        operations: Mapping[str, Operation],
        base_url: str | None,
        authorization: str | None,
        hooks: Mapping[str, Hook],
        phone_region: str,
        event_id_prefix: str = "",
    ) -> None:
        common: tuple[str, ...] = ("Content-Type: application/json", f"User-Agent: outbox-worker/{__version__}")
        self.operations = operations
        self.phone_region = phone_region
        self.event_id_prefix = event_id_prefix
        self._headers = dict.fromkeys(hooks, common) | {API: (*common, authorization) if authorization else common}
        self._addresses = {destination: hook.url for destination, hook in hooks.items()}
        if base_url is not None:
            self._addresses[API] = base_url
        self._signers = {destination: Signer(hook.secrets) for destination, hook in hooks.items() if hook.secrets}
        self._renderings = {name: _Rendering(operation) for name, operation in operations.items()}
        for line in (*self._headers[API], *self._addresses.values(), *(row.path for row in operations.values())):
            _refuse_unprintable(line)

    @property
    def deliveries(self) -> tuple[str, ...]:
        """The operations that events are delivered to, without those that the configuration switches off."""
        return tuple(name for name in DELIVERIES if self.operations[name].enabled)

    def request(self, claim: Claim, now: datetime) -> Request:
        """Make the request that a claim is for: the operation, or the look-up that settles a doubt about it.

        `now` dates the signature. Raises Unsendable; with `waits` when a usable phone number is all that is missing.
        """
        rendering = self._rendering_for(claim)
        operation = rendering.operation
        identifier = self.event_id_prefix + claim.event_id
        values = body.read(claim.payload)
        self._add_envelope(values, claim, identifier, rendering.sources)
        if claim.phone is not None:
            values["phone"] = body.raw(claim.phone)
        self._read_phones(values, rendering.sources)
        path = rendering.template.fill(lambda ours: body.text_of(values.get(ours)))
        content = b"" if operation.method == "GET" else rendering.body(values)
        visible = identifier if _VISIBLE.fullmatch(identifier) else quote(identifier, safe=_HEADER_SAFE)
        headers = (*self._headers[operation.destination], f"Idempotency-Key: {visible}")
        if signer := self._signers.get(operation.destination):
            headers += signer.headers(visible, now, content)
        return Request(operation.method, self._addresses[operation.destination] + path, headers, content)

    def call(self, name: str, values: Mapping[str, object]) -> Request:
        """Make the request of an operation that is about clients, not about an event.

        `values` go by our names, phones in E.164. What is missing or None is left out of the query and of the body.
        """
        operation = self.operations[name]
        given = {ours: value for ours, value in values.items() if value is not None}
        path, _, query = operation.path.partition("?")
        kept = "&".join(part for part in query.split("&") if given.keys() >= set(_PLACEHOLDER.findall(part)))
        template = Template(f"{path}?{kept}" if kept else path)
        url = self._addresses[API] + template.fill(lambda ours: str(given.get(ours, "")))
        encoded = b"" if operation.method == "GET" else msgspec.json.encode(_members(operation, given))
        return Request(operation.method, url, self._headers[API], encoded)

    def _rendering_for(self, claim: Claim) -> _Rendering:
        found = self._renderings.get(claim.operation)
        if found is not None and claim.purpose is Purpose.INQUIRE:
            found = self._renderings.get(found.operation.look_up)
        if found is None:
            raise Unsendable(f"this version knows no operation {claim.operation}, or no look-up for it")
        if not found.operation.enabled or found.operation.destination not in self._addresses:
            raise Unsendable(f"the configuration switches {found.operation.name} off")
        return found

    def _add_envelope(self, values: body.Values, claim: Claim, identifier: str, sources: frozenset[str]) -> None:
        values["event_id"] = body.raw(identifier)
        if "occurred_at" in sources:
            values["occurred_at"] = body.instant(claim.occurred_at)
        if "recorded_at" in sources:
            values["recorded_at"] = body.instant(claim.recorded_at)

    def _read_phones(self, values: body.Values, sources: frozenset[str]) -> None:
        """Replace the phones that the operation speaks of with their E.164 form."""
        if "phone" in sources:
            phone = normalise(body.text_of(values.get("phone")), self.phone_region)
            if phone is None:
                raise Unsendable("the client has no phone number that is certainly one", waits=True)
            values["phone"] = body.raw(phone)
        if "phones" in sources and not _is_normalised(values):
            values["phones"] = body.raw(self._usable(body.read_any(values.get("phones"))))

    def _usable(self, phones: object) -> list[str]:
        if not isinstance(phones, list):
            raise Unsendable("the event has no list of phones")
        found = (normalise(phone, self.phone_region) for phone in phones if isinstance(phone, str))
        usable = list(dict.fromkeys(phone for phone in found if phone is not None))
        if not usable:
            raise Unsendable(f"none of the {len(phones)} phones is certainly a phone number")
        return usable


def _is_normalised(values: body.Values) -> bool:
    """Say whether the list was made by the expiry notice: 100,000 phones are not read again in the relay's loop."""
    return values.get("normalised") == body.TRUE and bytes(values.get("phones", b"")).startswith(b'["+')


def _members(operation: Operation, given: Mapping[str, object]) -> dict[str, object]:
    constants = {wire: field.constant for wire, field in operation.fields.items() if field.constant is not None}
    found = {wire: given[field.source] for wire, field in operation.fields.items() if field.source in given}
    return found | {wire: msgspec.Raw(constant) for wire, constant in constants.items()}


def _refuse_unprintable(line: str) -> None:
    if not line.isascii() or not line.isprintable():
        raise ConfigurationError("an address, path or header of the InBoost profile has characters that cannot be sent")
