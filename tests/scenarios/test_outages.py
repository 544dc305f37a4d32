"""InBoost is away, busy, broken, or not where it was: what each costs a delivery, and whom it holds up."""

from __future__ import annotations

from itertools import pairwise

from outbox_worker.demo.sandbox.ledger import SeenRequest
from tests.scenarios.judgement import assert_settled
from tests.scenarios.world import DEDUPLICATING, PATIENT, World

ACCEPTED = ("accepted", "acknowledge")
FAILURES_MAX = 5  # retry.circuit_threshold's default


def requests_of(world: World, operation: str) -> list[SeenRequest]:
    return [it for it in world.inboost.state.ledger.requests.after(0) if it.operation == operation]


def paused(world: World) -> dict[str, str]:
    return dict(world.rows("select destination, pause_reason from outbox.destination where paused_at is not null"))


def failure_count(world: World, destination: str) -> int:
    return int(world.value("select failure_count from outbox.destination where destination = %s", destination))


def refuse(world: World) -> None:
    """Close InBoost's port for the next second; called again and again, it stays closed."""
    world.inboost.do(world.inboost.sandbox.refuse_for, 1.0)


def overlapping(seen: list[SeenRequest]) -> list[tuple[SeenRequest, SeenRequest]]:
    return [(one, two) for one, two in pairwise(seen) if two.arrived_monotonic_s < (one.ended_monotonic_s or 0)]


def test_while_nobody_listens_nothing_is_charged_and_afterwards_everything_goes_by_itself(world: World) -> None:
    refuse(world)
    for customer in world.shop.customers(30):
        world.shop.accrue(customer)
    world.start()

    def fails_again_and_again() -> bool:
        refuse(world)
        return failure_count(world, "api") > FAILURES_MAX

    world.until(fails_again_and_again, "the failures to be noticed")
    assert world.request_count() == 0
    assert not world.rows("select from outbox.delivery where try_count > 0")
    assert set(world.states()) == {"pending"}
    assert_settled(world, within_s=60)
    assert failure_count(world, "api") == 0
    assert world.rows("select distinct outcome from outbox.attempt order by 1") == [("accepted",), ("not_sent",)]


def test_a_destination_that_fails_again_and_again_gets_one_probe_at_a_time(world: World) -> None:
    for customer in world.shop.customers(30):
        world.shop.accrue(customer)
    world.inboost.put_faults("accrual_webhook:error:status=503")
    world.start()
    world.until(lambda: failure_count(world, "accrual_hook") >= FAILURES_MAX + 2, "two probes after the circuit opened")
    seen = requests_of(world, "accrual_webhook")
    probes = seen[-2:]
    assert probes[1].arrived_at - probes[0].arrived_at > 0.4, "a rest of half a second at least parts two probes"
    assert not overlapping(probes)
    assert not world.rows("select from outbox.delivery where try_count > 0")
    world.until(lambda: len(requests_of(world, "set_bonus_balance")) == 30, "the other destination to go on")
    world.inboost.put_faults()
    assert_settled(world, within_s=60)


def test_a_hook_that_hangs_is_left_alone_before_everything_that_waits_for_it_is_held(world: World) -> None:
    """Each request to it ends in doubt, and each doubt is a person's work."""
    for customer in world.shop.customers(60):
        world.shop.buy(customer)
    world.inboost.put_faults("purchase_webhook:hang:act=true")
    world.start({"inboost.request_timeout": 0.6, "inboost.connect_timeout": 0.3, "relay.slots": 4})
    world.until(lambda: failure_count(world, "purchase_hook") > FAILURES_MAX, "the failures to be noticed", 40)
    assert world.states()["held"] <= FAILURES_MAX * 4 + 3
    world.inboost.put_faults()
    world.until_done(60)
    assert_settled(world, held=world.states()["held"])


