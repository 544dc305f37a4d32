"""identity.identify, several callers at once: each critical point with two sessions, and all of them at random.

A session that is to be met in the middle has a transaction open: it has written, holds its locks, and nobody sees it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from random import Random
from typing import Any

import psycopg
import pytest

from tests.sql.identity import Ask, Contact, add, broken, clusters, components, contacts, identify
from tests.sql.till import Connect, Session, beside, until, until_waiting, value


@pytest.fixture
def first(connect: Connect) -> Session:
    """A session in the middle of a transaction."""
    session = connect()
    session.execute("begin")
    return session


@pytest.fixture
def second(connect: Connect) -> Session:
    return connect()


def meeting(dba: Session, first: Session, second: Session, email: str | None, phone: str | None) -> Contact:
    """Let the second ask, see it wait for the first, let the first commit, and return the second's answer."""
    with beside(lambda: identify(second, email, phone)) as told:
        until_waiting(dba, second)
        first.execute("commit")
    assert not broken(dba)
    return told.result()


def test_two_who_bring_the_same_become_one_contact(dba: Session, first: Session, second: Session) -> None:
    identify(first, "a@x", "1111111")
    assert meeting(dba, first, second, "a@x", "1111111") == Contact(1, ["a@x"], ["1111111"], [])
    assert len(contacts(dba)) == 1


@pytest.mark.parametrize(("email", "phone"), [("a@x", "2222222"), ("b@x", "1111111")])
def test_who_brings_one_value_of_a_newcomer_becomes_its_secondary(
    dba: Session, first: Session, second: Session, email: str, phone: str
) -> None:
    identify(first, "a@x", "1111111")
    assert meeting(dba, first, second, email, phone).secondaries == [2]


def test_what_crosses_is_locked_in_one_order(dba: Session, first: Session, second: Session, connect: Connect) -> None:
    """(a, 2) and (b, 1) and (a, 1) and (b, 2) at once: whoever comes first, no two wait for each other."""
    identify(first, "a@x", "1111111")
    asks = [("a@x", "2222222"), ("b@x", "1111111"), ("b@x", "2222222"), ("a@x", "1111111")]
    sessions = [connect() for _ in asks]
    with ThreadPoolExecutor(len(asks)) as threads:
        told = [threads.submit(identify, it, *ask) for it, ask in zip(sessions, asks, strict=True)]
        waiting = (
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        )
        try:
            until(lambda: value(dba, waiting) + sum(it.done() for it in told) == len(asks), "all to wait or be done")
        finally:
            first.execute("commit")
        assert all(it.result(20) for it in told)
    assert not broken(dba)
    assert clusters(dba) == components(asks)


def test_an_addition_waits_for_a_join_and_is_linked_to_the_primary_that_stays(
    dba: Session, first: Session, second: Session
) -> None:
    identify(dba, "a@x", None)
    identify(dba, None, "2222222")
    identify(first, "a@x", "2222222")
    told = meeting(dba, first, second, "new@x", "2222222")
    assert told == Contact(1, ["a@x", "new@x"], ["2222222"], [2, 3])


def test_a_join_waits_for_an_addition_and_takes_it_along(dba: Session, first: Session, second: Session) -> None:
    identify(dba, "a@x", None)
    identify(dba, None, "2222222")
    identify(first, "new@x", "2222222")
    told = meeting(dba, first, second, "a@x", "2222222")
    assert told == Contact(1, ["a@x", "new@x"], ["2222222"], [2, 3])


def test_an_addition_that_finds_itself_to_be_a_join_joins(dba: Session, first: Session, second: Session) -> None:
    identify(dba, "a@x", "1111111")
    identify(first, "b@x", "2222222")
    told = meeting(dba, first, second, "a@x", "2222222")
    assert (told.primary, told.secondaries) == (1, [2])


def test_two_additions_that_find_themselves_to_be_joins_do_not_wait_for_each_other(
    dba: Session, first: Session, connect: Connect
) -> None:
    """Both hold identity's lock shared and want it alone: each gives its share back first."""
    identify(dba, "a@x", "1111111")
    identify(first, "b@x", "2222222")
    identify(first, "c@x", "3333333")
    sessions = connect(), connect()
    with (
        beside(lambda: identify(sessions[0], "a@x", "2222222")),
        beside(lambda: identify(sessions[1], "a@x", "3333333")),
    ):
        for it in sessions:
            until_waiting(dba, it)
        first.execute("commit")
    assert not broken(dba)
    assert clusters(dba) == components([("a@x", "1111111"), ("b@x", "2222222"), ("c@x", "3333333"),
                                        ("a@x", "2222222"), ("a@x", "3333333")])  # fmt: skip


def test_two_joins_of_a_chain_go_one_after_the_other(dba: Session, first: Session, second: Session) -> None:
    for number in "123":
        identify(dba, f"{number}@x", number * 7)
    identify(first, "2@x", "3333333")
    told = meeting(dba, first, second, "1@x", "2222222")
    assert (told.primary, told.secondaries) == (1, [2, 3])


def test_two_of_the_same_join_write_it_once(dba: Session, first: Session, second: Session) -> None:
    identify(dba, "a@x", None)
    identify(dba, None, "2222222")
    told = identify(first, "a@x", "2222222")
    assert meeting(dba, first, second, "a@x", "2222222") == told
    assert len(contacts(dba)) == 2


