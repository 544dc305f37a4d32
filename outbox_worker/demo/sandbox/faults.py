"""The faults that can be switched on: their words, their parameters, and whom they hit.

One request suffers one fault: the first in the list that fits and whose chance strikes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

import msgspec

from outbox_worker.demo.sandbox.operations import OPERATIONS
from outbox_worker.errors import ConfigurationError


class Kind(msgspec.Struct, frozen=True):
    """A kind of fault: what happens, and what it takes besides `probability` and `count`."""

    about: str
    defaults: dict[str, Any] = {}
    acts: bool = True  # the request has its effect; the word `act` decides where the kind takes it


KINDS = {
    "refuse": Kind("answers as usual; then nobody listens at the port", {"seconds": 1.0}),
    "reset_unread": Kind("RST at the head of the request, its body unread", acts=False),
    "reset_before": Kind("RST when the request was read", acts=False),
    "reset_after": Kind("RST instead of the answer"),
    "hang": Kind("no answer until the client goes", {"act": False}),
    "error": Kind("500, 502, 503 or 504", {"status": 500, "act": False}),
    "throttle": Kind("429 with Retry-After, in form seconds or date", {"seconds": 1.0, "form": "seconds"}, acts=False),
    "unauthorized": Kind("401 or 403", {"status": 401}, acts=False),
    "redirect": Kind("302", {"location": "/elsewhere"}, acts=False),
    "garbage": Kind("bytes that are not HTTP, then the end", {"act": True}),
    "cut": Kind("half of the announced body, then the end", {"act": True}),
    "not_json": Kind("200 with a page in HTML, as a proxy shows it", acts=False),
    "cursor_expired": Kind("410 to whoever goes on with a list"),
    "cursor_loop": Kind("a list that goes round in a circle"),
    "slow": Kind("acts and answers later", {"seconds": 1.0}),
    "close_after": Kind("answers as usual, then closes unannounced"),
    "reset_idle": Kind("answers as usual, then RST once idle so long", {"seconds": 0.0}),
    "barrier": Kind("held at point arrived or acted until released", {"point": "arrived"}),
}
STATUSES = {"error": (500, 502, 503, 504), "unauthorized": (401, 403)}


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """A fault as it was asked for; what its kind does not take stays at nothing."""

    operation: str
    kind: str
    probability: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    count: Annotated[int, msgspec.Meta(ge=1)] | None = None  # of requests that it will hit; none: all
    seconds: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 0.0
    status: int = 0
    act: bool | None = None
    form: Literal["", "seconds", "date"] = ""
    location: str = ""
    point: Literal["", "arrived", "acted"] = ""

    @property
    def acts(self) -> bool:
        """Say whether the request has its effect all the same."""
        return KINDS[self.kind].acts if self.act is None else self.act


def parse_fault(text: str) -> Fault:
    """Read `OPERATION:KIND[:key=value,...]`. Raises ConfigurationError with a sentence that names what is allowed."""
    operation, _, rest = text.partition(":")
    kind, _, pairs = rest.partition(":")
    parameters: dict[str, Any] = {}
    for pair in filter(None, pairs.split(",")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigurationError(f"fault {text!r}: {pair!r} is not of the form key=value")
        parameters[key] = value
    return make_fault({"operation": operation, "kind": kind} | parameters)


def make_fault(words: dict[str, Any]) -> Fault:
    """Build a fault from its words, numbers also as text. Raises ConfigurationError as `parse_fault` does."""
    operation, kind = words.get("operation"), words.get("kind")
    if operation != "*" and operation not in OPERATIONS:
        raise ConfigurationError(f"no operation is called {operation!r}; there are *, {', '.join(OPERATIONS)}")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ConfigurationError(f"no fault is called {kind!r}; there are {', '.join(KINDS)}")
    allowed = ("probability", "count", *KINDS[kind].defaults)
    if unknown := sorted(words.keys() - {"operation", "kind", *allowed}):
        raise ConfigurationError(f"fault {kind} does not take {', '.join(unknown)}; it takes {', '.join(allowed)}")
    try:
        fault = msgspec.convert(KINDS[kind].defaults | words, Fault, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"fault {kind} for {operation}: {error}") from error
    if kind in STATUSES and fault.status not in STATUSES[kind]:
        raise ConfigurationError(f"fault {kind}: status is one of {', '.join(map(str, STATUSES[kind]))}")
    return fault


class Active(msgspec.Struct):
    """A fault that is switched on, and how many requests it will still hit (none: all)."""

    fault: Fault
    left: int | None


class Faults:
    """The faults that are switched on. `chance` draws from [0, 1) and is the only source of chance."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self.active: list[Active] = []

    def replace(self, faults: Iterable[Fault]) -> None:
        """Switch these on and all others off."""
        self.active = [Active(fault, fault.count) for fault in faults]

    def draw(self, operation: str) -> Fault | None:
        """Choose what the next request of an operation suffers."""
        for active in self.active:
            if active.fault.operation in ("*", operation) and active.left != 0 and self._strikes(active.fault):
                if active.left is not None:
                    active.left -= 1
                return active.fault
        return None

    def _strikes(self, fault: Fault) -> bool:
        return fault.probability >= 1 or self._chance() < fault.probability