def test_retry_after_holds_for_the_whole_destination_and_for_every_worker(world: World) -> None:
    world.inboost.put_faults("set_bonus_balance:throttle:seconds=3,count=1")
    for worker in (world.start(), world.start()):
        assert worker.name, "it has started"
    world.shop.accrue(world.shop.customer())
    world.until(lambda: requests_of(world, "set_bonus_balance"), "the throttled request")
    [throttled] = requests_of(world, "set_bonus_balance")
    world.until(
        lambda: world.rows("select from outbox.destination where rest_until > clock_timestamp() + interval '1 s'"),
        "the rest to be written down",
    )
    for customer in world.shop.customers(10):
        world.shop.accrue(customer)
    world.until(lambda: len(requests_of(world, "accrual_webhook")) == 11, "the hook to be served meanwhile")
    assert_settled(world)
    _, *later = requests_of(world, "set_bonus_balance")
    assert min(it.arrived_monotonic_s for it in later) >= (throttled.ended_monotonic_s or 0) + 2.9
    assert world.rows("select try_count from outbox.delivery where try_count > 0") == []


def test_a_500_is_sent_again_by_the_timetable_where_that_is_safe(world: World) -> None:
    world.shop.accrue(world.shop.customer())
    world.inboost.put_faults("accrual_webhook:error:status=500,act=true,count=3")
    world.start({"retry.first": 0.2, "retry.longest": 10})
    assert_settled(world)
    arrivals = [it.arrived_monotonic_s for it in requests_of(world, "accrual_webhook")]
    gaps = [later - earlier for earlier, later in pairwise(arrivals)]
    assert len(gaps) == 3
    assert gaps[0] >= 0.1 and gaps[1] >= 0.2 and gaps[2] >= 0.4  # half of a step at least, and each step doubles
    assert world.attempts("accrual_webhook") == [("in_doubt", "retry")] * 3 + [("duplicate", "acknowledge")]


def test_a_500_is_held_where_it_is_not(world: World) -> None:
    world.shop.buy(world.shop.customer())
    world.inboost.put_faults("purchase_webhook:error:status=500,act=true,count=1")
    world.start()
    assert_settled(world, held=1)
    assert len(requests_of(world, "purchase_webhook")) == 1


def test_tries_that_are_spent_hold_the_delivery(world: World) -> None:
    world.shop.accrue(world.shop.customer())
    world.inboost.put_faults("accrual_webhook:error:status=500,count=3")
    worker = world.start({"retry.first": 0.05, "retry.tries_max": 3})
    assert_settled(world, held=1)
    world.until_asleep(worker)
    assert len(requests_of(world, "accrual_webhook")) == 3


def replace_in_payloads(world: World, old: str, new: str) -> None:
    world.do("update outbox.event set payload = replace(payload::text, %s, %s)::json", old, new)


def refuse_first_purchase(world: World) -> None:
    """Let InBoost refuse what it cannot understand: a number that is none. Others of the customer follow."""
    customer, other = world.shop.customers(2)
    world.shop.buy(customer, "1.00")
    replace_in_payloads(world, '"purchase_id" : "1"', '"purchase_id" : {}')
    for buyer in (customer, other, customer):
        world.shop.buy(buyer)


def test_a_refused_request_is_a_dead_letter_with_the_answer_kept_and_its_lane_goes_on(world: World) -> None:
    refuse_first_purchase(world)
    world.start()
    world.until_done()
    assert world.states() == {"dead": 2}
    refused = world.rows(
        "select operation, status, excerpt from outbox.attempt where verdict = 'dead_letter' order by 1"
    )
    assert [(operation, status) for operation, status, _ in refused] == [
        ("add_purchase", 400),
        ("purchase_webhook", 400),
    ]
    assert all("bad_body" in excerpt for _, _, excerpt in refused)
    assert world.attempts("add_purchase")[1:] == [ACCEPTED] * 3
    assert len(world.inboost.state.ledger.effects.after(0)) == 6


def test_with_on_dead_letter_wait_the_lane_stays_and_others_go_on(world: World) -> None:
    refuse_first_purchase(world)
    waiting = {"relay.on_dead_letter": "wait"}
    worker = world.start(waiting)
    world.until(lambda: world.states().get("dead") == 2, "the refusals")
    world.do("notify outbox")  # what follows is found by the next full look; this asks for it now
    world.until(lambda: world.states() == {"dead": 2, "waiting": 4}, "the lanes to stay")
    assert world.attempts("add_purchase") == [("rejected", "dead_letter"), ACCEPTED]
    world.until_asleep(worker)
    # A person mends the event and requeues the dead letter with what follows it.
    replace_in_payloads(world, '"purchase_id" : {}', '"purchase_id" : "1"')
    world.do("update outbox.delivery set state = 'pending', reason = null, due_at = clock_timestamp()")
    world.do("notify outbox")
    assert_settled(world)


