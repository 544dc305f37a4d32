"""Each fault of InBoost's stand-in by itself, at a fifth of all requests: in doubt is what was sent, not answered."""

from __future__ import annotations

import pytest

from outbox_worker.demo.sandbox.faults import KINDS
from outbox_worker.demo.sandbox.ledger import SeenRequest
from tests.scenarios.judgement import assert_settled
from tests.scenarios.world import DEDUPLICATING, World

# After these the request had left and there was no answer that says what became of it: each is one doubt.
DOUBTFUL = {
    "reset_unread": "",
    "reset_before": "",
    "reset_after": "",
    "garbage": "",
    "cut": "",
    "error": "status=500,act=true",
    "hang": "act=true",
}
# An answer came that says that nothing was done, or all was: no doubt.
CERTAIN = {"slow": "seconds=0.05", "throttle": "seconds=1", "unauthorized": "", "redirect": ""}
# The next request may meet a connection that is just being closed, and what is held when the barrier is lifted may be
# answered in time: a doubt or none.
ACCIDENTAL = {"barrier": "point=acted", "refuse": "seconds=0.2", "close_after": "", "reset_idle": "seconds=0"}
# Of lists, which deliveries do not read: to them any 2xx is a yes, whatever page comes with it.
OF_LISTS = {"not_json", "cursor_expired", "cursor_loop"}
ALWAYS = ("reset_after",)

SILENT = {"hang": 4, "barrier": 4}  # with the request time-out, far from what a busy machine takes


def test_every_fault_that_deliveries_meet_is_tried() -> None:
    assert DOUBTFUL.keys() | CERTAIN.keys() | ACCIDENTAL.keys() | OF_LISTS == KINDS.keys()


def marks_of(kind: str) -> list[pytest.MarkDecorator]:
    # asyncio drops connections that were waiting at a port when it closed, without closing them.
    unraised = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    return [*([] if kind in ALWAYS else [pytest.mark.long]), *([unraised] if kind == "refuse" else [])]


def says_enough(it: SeenRequest) -> bool:
    """Tell whether the answer said what became of the request, in spite of the fault."""
    return it.fault == "cut" and it.duplicate and it.operation != "set_bonus_balance"  # its 409 arrived


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, id=kind, marks=marks_of(kind)) for kind in DOUBTFUL | CERTAIN | ACCIDENTAL]
)
def test_a_fault_that_strikes_a_fifth_of_all_requests_loses_and_doubles_nothing(world: World, kind: str) -> None:
    words = ["probability=0.2", *filter(None, [(DOUBTFUL | CERTAIN | ACCIDENTAL)[kind]])]
    customers = world.shop.customers(20)
    for number in range(40):
        world.shop.buy(customers[number % 20], accrued="1.00")
    world.inboost.put_faults(f"*:{kind}:{','.join(words)}")
    world.start(DEDUPLICATING | {"retry.longest": 0.5, "inboost.request_timeout": SILENT.get(kind, 2)})

    def most_is_done() -> bool:
        world.do("update outbox.destination set paused_at = null, pause_reason = null where paused_at is not null")
        return world.effect_count() >= 140

    world.until(most_is_done, "most of it to arrive", 120)
    world.release()  # switches the fault off too
    if kind in ("unauthorized", "redirect"):
        world.until(lambda: most_is_done() and not world.states(), "the rest", 60)
    assert_settled(world, within_s=60)
    assert world.inboost.sandbox.summary()["overlap"]["count_max"] == 1
    hit = [it for it in world.inboost.state.ledger.requests.after(0) if it.fault == kind]
    struck = sum(it.operation != "find_purchase" and not says_enough(it) for it in hit)
    doubts = world.value(
        "select count(*) from outbox.attempt where purpose = 'send' and outcome = 'in_doubt'"
        " and (%s or reason not like '%%timed out%%')",
        kind in SILENT,  # elsewhere a time-out is this machine's doing
    )
    assert len(hit) > 10
    if kind in DOUBTFUL:
        assert doubts == struck
    elif kind in CERTAIN:
        assert doubts == 0
    print({"fault": kind, "struck": len(hit), "in doubt": doubts})