def test_what_is_known_is_answered_while_others_hold_every_lock(
    dba: Session, first: Session, second: Session, connect: Connect
) -> None:
    identify(dba, "a@x", "1111111")
    identify(dba, None, "2222222")
    before = identify(second, "a@x")
    identify(first, "a@x", "2222222")
    adding = connect()
    second.execute("set lock_timeout = '50ms'")
    with beside(lambda: identify(adding, "new@x", "1111111")):
        until_waiting(dba, adding)
        assert identify(second, "a@x", "1111111") == before
        assert identify(second, None, "2222222").primary == 2
        with pytest.raises(psycopg.errors.LockNotAvailable):
            identify(second, "another@x", "1111111")
        first.execute("commit")
    assert identify(second, "new@x").phones == ["1111111", "2222222"]


def test_a_request_that_was_rolled_back_leaves_nothing(dba: Session, first: Session, second: Session) -> None:
    identify(first, "a@x", "1111111")
    with beside(lambda: identify(second, "b@x", "1111111")) as told:
        until_waiting(dba, second)
        first.execute("rollback")
    assert (told.result().emails, told.result().secondaries) == (["b@x"], [])


def test_additions_to_one_cluster_each_answer_with_all_before_them(
    dba: Session, first: Session, second: Session
) -> None:
    """They lock different values; were it not for the primary's row, neither would know of the other."""
    identify(dba, "a@x", "1111111")
    identify(first, "b@x", "1111111")
    assert meeting(dba, first, second, "a@x", "2222222").emails == ["a@x", "b@x"]


def test_who_deletes_a_primary_waits_for_an_addition_to_it_and_takes_it_along(
    dba: Session, first: Session, second: Session
) -> None:
    identify(dba, "a@x", "1111111")
    identify(first, "b@x", "1111111")
    with beside(lambda: second.execute("update identity.contact set deleted_at = now() where contact_id = 1")):
        until_waiting(dba, second)
        first.execute("commit")
    assert not broken(dba)
    assert identify(dba, "b@x") == Contact(2, ["b@x"], ["1111111"], [])


def test_who_adds_to_a_cluster_whose_primary_is_being_deleted_is_linked_to_the_heir(
    dba: Session, first: Session, second: Session
) -> None:
    identify(dba, "a@x", "1111111")
    identify(dba, "b@x", "1111111")
    first.execute("update identity.contact set deleted_at = now() where contact_id = 1")
    assert meeting(dba, first, second, "c@x", "1111111") == Contact(2, ["b@x", "c@x"], ["1111111"], [3])


@pytest.mark.parametrize("values", [6, 40])
def test_whatever_many_ask_at_the_same_time_the_clusters_are_those_of_union_find(
    dba: Session, database_url: str, values: int
) -> None:
    run_at_random(dba, database_url, seed=values, values=values, count=60)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(40))
def test_however_often_they_ask(dba: Session, database_url: str, seed: int) -> None:
    run_at_random(dba, database_url, seed=seed, values=(3, 8, 30, 200)[seed % 4], count=300)


def run_at_random(dba: Session, url: str, *, seed: int, values: int, count: int) -> None:
    """Let eight sessions ask at random, four of them many at once; hold all answers and the end against the oracle."""
    asked: list[list[Ask]] = [_asks(Random(f"{seed} {number}"), values, count) for number in range(8)]  # noqa: S311

    def ask_each(asks: list[Ask]) -> list[tuple[Ask, Contact]]:
        with closing(psycopg.connect(url, autocommit=True)) as session:
            return [(ask, identify(session, *ask)) for ask in asks]

    def ask_together(asks: list[Ask]) -> list[tuple[Ask, Contact]]:
        told: list[tuple[Ask, Contact]] = []
        with closing(psycopg.connect(url, autocommit=True)) as session:
            for begin in range(0, len(asks), 10):
                some = asks[begin : begin + 10]
                added = add(session, some)
                told += added.items()
                told += [(ask, identify(session, *ask)) for ask in some if ask not in added]
        return told

    with ThreadPoolExecutor(len(asked)) as threads:
        ways = [ask_each, ask_together] * (len(asked) // 2)
        told = [pair for pairs in threads.map(lambda way, asks: way(asks), ways, asked) for pair in pairs]
    assert not broken(dba)
    expected = components(ask for ask, _ in told)
    assert clusters(dba) == expected
    for (email, phone), contact in told:
        seen = {f"e {it.lower()}" for it in contact.emails} | {f"p {it}" for it in contact.phones}
        assert {f"{kind} {it}" for kind, it in (("e", email), ("p", phone)) if it} <= seen
        assert any(seen <= component for component in expected)
        assert len(seen) == len(contact.emails) + len(contact.phones)
        assert len(contact.secondaries) >= max(len(contact.emails), len(contact.phones)) - 1


def _asks(chance: Random, values: int, count: int) -> list[Ask]:
    def some(kind: Callable[[int], str]) -> str | None:
        return kind(chance.randrange(values)) if chance.random() < 0.8 else None

    asks: list[Any] = [(some("{}@x".format), some("1111{:03}".format)) for _ in range(count)]
    return [ask for ask in asks if any(ask)]