def test_with_on_hold_wait_the_lane_stays_until_a_person_resolves_it(world: World) -> None:
    customer = world.shop.customer()
    for _ in range(3):
        world.shop.buy(customer)
    world.inboost.put_faults("purchase_webhook:reset_after:count=1")
    worker = world.start({"relay.on_hold": "wait"})
    world.until(lambda: world.states().get("held") == 1, "the hold")
    world.do("notify outbox")  # what follows is found by the next full look; this asks for it now
    world.until(lambda: world.states() == {"held": 1, "waiting": 2}, "the lane to stay")
    world.until_asleep(worker)
    assert len(requests_of(world, "purchase_webhook")) == 1
    world.do("update outbox.delivery set state = 'pending', reason = null")  # the person has it sent again
    world.do("notify outbox")
    world.until_done()
    expected = [None, 409, 200, 200]  # the last answer may still be on its way into the ledger
    world.until(lambda: [it.status for it in requests_of(world, "purchase_webhook")] == expected, "four requests")


def test_a_redirect_pauses_the_destination_and_nothing_follows_it(world: World) -> None:
    world.inboost.put_faults(f"accrual_webhook:redirect:location={world.inboost.url}/elsewhere")
    for customer in world.shop.customers(5):
        world.shop.accrue(customer)
    worker = world.start()
    world.until(lambda: paused(world), "the pause")
    assert list(paused(world)) == ["accrual_hook"]
    world.until(lambda: len(requests_of(world, "set_bonus_balance")) == 5, "the other destination to go on")
    world.until_asleep(worker)
    world.until(lambda: not world.claims(), "every redirect to be written down: each pauses the destination anew")
    seen = len(requests_of(world, "accrual_webhook"))
    assert not requests_of(world, "unknown")
    world.inboost.put_faults()
    world.do("update outbox.destination set paused_at = null, pause_reason = null")
    world.do("notify outbox")
    assert_settled(world)
    assert len(requests_of(world, "accrual_webhook")) == seen + 5


def test_a_wrong_token_pauses_the_portal_and_the_hooks_go_on(world: World) -> None:
    for customer in world.shop.customers(30):
        world.shop.buy(customer, accrued="1.00")
    worker = world.start({"inboost.token": "yesterdays"})
    world.until(lambda: paused(world), "the pause")
    assert paused(world) == {"api": "answered 401"}
    world.until(lambda: world.effect_count() == 60, "the hooks to go on")
    world.until(lambda: world.states() == {"pending": 60}, "what the hooks took to be written down")
    world.until_asleep(worker)
    assert not world.rows("select from outbox.delivery where try_count > 0")
    assert worker.lines_of("destination paused")[0]["level"] == "error"
    worker.stop()
    world.do("update outbox.destination set paused_at = null, pause_reason = null")
    world.start()
    assert_settled(world)


def test_answers_that_are_late_by_little_are_waited_for(world: World) -> None:
    world.inboost.put_faults("*:slow:seconds=1")
    for customer in world.shop.customers(5):
        world.shop.accrue(customer)
    world.start(PATIENT)
    assert_settled(world)
    assert world.request_count() == 10


def test_every_fault_at_once_is_weathered(world: World) -> None:
    faults = ("reset_unread", "reset_before", "reset_after", "garbage", "cut", "close_after", "reset_idle")
    errors = ("error:status=500,act=true", "error:status=502", "error:status=503", "slow:seconds=0.05")
    world.inboost.put_faults(
        "*:throttle:seconds=1,count=2",
        *(f"*:{fault}:probability=0.03" for fault in faults),
        *(f"*:{error},probability=0.03" for error in errors),
    )
    customers = world.shop.customers(20)
    for number in range(100):
        world.shop.buy(customers[number % 20], accrued="1.00")
    world.start(DEDUPLICATING)
    world.until(lambda: world.effect_count() >= 350, "most of it to arrive", 60)
    world.inboost.put_faults()
    assert_settled(world, within_s=60)
    assert world.inboost.sandbox.summary()["overlap"]["count_max"] == 1
