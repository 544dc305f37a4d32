"""The default InBoost profile: every path, field name and meaning of an answer that we assume, as data, in one place.

InBoost publishes no complete reference, and tenants differ; so each row here can be overridden in the configuration,
operation by operation, field by field. `profile` makes requests of these rows and knows none of them.

Names on the left of a field mapping are InBoost's (wire names). Names on the right are ours: those of the event's
payload as accounting records it, and of its envelope (`event_id`, `occurred_at`, `recorded_at`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from outbox_worker.records import OnDoubt
from outbox_worker.rules.outcome import Meanings

API = "api"
HOOKS = ("accrual_hook", "redemption_hook", "purchase_hook", "expiry_hook")

# What these names hold in every payload, wherever they are mapped to. A number that is none (PostgreSQL's NaN comes as
# a string) or an instant without an offset would be refused by InBoost, or worse, understood wrongly.
NUMBERS = frozenset({"total", "bonus_accrued", "bonus_redeemed", "amount", "balance", "quantity", "price"})
INSTANTS = frozenset({"purchased_at", "changed_at"})


@dataclass(frozen=True, slots=True)
class Field:
    """Where the value of one wire field comes from: a name of ours, or `constant`, which is JSON text.

    `each` maps the fields of every object where the value is a list of objects. A value that is not `required` is left
    out when the event lacks it.
    """

    source: str = ""
    constant: bytes | None = None
    required: bool = True
    each: Mapping[str, Field] | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the profile.

    `path` is a template below the portal's address, `{name}` standing for a value, empty for a hook, which has a URL of
    its own. `look_up` names the operation that settles a doubt about this one.
    """

    name: str
    method: str
    destination: str
    meanings: Meanings
    path: str = ""
    fields: Mapping[str, Field] = field(default_factory=dict)
    on_doubt: OnDoubt = OnDoubt.HOLD
    look_up: str = ""
    enabled: bool = True


def _optional(source: str) -> Field:
    return Field(source, required=False)


def _meanings(*accepted: int, duplicate: int | None = None, unknown_client: int | None = None) -> Meanings:
    return Meanings(
        accepted=frozenset(accepted) or None,
        duplicate=frozenset() if duplicate is None else frozenset({duplicate}),
        unknown_client=frozenset() if unknown_client is None else frozenset({unknown_client}),
    )


def _hook(name: str, destination: str, event: bytes, fields: Mapping[str, Field]) -> Operation:
    envelope = {
        "event": Field(constant=b'"' + event + b'"'),
        "eventId": Field("event_id"),
        "occurredAt": Field("occurred_at"),
    }
    return Operation(name, "POST", destination, _meanings(duplicate=409), fields={**envelope, **fields})


_LINE = {name: _optional(name) for name in ("sku", "name", "quantity", "price", "amount")}

_PURCHASE = {
    "eventId": Field("event_id"),
    "purchaseId": Field("purchase_id"),
    "purchasedAt": Field("purchased_at"),
    "total": Field("total"),
    "currency": _optional("currency"),
    "bonusAccrued": _optional("bonus_accrued"),
    "bonusRedeemed": _optional("bonus_redeemed"),
    "lines": Field("lines", each=_LINE),
}

_BONUS = {
    "phone": Field("phone"),
    "code": Field("code"),
    "amount": Field("amount"),
    "balance": _optional("balance"),
}

_CLIENT = {
    "userPhoneNumber": Field("phone"),
    "userName": _optional("first_name"),
    "lastName": _optional("last_name"),
    "email": _optional("email"),
    "birth": _optional("birth_date"),
    "source": _optional("source"),
    "profession": _optional("specialty"),
}

# Answers: a list of clients, each with what InBoost alone knows, and where the list goes on.
_CLIENTS = {
    "items": Field("clients", each={"id": _optional("client_id"), **_CLIENT, "updatedAt": _optional("updated_at")}),
    "nextCursor": _optional("cursor"),
}

_ROWS = (
    Operation(
        "set_bonus_balance",
        "PUT",
        API,
        _meanings(200, 204, duplicate=409, unknown_client=404),
        "/api/MyClients/{phone}/bonusBalance",
        {"eventId": Field("event_id"), "balance": Field("balance"), "changedAt": Field("changed_at")},
        OnDoubt.RESEND,  # setting the same balance twice is setting it once, and the lane keeps balances in order
    ),
    Operation(
        "add_purchase",
        "POST",
        API,
        _meanings(200, 201, duplicate=409, unknown_client=404),
        "/api/MyClients/{phone}/purchases",
        _PURCHASE,
        OnDoubt.LOOKUP,
        look_up="find_purchase",
    ),
    Operation("find_purchase", "GET", API, _meanings(200), "/api/MyClients/{phone}/purchases/{event_id}"),
    _hook("accrual_webhook", "accrual_hook", b"bonus_accrual", _BONUS),
    _hook("redemption_webhook", "redemption_hook", b"bonus_redemption", _BONUS),
    _hook(
        "purchase_webhook",
        "purchase_hook",
        b"purchase",
        {name: _PURCHASE.get(name, Field(name)) for name in ("phone", "purchaseId", "total", "currency")},
    ),
    _hook(
        "expiry_webhook",
        "expiry_hook",
        b"bonus_expiry",
        {"expiresBefore": Field("expires_before"), "phones": Field("phones")},
    ),
    Operation(
        "list_clients",
        "GET",
        API,
        _meanings(200),
        "/api/MyClients?updatedSince={updated_since}&limit={limit}&cursor={cursor}",
        _CLIENTS,
    ),
    Operation("find_client", "GET", API, _meanings(200), "/api/MyClients?phone={phone}", _CLIENTS),
    Operation("add_client", "POST", API, _meanings(200, 201, duplicate=409), "/api/MyClients/AddNewClient", _CLIENT),
)

DEFAULT: Mapping[str, Operation] = {row.name: row for row in _ROWS}

DELIVERIES = (
    "set_bonus_balance",
    "add_purchase",
    "accrual_webhook",
    "redemption_webhook",
    "purchase_webhook",
    "expiry_webhook",
)
"""The operations that deliver events; the others look up, read, or keep clients."""
