"""What a person may change in the InBoost profile: operation by operation, field by field."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, JsonValue, model_validator
from pydantic import Field as Key

from outbox_worker.configuration.values import PathTemplate, Status
from outbox_worker.inboost.operations import Field, Operation
from outbox_worker.records import OnDoubt
from outbox_worker.rules.outcome import Meanings

NEEDED: dict[str, JsonValue] = {"needed": True}  # by every installation: the example gives it, to be changed


class Section(BaseModel):
    """A table of the configuration file. Unknown keys are refused: a mistyped key must not go unnoticed."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class FieldSetting(Section):
    """Where one wire field comes from: `"name"`, `{ from = "name" }`, `{ constant = … }`; false or `""`: left out."""

    source: str | None = Key(default=None, alias="from")
    constant: JsonValue = None
    required: bool | None = None
    each: dict[str, FieldSetting] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, given: Any) -> Any:
        if given is False:
            return {"from": ""}
        if given is True:
            raise ValueError("must be the name of a value, a table, or false to leave the field out")
        return {"from": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _one_origin(self) -> FieldSetting:
        if self.constant is not None and (self.source is not None or self.each is not None):
            raise ValueError("has a constant, and so neither `from` nor `each`")
        return self

    def applied(self, known: Field | None, optional: Collection[str]) -> Field | None:
        """Return the field as it is now, None when it is left out. `optional` values may be missing."""
        if self.constant is not None:
            return Field(constant=msgspec.json.encode(self.constant))
        source = (known.source if known else "") if self.source is None else self.source
        if not source:
            return None
        required = source not in optional if self.required is None else self.required
        each = known.each if known and known.source == source else None
        return Field(source, required=required, each=each if self.each is None else merged(each or {}, self.each))


def merged(known: Mapping[str, Field], settings: Mapping[str, FieldSetting]) -> dict[str, Field]:
    """Return a field mapping with some fields changed, added, or left out."""
    optional = {field.source for field in known.values() if not field.required}
    changed = {wire: setting.applied(known.get(wire), optional) for wire, setting in settings.items()}
    return {wire: field for wire, field in {**known, **changed}.items() if field is not None}


class OperationSettings(Section):
    """`[inboost.operations.<name>]`: what differs from our assumptions in your portal's documentation.

    An operation can be changed in any part. There are set_bonus_balance, add_purchase, find_purchase, accrual_webhook,
    redemption_webhook, purchase_webhook, expiry_webhook, list_clients, find_client, add_client. An example of each
    key; none of them is needed.
    """

    enabled: bool = True
    """false: nothing is sent there. Events are still recorded, and a delivery that is already waiting becomes a dead
    letter."""
    method: Literal["GET", "POST", "PUT", "PATCH"] | None = Key(default=None, examples=['"POST"'])
    """The request's."""
    path: PathTemplate | None = Key(default=None, examples=['"/api/MyClients/{phone}/purchases"'])
    """{phone}, {event_id} and the plain values of the event stand for themselves, percent-encoded."""
    accepted: tuple[Status, ...] | None = Key(default=None, examples=["[200, 201]"])
    """HTTP statuses that mean: done. An empty list is any 2xx."""
    duplicate: tuple[Status, ...] | None = Key(default=None, examples=["[409]"])
    """Those that mean: done before."""
    unknown_client: tuple[Status, ...] | None = Key(default=None, examples=["[404]"])
    """Those that mean: no such client."""
    on_doubt: OnDoubt | None = Key(default=None, examples=['"lookup"'])
    """When it is in doubt: "lookup" (find_purchase decides), "resend" (the receiver deduplicates), "hold" (a person
    does)."""
    fields: dict[str, FieldSetting] = Key(
        default_factory=dict,
        examples=[
            'purchaseId = "purchase_id"',
            'total = { from = "total", required = true }',
            'lines = { from = "lines", each = { sku = "sku", name = "name" } }',
        ],
    )
    """InBoost's name = our name. Ours are those of the event's payload, and event_id, occurred_at, recorded_at. false
    leaves a field out; { from = "total", required = false } and { constant = "POS" } are further forms. Of the fields
    of a line those that are not named stay as they are."""

    def applied(self, known: Operation) -> Operation:
        """Return the operation as it is now."""
        return replace(
            known,
            enabled=self.enabled,
            method=self.method or known.method,
            path=self.path or known.path,
            meanings=self._meanings(known.meanings),
            on_doubt=self.on_doubt or known.on_doubt,
            fields=merged(known.fields, self.fields),
        )

    def _meanings(self, known: Meanings) -> Meanings:
        accepted = known.accepted if self.accepted is None else frozenset(self.accepted) or None
        return Meanings(
            accepted=accepted,
            duplicate=known.duplicate if self.duplicate is None else frozenset(self.duplicate),
            unknown_client=known.unknown_client if self.unknown_client is None else frozenset(self.unknown_client),
        )
