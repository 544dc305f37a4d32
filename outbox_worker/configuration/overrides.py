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
    """What differs from the default profile in one operation."""

    enabled: bool = True
    method: Literal["GET", "POST", "PUT", "PATCH"] | None = None
    path: PathTemplate | None = None
    accepted: tuple[Status, ...] | None = None
    duplicate: tuple[Status, ...] | None = None
    unknown_client: tuple[Status, ...] | None = None
    on_doubt: OnDoubt | None = None
    fields: dict[str, FieldSetting] = Key(default_factory=dict)

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
