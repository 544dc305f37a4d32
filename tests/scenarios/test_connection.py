"""The way to the database: cut without a word, slow to come back, or set up for somebody else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.scenarios.cable import Cable
from tests.scenarios.judgement import assert_settled
from tests.scenarios.world import QUICK, World

ACCEPTED = ("accepted", "acknowledge")


@pytest.fixture
def cable(world: World) -> Iterator[Cable]:
    with Cable(world.worker_url) as cable:
        yield cable


def test_while_the_database_lets_nobody_in_answers_are_heard_in_time(world: World, cable: Cable) -> None:
    """Whoever waits for the database in the loop itself is deaf meanwhile, and takes an answer for a time-out."""
    world.shop.accrue(world.shop.customer())
    world.inboost.put_faults("*:barrier:point=acted,count=2")
    worker = world.start({"database.url": cable.conninfo, "inboost.request_timeout": 3})
    world.until_held("acted", 2)
    cable.deafen()
    world.end_session(worker)
    world.until(lambda: worker.lines_of("database lost"), "the worker to notice")
    world.release()
    world.until(lambda: len(worker.lines_of("attempt")) == 2, "the answers")
    cable.mend()
    assert_settled(world)
    assert world.attempts("accrual_webhook") == world.attempts("set_bonus_balance") == [ACCEPTED]


@pytest.mark.long
def test_a_connection_that_is_cut_without_a_word_is_given_up_and_what_was_in_flight_is_written_down(
    world: World, cable: Cable
) -> None:
    """Both kernels go on acknowledging, as through a proxy that hangs: only the time-out of a turn can tell."""
    customers = world.shop.customers(20)
    world.inboost.put_faults("*:barrier:point=acted,count=2")
    worker = world.start({"database.url": cable.conninfo, "inboost.request_timeout": 60})
    world.shop.accrue(customers[0])
    world.until_held("acted", 2)
    cable.cut()
    world.release()
    for customer in customers:
        world.shop.buy(customer, accrued="1.00")
    world.until(lambda: worker.lines_of("database lost"), "the turn to be given up", 90)
    assert world.request_count() == 2, "something was sent that is not claimed"
    cable.mend()
    assert_settled(world, within_s=60)
    assert not world.rows("select from outbox.attempt where outcome = 'in_doubt'"), "a conclusion was not kept"


def test_a_worker_whose_connection_is_cut_is_stood_in_for_by_another(world: World, cable: Cable) -> None:
    world.shop.accrue(world.shop.customer())
    world.inboost.put_faults("*:barrier:point=acted,count=2")
    cut_off = world.start({"database.url": cable.conninfo})
    world.until_held("acted", 2)
    cable.cut()
    world.release()
    world.until(lambda: len(cut_off.lines_of("attempt")) == 2, "the answers")
    for customer in world.shop.customers(5):
        world.shop.accrue(customer)
    world.start(QUICK)
    assert_settled(world)
    assert world.attempts("accrual_webhook")[:2] == [("in_doubt", "retry"), ("duplicate", "acknowledge")]
    assert world.inboost.state.ledger.counts["accrual_webhook"]["effects"] == 6


def test_what_the_role_has_as_its_defaults_is_not_what_the_worker_works_with(
    world: World, worker_login: dict[str, str]
) -> None:
    """A database whose clients speak another code page, or that is to be read only unless somebody says otherwise."""
    [(database,)] = world.rows("select current_database()")
    for setting in ("client_encoding = 'WIN1251'", "default_transaction_read_only = on", "statement_timeout = '1ms'"):
        world.do(f'alter role {worker_login["user"]} in database "{database}" set {setting}')
    world.inboost.put_faults("purchase_webhook:error:status=500,count=1")
    world.shop.buy(world.shop.customer())  # of «Карпатський» tea
    world.start()
    assert_settled(world, held=1)
    [(body,)] = [(it.body,) for it in world.inboost.state.ledger.effects.after(0) if it.operation == "add_purchase"]
    assert "Чай «Карпатський»" in bytes(body).decode()
