"""What became of it all: accounting's facts against InBoost's ledger of effects, and the outbox between them.

What InBoost should have done is derived from the accounting tables. Only the names of balance changes come from the
outbox, for accounting has none; their number and the last balance are accounting's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from tests.scenarios.world import World

Deed = tuple[str, str]  # operation, event id

HOOKS = {"purchase": "purchase_webhook", "accrual": "accrual_webhook", "redemption": "redemption_webhook"}


@dataclass(frozen=True)
class Judgement:
    """Deeds that are not as they should be."""

    lost: list[Deed]
    doubled: list[Deed]
    uncalled_for: list[Deed]
    disordered: list[tuple[Deed, Deed]]
    held: list[Deed]


def judge(world: World) -> Judgement:
    """Compare what InBoost did with what accounting recorded."""
    expected = _expected(world)
    effects = world.inboost.state.ledger.effects.after(0)
    counts = Counter((effect.operation, effect.event_id or "") for effect in effects)
    held = world.rows("select operation, event_id from outbox.delivery where state = 'held' order by 1, 2")
    return Judgement(
        lost=sorted(deed for deed in expected if not counts[deed] and deed not in held),
        doubled=sorted(deed for deed, count in counts.items() if count > 1),
        uncalled_for=sorted(counts.keys() - expected),
        disordered=_disordered(world),
        held=held,
    )


def assert_settled(world: World, *, lost: int = 0, doubled: int = 0, held: int = 0, within_s: float = 30) -> None:
    """Wait until nothing is under way, and compare: each fact had its effects once, in order, and has its receipt."""
    world.until_done(within_s)
    found = judge(world)
    assert (len(found.lost), len(found.doubled), len(found.held)) == (lost, doubled, held), found
    assert not found.uncalled_for
    assert not found.disordered
    _assert_accounted_for(world)


def _expected(world: World) -> set[Deed]:
    purchases = world.rows("select purchase_id from accounting.purchase where customer_id is not null")
    entries = world.rows("select kind, bonus_entry_id from accounting.bonus_entry")
    balances = world.rows("select event_id from outbox.event where kind = 'bonus_balance'")
    assert len(balances) == len(entries), "a change of a balance was not captured"
    return (
        {(operation, f"purchase:{it}") for (it,) in purchases for operation in ("purchase_webhook", "add_purchase")}
        | {(HOOKS[kind], f"bonus_{kind}:{it}") for kind, it in entries}
        | {("set_bonus_balance", event_id) for (event_id,) in balances}
    )


def _disordered(world: World) -> list[tuple[Deed, Deed]]:
    """Return neighbours at one destination, of one customer, whose first effects came in the wrong order."""
    sequences = dict(world.rows("select event_id, sequence from outbox.event"))
    lanes: dict[tuple[str, str], list[Deed]] = defaultdict(list)
    seen: set[Deed] = set()
    for effect in world.inboost.state.ledger.effects.after(0):
        deed = (effect.operation, effect.event_id or "")
        if deed not in seen:
            seen.add(deed)
            lanes[effect.destination, effect.phone or ""].append(deed)
    return [
        (earlier, later)
        for deeds in lanes.values()
        for earlier, later in pairwise(deeds)
        if sequences.get(earlier[1], 0) > sequences.get(later[1], 0)
    ]


def _assert_accounted_for(world: World) -> None:
    """Each duty is either still there with its state, or has exactly one receipt; balances are accounting's."""
    unreceipted = world.rows(
        "select event.event_id, route.operation from outbox.event join outbox.route using (kind)"
        " left join outbox.attempt on attempt.event_id = event.event_id and attempt.operation = route.operation"
        "     and attempt.verdict = 'acknowledge'"
        " left join outbox.delivery on delivery.event_id = event.event_id and delivery.operation = route.operation"
        " group by 1, 2 having count(distinct attempt.number) + count(distinct delivery.delivery_id) <> 1"
    )
    assert not unreceipted, f"neither waiting nor with one receipt: {unreceipted}"
    balances = world.rows(
        "select phone, balance::text from accounting.bonus_account join accounting.customer using (customer_id)"
        " where exists (select from accounting.bonus_entry entry where entry.customer_id = bonus_account.customer_id)"
        " and not exists (select from outbox.delivery join outbox.event using (event_id)"
        "     where kind = 'bonus_balance' and event.customer_id = bonus_account.customer_id::text)"
    )
    known = {phone: _balance(raw) for phone, raw in world.inboost.state.balances.items()}
    wanted = {_e164(phone): balance for phone, balance in balances}
    assert {phone: known.get(phone) for phone in wanted} == wanted


def _e164(typed: str) -> str:
    """Write a phone of this country as InBoost has it; not by the product's own rule, which is on trial here."""
    digits = "".join(filter(str.isdecimal, typed))
    return f"+38{digits}" if digits.startswith("0") else f"+{digits}"


def _balance(raw: msgspec.Raw) -> str:
    return bytes(msgspec.json.decode(raw, type=dict[str, msgspec.Raw])["balance"]).decode()
