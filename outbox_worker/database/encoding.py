"""A turn as statements, and the rows that come back as an answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from outbox_worker.database import statements
from outbox_worker.database.pipeline import Row, Statement
from outbox_worker.database.turns import Answer, DestinationState, Look, Terms, Turn
from outbox_worker.records import Action, Claim, Conclusion, Outcome, Purpose
from outbox_worker.rules.lanes import Due

DOORBELL = 122550254464888  # the word `outbox` in ASCII; sql/install/ring_doorbell.sql has the same
OPEN_STATES = ("pending", "in_doubt")  # of deliveries that are sent or looked up when they are due
REREAD_MAX = 64  # deliveries of a lane that is read anew

_PURPOSES = {str(purpose): purpose for purpose in Purpose}  # StrEnum looks a value up ten times as slowly
STATES = {
    Action.ACKNOWLEDGE: None,
    Action.RETRY: "pending",
    Action.INQUIRE: "in_doubt",
    Action.HOLD: "held",
    Action.DEAD_LETTER: "dead",
    Action.WAIT_FOR_CLIENT: "waiting",
}


def statements_of(turn: Turn, terms: Terms) -> list[Statement]:
    """Return the statements of a turn in the order in which they must take effect."""
    return [*_about_the_past(turn, terms), *_about_the_future(turn, terms)]


def _about_the_past(turn: Turn, terms: Terms) -> Iterator[Statement]:
    accepted, others = _sorted_out(turn.conclusions)
    if turn.disarm:
        yield Statement("disarm", statements.DISARM, [str(DOORBELL)])
    if turn.arm:
        yield Statement("arm", statements.ARM, [str(DOORBELL)])
    if accepted:
        yield Statement("accepted", statements.ACKNOWLEDGE, _acknowledgements(accepted))
    if others:
        yield Statement("others", statements.CONCLUDE, _conclusions(others))
    if turn.survey_but is not None:
        yield Statement("foreign", statements.FOREIGN_CLAIMS, [_array(turn.survey_but)])
    if turn.notes:
        yield Statement("notes", statements.NOTE_DESTINATIONS, [_json(turn.notes), str(terms.failures_max)])
    if turn.unclaimed:
        waiting = [state for state in terms.blocking_states if state not in OPEN_STATES]
        yield Statement("follow", statements.FOLLOW, [*_keys(turn.unclaimed), _array(waiting)])


def _about_the_future(turn: Turn, terms: Terms) -> Iterator[Statement]:
    operations, failures_max = _array(terms.operations), str(terms.failures_max)
    if turn.candidates or turn.fresh:
        probing = [str(terms.probe_s), _array(turn.probes), failures_max]
        claiming = [*_keys(turn.candidates), _array(terms.blocking_states), str(terms.worker)]
        rated = [_array(turn.asked), _array(turn.asked.values())]
        looking = [*_looks(turn.fresh), operations]
        yield Statement("claims", statements.CLAIM, [*claiming, *probing, _array(OPEN_STATES), *rated, *looking])
    if turn.looks:
        yield Statement("found", statements.LOOK, [*_looks(turn.looks), operations])
    if turn.rereads:
        yield Statement("reread", statements.REREAD, [_array(turn.rereads), operations, str(REREAD_MAX)])
    if not turn.at_ring:
        yield Statement("destinations", statements.DESTINATIONS, [failures_max])


def answer_of(turn: Turn, rows: Mapping[str, Sequence[Row]]) -> Answer:
    """Return what the rows say."""
    answer = Answer()
    written = {lane for name in ("accepted", "others") for (lane,) in rows.get(name, ())}
    answer.overtaken = [it for it in turn.conclusions if it.claim.lane not in written]
    answer.claims = [claim_of(row) for row in rows.get("claims", ())]
    for destination, delivery_id, lane, due_s in rows.get("found", ()):
        answer.found.setdefault(destination, []).append(Due(delivery_id, lane, due_s))
    answer.reread = [Due(*row) for row in rows.get("reread", ())]
    answer.destinations = [DestinationState(*row) for row in rows.get("destinations", ())]
    if "foreign" in rows:
        answer.oldest_foreign_claim_s = rows["foreign"][0][0]
    if "arm" in rows:
        answer.armed = rows["arm"][0][0]
    return answer


def claim_of(row: Sequence[Any]) -> Claim:
    """Return the claim that a row of CLAIM or TAKE_OVER holds."""
    claim_id, lane, delivery_id, number, purpose, *rest = row
    return Claim(claim_id, lane, delivery_id, number, _PURPOSES[purpose], *rest)


def _sorted_out(conclusions: Sequence[Conclusion]) -> tuple[list[Conclusion], list[Conclusion]]:
    """Part the plainly accepted ones, nearly all, from the others."""
    accepted: list[Conclusion] = []
    others: list[Conclusion] = []
    for conclusion in conclusions:
        (accepted if conclusion.outcome is Outcome.ACCEPTED else others).append(conclusion)
    return accepted, others


def _acknowledgements(conclusions: Sequence[Conclusion]) -> list[str]:
    exchanges = [conclusion.exchange for conclusion in conclusions]
    return [
        *_fences(conclusions),
        _array(exchange.took_us if exchange else 0 for exchange in exchanges),
        _array(exchange.status or 0 if exchange else 0 for exchange in exchanges),
        "\\x" + b"".join(conclusion.digest or bytes(32) for conclusion in conclusions).hex(),
        _json([conclusion.excerpt for conclusion in conclusions]),
    ]


def _conclusions(conclusions: Sequence[Conclusion]) -> list[str]:
    return [*_fences(conclusions), _json([_conclusion(conclusion) for conclusion in conclusions])]


def _fences(conclusions: Sequence[Conclusion]) -> list[str]:
    claims = [conclusion.claim for conclusion in conclusions]
    return [_array(claim.lane for claim in claims), _array(claim.claim_id for claim in claims)]


def _conclusion(conclusion: Conclusion) -> dict[str, Any]:
    claim, verdict, exchange = conclusion.claim, conclusion.verdict, conclusion.exchange
    missed = conclusion.outcome is Outcome.NOT_FOUND
    return {
        "lane": claim.lane,
        "took_us": exchange.took_us if exchange else None,
        "outcome": conclusion.outcome,
        "evidence": exchange.evidence if exchange else None,
        "status": exchange.status if exchange else None,
        "verdict": verdict.action,
        "state": STATES[verdict.action],
        "due_in_s": conclusion.due_in_s,
        "counts": int(verdict.counts),
        "miss_count": claim.misses + missed if verdict.action is Action.INQUIRE else 0,
        "reason": verdict.reason or None,
        "digest": conclusion.digest.hex() if conclusion.digest else None,
        "excerpt": conclusion.excerpt,
    }


def _looks(looks: Sequence[Look]) -> list[str]:
    return [
        _array(look.destination for look in looks),
        _array(look.after for look in looks),
        _array(look.count_max for look in looks),
    ]


def _keys(dues: Sequence[Due]) -> tuple[str, str]:
    return _array([due.lane for due in dues]), _array([due.delivery_id for due in dues])


def _array(values: Iterable[object]) -> str:
    """Write an array of numbers or plain names as PostgreSQL reads it."""
    return "{" + ",".join(map(str, values)) + "}"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
