"""identity.add: the additions of many questions at once, which waits for nobody; what it leaves out is identify's."""

from __future__ import annotations

import pytest

from tests.sql.identity import Ask, Contact, add, broken, clusters, components, contacts, identify
from tests.sql.till import Connect, Session, beside, until_waiting, value


@pytest.fixture
def first(connect: Connect) -> Session:
    """A session in the middle of a transaction."""
    session = connect()
    session.execute("begin")
    return session


@pytest.fixture
def hasty(connect: Connect) -> Session:
    """A session for which to wait is an error."""
    session = connect()
    session.execute("set lock_timeout = '50ms'")
    return session


def test_what_brings_something_new_is_added_and_answered_as_identify_does(dba: Session) -> None:
    identify(dba, "a@x", "1111111")
    asks: list[Ask] = [("b@x", "1111111"), (" New@X ", "2222222"), ("a@x", "3333333"), (None, "4444444"), ("e@x", None)]
    told = add(dba, asks)
    assert list(told) == asks
    assert told[" New@X ", "2222222"] == Contact(3, ["New@X"], ["2222222"], [])
    # Two of them came to the same cluster, so each is told of both.
    assert told["b@x", "1111111"] == told["a@x", "3333333"]
    assert told["b@x", "1111111"] == Contact(1, ["a@x", "b@x"], ["1111111", "3333333"], [2, 4])
    assert [identify(dba, *ask) for ask in asks] == list(told.values())
    assert not broken(dba)
    assert clusters(dba) == components([("a@x", "1111111"), *[(e and e.strip().lower(), p) for e, p in asks]])


def test_a_phone_is_the_same_in_any_spelling(dba: Session) -> None:
    identify(dba, "a@x", "050 123-45-67", "+380501234567")
    statement = "select answer from identity.add(array['b@x'], array['(050) 1234567'], array['+380501234567'])"
    assert Contact.of(value(dba, statement)) == Contact(1, ["a@x", "b@x"], ["050 123-45-67"], [2])


def test_what_is_known_what_joins_and_what_is_nothing_is_left_to_identify(dba: Session) -> None:
    identify(dba, "a@x", "1111111")
    identify(dba, "b@x", "2222222")
    before = contacts(dba)
    assert add(dba, [("a@x", "1111111"), ("a@x", "2222222"), ("null", ""), (None, None)]) == {}
    assert contacts(dba) == before


def test_of_those_that_share_a_value_the_first_is_added(dba: Session) -> None:
    asks: list[Ask] = [("a@x", "1111111"), ("A@x", "2222222"), ("b@x", "1111111"), ("a@x", "1111111"), ("c@x", None)]
    assert list(add(dba, asks)) == [asks[0], asks[4]]
    assert len(contacts(dba)) == 2


def test_it_leaves_out_the_values_that_somebody_else_adds_and_waits_for_nobody(
    dba: Session, first: Session, hasty: Session
) -> None:
    identify(dba, "a@x", "1111111")
    identify(first, "b@x", "2222222")
    told = add(hasty, [("b@x", "3333333"), ("c@x", "2222222"), ("d@x", "4444444")])
    assert list(told) == [("d@x", "4444444")]
    first.execute("commit")
    assert not broken(dba)


def test_it_leaves_out_what_goes_to_a_cluster_that_somebody_else_adds_to(
    dba: Session, first: Session, hasty: Session
) -> None:
    """They lock different values; were it not for the primary's row, neither would be told of the other."""
    identify(dba, "a@x", "1111111")
    identify(first, "b@x", "1111111")
    assert add(hasty, [("a@x", "2222222")]) == {}
    first.execute("commit")
    assert add(hasty, [("a@x", "2222222")])["a@x", "2222222"].emails == ["a@x", "b@x"]


def test_while_clusters_are_joined_it_adds_nothing(dba: Session, first: Session, hasty: Session) -> None:
    identify(dba, "a@x", "1111111")
    identify(dba, "b@x", "2222222")
    identify(first, "a@x", "2222222")
    assert add(hasty, [("c@x", "2222222"), ("d@x", "3333333")]) == {}


def test_who_brings_a_value_that_is_being_added_waits_and_is_linked_to_it(
    dba: Session, first: Session, connect: Connect
) -> None:
    add(first, [("a@x", "1111111"), ("b@x", "2222222")])
    second = connect()
    with beside(lambda: identify(second, "c@x", "2222222")) as told:
        until_waiting(dba, second)
        first.execute("commit")
    assert told.result() == Contact(2, ["b@x", "c@x"], ["2222222"], [3])


def test_a_join_waits_for_what_is_being_added_and_takes_it_along(
    dba: Session, first: Session, connect: Connect
) -> None:
    identify(dba, "a@x", None)
    identify(dba, None, "2222222")
    add(first, [("new@x", "2222222")])
    second = connect()
    with beside(lambda: identify(second, "a@x", "2222222")) as told:
        until_waiting(dba, second)
        first.execute("commit")
    assert told.result() == Contact(1, ["a@x", "new@x"], ["2222222"], [2, 3])
    assert not broken(dba)


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_transaction_that_cannot_look_again_adds_nothing(dba: Session, level: str) -> None:
    dba.execute(f"begin isolation level {level}")
    assert add(dba, [("new@x", None)]) == {}
    dba.execute("commit")
    assert contacts(dba) == []


def test_an_answer_that_is_kept_ready_follows_what_is_added(dba: Session) -> None:
    identify(dba, "0@x", "1111111")
    dba.execute(
        "insert into identity.contact (email, phone_number, linked_id, link_precedence)"
        " select i || '@x', '2' || i, 1, 'secondary' from generate_series(1, 118) i"
    )
    assert len(add(dba, [("last@x", "1111111"), ("17@x", "9999999")])["last@x", "1111111"].emails) == 120
    assert value(dba, "select count(*) from identity.large_cluster") == 1
    assert not broken(dba)


def test_it_reads_no_whole_table(dba: Session) -> None:
    identify(dba, "a@x", "1111111")
    with dba.transaction():
        add(dba, [("b@x", "1111111"), ("c@x", "2222222")])
        scans = "select seq_scan from pg_stat_xact_user_tables where relid = 'identity.contact'::regclass"
        assert value(dba, scans) == 0
