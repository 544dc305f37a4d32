"""InBoost's default profile as the receiving side knows it: which request is which operation.

Written from the interface's text and not from `outbox_worker.inboost`: a judge that shared the sender's table would
share the sender's mistakes.
"""

from __future__ import annotations

import re

import msgspec

API = "api"
E164 = re.compile(r"\+[1-9][0-9]{6,14}")
CLIENTS_PATH = "/api/MyClients"
HOOKS_PATH = "/api/webhok/"  # InBoost spells it so

# The hook ids that a fresh sandbox gives a name to; a hook with any other id is the operation `webhook`.
HOOKS = {
    "accrual": "accrual_webhook",
    "redemption": "redemption_webhook",
    "purchase": "purchase_webhook",
    "expiry": "expiry_webhook",
}
# The operations that carry an event id, in the order of the interface's table: these can be deduplicated.
EVENTFUL = ("set_bonus_balance", "add_purchase", *HOOKS.values(), "webhook")
OPERATIONS = ("list_clients", "find_client", "add_client", "update_client", "find_purchase", *EVENTFUL, "unknown")
# What a worker does under a claim. Reading and writing clients is no delivery, so it belongs to no lane.
LANE_OPERATIONS = frozenset((*EVENTFUL, "find_purchase"))


class Route(msgspec.Struct, frozen=True):
    """What a method and a path say, before the body has been read. `destination` is `api`, a hook id, or empty."""

    operation: str
    destination: str = API
    phone: str | None = None
    event_id: str | None = None


UNKNOWN = Route("unknown", "")
CLIENT_ROUTES = {
    ("PUT", ""): "update_client",
    ("PUT", "bonusBalance"): "set_bonus_balance",
    ("POST", "purchases"): "add_purchase",
}


def route(method: str, path: str, *, searches: bool) -> Route:
    """Name the operation of a request. `path` is decoded; `searches` says that the query names a phone."""
    if path.startswith(HOOKS_PATH):
        return _hook_route(method, path.removeprefix(HOOKS_PATH).removesuffix("/"))
    if path == CLIENTS_PATH and method == "GET":
        return Route("find_client" if searches else "list_clients")
    if path == f"{CLIENTS_PATH}/AddNewClient" and method == "POST":
        return Route("add_client")
    if path.startswith(f"{CLIENTS_PATH}/"):
        return _client_route(method, path.removeprefix(f"{CLIENTS_PATH}/"))
    return UNKNOWN


def _hook_route(method: str, hook_id: str) -> Route:
    if method != "POST" or not hook_id or "/" in hook_id:
        return UNKNOWN
    return Route(HOOKS.get(hook_id, "webhook"), hook_id)


def _client_route(method: str, rest: str) -> Route:
    phone, _, of_client = rest.partition("/")
    if (operation := CLIENT_ROUTES.get((method, of_client))) is not None:
        return Route(operation, phone=phone)
    place, _, event_id = of_client.partition("/")
    if method == "GET" and place == "purchases" and event_id and "/" not in event_id:
        return Route("find_purchase", phone=phone, event_id=event_id)
    return UNKNOWN
