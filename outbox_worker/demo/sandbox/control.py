"""The control API under `/sandbox/`: a test reads the ledger and steers the faults. The ledger has none of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec

from outbox_worker.demo.sandbox.faults import Fault, make_fault, parse_fault
from outbox_worker.demo.sandbox.ledger import Journal
from outbox_worker.demo.sandbox.operations import EVENTFUL
from outbox_worker.demo.sandbox.sandbox import Sandbox
from outbox_worker.demo.sandbox.state import Answer
from outbox_worker.errors import ConfigurationError

PREFIX = "/sandbox/"
PAGE_DEFAULT, PAGE_MAX = 1_000, 10_000
Query = Mapping[str, str]


class Outage(msgspec.Struct, forbid_unknown_fields=True):
    """Of `POST /sandbox/outage`."""

    seconds: Annotated[float, msgspec.Meta(ge=0)]


class Release(msgspec.Struct, forbid_unknown_fields=True):
    """Of `POST /sandbox/release`; nothing releases everything that is held now."""

    point: str | None = None
    count: int | None = None


def control(sandbox: Sandbox, method: str, path: str, query: Query, body: bytes) -> Answer:
    """Carry out a control request."""
    place = path.removeprefix(PREFIX)
    try:
        if method == "GET" and place.startswith("state/"):
            return Answer(200, sandbox.state.of_phone(place.removeprefix("state/")))
        command = COMMANDS.get((method, place))
        if command is None:
            return Answer(
                404, {"error": "no such control", "controls": [f"{way} {PREFIX}{name}" for way, name in COMMANDS]}
            )
        return Answer(200, command(sandbox, query, body))
    except (ConfigurationError, msgspec.DecodeError) as error:
        return Answer(400, {"error": str(error)})


def put_faults(sandbox: Sandbox, faults: list[str | dict[str, Any]]) -> None:
    """Replace all faults by these, each a text as on the command line or its words as an object."""
    sandbox.faults.replace([_fault(words) for words in faults])


def set_deduplication(sandbox: Sandbox, wanted: Mapping[str, bool]) -> dict[str, bool]:
    """Switch deduplication per operation (`*`: all); tell how it stands. Raises ConfigurationError on other words."""
    if unknown := sorted(wanted.keys() - {"*", *EVENTFUL}):
        raise ConfigurationError(f"{', '.join(unknown)} cannot be deduplicated; there are *, {', '.join(EVENTFUL)}")
    state = sandbox.state
    for operation, on in wanted.items():
        chosen = set(EVENTFUL) if operation == "*" else {operation}
        state.deduplicated = state.deduplicated | chosen if on else state.deduplicated - chosen
    return {operation: operation in state.deduplicated for operation in EVENTFUL}


def _fault(words: str | dict[str, Any]) -> Fault:
    return parse_fault(words) if isinstance(words, str) else make_fault(words)


def _page(journal: Journal[Any], query: Query) -> dict[str, Any]:
    after = _number(query, "after", 0)
    rows = journal.after(after, min(_number(query, "limit", PAGE_DEFAULT), PAGE_MAX))
    last = rows[-1].sequence if rows else after
    return {"items": rows, "last": last, "more": last < journal.last, "forgotten": journal.forgotten_count}


def _number(query: Query, name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isdecimal():
        raise ConfigurationError(f"`{name}` is a number from 0 up, not {text!r}")
    return int(text)


def _requests(sandbox: Sandbox, query: Query, _body: bytes) -> dict[str, Any]:
    return _page(sandbox.state.ledger.requests, query)


def _effects(sandbox: Sandbox, query: Query, _body: bytes) -> dict[str, Any]:
    return _page(sandbox.state.ledger.effects, query)


def _summary(sandbox: Sandbox, _query: Query, _body: bytes) -> dict[str, Any]:
    return sandbox.summary()


def _state(sandbox: Sandbox, _query: Query, _body: bytes) -> dict[str, int]:
    return sandbox.state.totals()


def _faults(sandbox: Sandbox, _query: Query, _body: bytes) -> list[dict[str, Any]]:
    return [msgspec.structs.asdict(active) for active in sandbox.faults.active]


def _put_faults(sandbox: Sandbox, query: Query, body: bytes) -> list[dict[str, Any]]:
    put_faults(sandbox, msgspec.json.decode(body, type=list[str | dict[str, Any]]))
    return _faults(sandbox, query, body)


def _delete_faults(sandbox: Sandbox, query: Query, body: bytes) -> list[dict[str, Any]]:
    sandbox.faults.replace([])
    return _faults(sandbox, query, body)


def _clients(sandbox: Sandbox, _query: Query, body: bytes) -> dict[str, int]:
    clients = msgspec.json.decode(body, type=list[str | dict[str, Any]])
    return {"clients": sandbox.state.register(clients, time.time())}


def _deduplication(sandbox: Sandbox, _query: Query, body: bytes) -> dict[str, bool]:
    return set_deduplication(sandbox, msgspec.json.decode(body, type=dict[str, bool]))


def _expire_cursors(sandbox: Sandbox, _query: Query, _body: bytes) -> dict[str, str]:
    sandbox.state.expire_cursors()
    return {"cursors": "expired"}


def _outage(sandbox: Sandbox, _query: Query, body: bytes) -> dict[str, float]:
    outage = msgspec.json.decode(body, type=Outage)
    sandbox.refuse_for(outage.seconds)
    return {"seconds": outage.seconds}


def _release(sandbox: Sandbox, _query: Query, body: bytes) -> dict[str, int]:
    release = msgspec.json.decode(body or b"{}", type=Release)
    if release.point not in (None, *sandbox.barrier.counts()):
        raise ConfigurationError(
            f"no point is called {release.point!r}; there are {', '.join(sandbox.barrier.counts())}"
        )
    return {"released": sandbox.barrier.release(release.point, release.count)}


COMMANDS: dict[tuple[str, str], Callable[[Sandbox, Query, bytes], Any]] = {
    ("GET", "summary"): _summary,
    ("GET", "ledger/requests"): _requests,
    ("GET", "ledger/effects"): _effects,
    ("GET", "state"): _state,
    ("GET", "faults"): _faults,
    ("PUT", "faults"): _put_faults,
    ("DELETE", "faults"): _delete_faults,
    ("POST", "clients"): _clients,
    ("PUT", "deduplication"): _deduplication,
    ("DELETE", "cursors"): _expire_cursors,
    ("POST", "outage"): _outage,
    ("POST", "release"): _release,
}
