"""identity.identify, one caller at a time: the seed's rules, what is the same, what is refused, how it is planned."""

from __future__ import annotations

import re

import psycopg
import pytest

from tests.sql.identity import Contact, broken, contacts, identify
from tests.sql.till import Connect, Session, value


def test_the_story_of_the_seed(dba: Session) -> None:
    first = identify(dba, "lorraine@hillvalley.edu", "123456")
    assert first == Contact(1, ["lorraine@hillvalley.edu"], ["123456"], [])
    both = Contact(1, ["lorraine@hillvalley.edu", "mcfly@hillvalley.edu"], ["123456"], [2])
    assert identify(dba, "mcfly@hillvalley.edu", "123456") == both
    for email, phone in [(None, "123456"), ("lorraine@hillvalley.edu", None), ("mcfly@hillvalley.edu", "")]:
        assert identify(dba, email, phone) == both
    assert len(contacts(dba)) == 2


def test_a_request_that_joins_clusters_keeps_the_oldest_primary_and_all_others_point_to_it(dba: Session) -> None:
    identify(dba, "george@x", "919191")
    identify(dba, "biff@x", "717171")
    identify(dba, "biff@x", "727272")
    told = identify(dba, "george@x", "717171")
    assert told == Contact(1, ["george@x", "biff@x"], ["919191", "717171", "727272"], [2, 3])
    assert [row[3] for row in contacts(dba)] == [None, 1, 1]
    assert value(dba, "select array_agg(link_precedence order by contact_id) from identity.contact") == [
        "primary", "secondary", "secondary",
    ]  # fmt: skip
    assert not broken(dba)


def test_the_older_primary_stays_whichever_value_belongs_to_it(dba: Session) -> None:
    identify(dba, None, "1111111")
    identify(dba, "late@x", None)
    assert identify(dba, "late@x", "1111111").primary == 1


def test_what_brings_nothing_new_writes_nothing(dba: Session) -> None:
    identify(dba, "a@x", "1111111")
    identify(dba, "b@x", "1111111")
    before = dba.execute("select c.*, xmin from identity.contact c").fetchall()
    for ask in [("a@x", "1111111"), ("b@x", "1111111"), ("a@x", None), (None, "1111111")]:
        identify(dba, *ask)
    assert dba.execute("select c.*, xmin from identity.contact c").fetchall() == before
    dba.execute("begin read only")
    assert identify(dba, "B@X").primary == 1


@pytest.mark.parametrize("missing", [None, "", "  \t\n", "null", "undefined", " NULL ", "\u00a0\u200b"])
def test_null_missing_empty_and_the_words_for_it_are_the_same(dba: Session, missing: str | None) -> None:
    """Public programs stored the word null, and made one person of all who left the field empty."""
    assert identify(dba, missing, "1111111").emails == []
    assert identify(dba, missing, "2222222").primary == 2
    assert identify(dba, "a@x", missing).phones == []
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="neither an e-mail address nor a phone"):
        identify(dba, missing, missing)


def test_an_email_is_the_same_in_any_case_and_is_told_as_it_was_first_stored(dba: Session) -> None:
    identify(dba, " Doc@HillValley.edu\n", "1111111")
    told = identify(dba, "doc@hillvalley.EDU", "2222222")
    assert told == Contact(1, ["Doc@HillValley.edu"], ["1111111", "2222222"], [2])


def test_a_phone_is_the_same_in_any_spelling_and_is_told_as_it_was_first_stored(dba: Session) -> None:
    identify(dba, "a@x", "050 123-45-67", "+380501234567")
    told = identify(dba, "b@x", "+38 (050) 1234567", "+380501234567")
    assert told == Contact(1, ["a@x", "b@x"], ["050 123-45-67"], [2])
    assert identify(dba, None, "+380501234567").primary == 1
    assert identify(dba, None, "12-34").primary != identify(dba, None, "1234").primary


def test_a_normal_form_without_a_phone_counts_for_nothing(dba: Session) -> None:
    assert identify(dba, "a@x", None, "+380501234567") == Contact(1, ["a@x"], [], [])


def test_an_email_and_a_phone_that_are_the_same_text_are_two_things(dba: Session) -> None:
    identify(dba, "1111111", None)
    assert identify(dba, None, "1111111").primary == 2


def test_others_are_told_in_order_of_age_the_primary_first(dba: Session) -> None:
    for email in ("c@x", "a@x", "b@x"):
        told = identify(dba, email, "1111111")
    assert (told.emails, told.secondaries) == (["c@x", "a@x", "b@x"], [2, 3])


@pytest.mark.parametrize(("email", "phone"), [("x" * 255, None), (None, "1" * 65)])
def test_what_is_too_long_is_refused(dba: Session, email: str | None, phone: str | None) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        identify(dba, email, phone)


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_transaction_that_cannot_look_again_may_ask_and_not_add(dba: Session, level: str) -> None:
    identify(dba, "a@x", "1111111")
    dba.execute(f"begin isolation level {level}")
    assert identify(dba, "a@x").primary == 1
    with pytest.raises(psycopg.errors.InvalidTransactionState, match="READ COMMITTED"):
        identify(dba, "new@x")


# Deleted


def delete(session: Session, contact_id: int) -> None:
    session.execute("update identity.contact set deleted_at = now() where contact_id = %s", [contact_id])


def test_a_deleted_primary_is_followed_by_its_oldest_living_secondary_in_the_same_transaction(dba: Session) -> None:
    for email in ("a@x", "b@x", "c@x", "d@x"):
        identify(dba, email, "1111111")
    with dba.transaction():
        delete(dba, 2)
        delete(dba, 1)
        assert identify(dba, "d@x") == Contact(3, ["c@x", "d@x"], ["1111111"], [4])
    assert [row[3] for row in contacts(dba)] == [3, 3, None, 3]
    assert not broken(dba)


def test_all_that_is_deleted_at_once_leaves_nothing(dba: Session) -> None:
    for email in ("a@x", "b@x"):
        identify(dba, email, "1111111")
    dba.execute("update identity.contact set deleted_at = now()")
    assert identify(dba, "b@x", "1111111") == Contact(3, ["b@x"], ["1111111"], [])
    assert not broken(dba)


def test_a_deleted_secondary_is_told_no_more_and_its_email_is_new_again(dba: Session) -> None:
    identify(dba, "a@x", "1111111")
    identify(dba, "b@x", "1111111")
    delete(dba, 2)
    assert identify(dba, "a@x") == Contact(1, ["a@x"], ["1111111"], [])
    assert identify(dba, "b@x").primary == 3


def test_a_primary_with_secondaries_cannot_be_taken_out_of_the_table(dba: Session) -> None:
    identify(dba, "a@x", "1111111")
    identify(dba, "b@x", "1111111")
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        dba.execute("delete from identity.contact where contact_id = 1")


# Large clusters


@pytest.fixture
def large(dba: Session) -> int:
    """A cluster of 120 whose answer is kept ready."""
    identify(dba, "0@x", "1111111")
    dba.execute(
        "insert into identity.contact (email, phone_number, linked_id, link_precedence)"
        " select i || '@x', '2' || i, 1, 'secondary' from generate_series(1, 118) i"
    )
    identify(dba, "last@x", "1111111")
    assert value(dba, "select count(*) from identity.large_cluster") == 1
    return 1


def test_a_large_cluster_is_told_as_a_small_one_is(dba: Session, large: int) -> None:
    told = identify(dba, "17@x")
    assert (told.primary, told.emails[:3], told.emails[-1]) == (1, ["0@x", "1@x", "2@x"], "last@x")
    assert told.secondaries == list(range(2, 121))
    dba.execute("delete from identity.large_cluster")  # as a crash of the server does
    assert identify(dba, "17@x") == told


def test_an_answer_that_is_kept_ready_follows_every_change(dba: Session, large: int) -> None:
    identify(dba, "more@x", "1111111")
    assert not broken(dba)
    identify(dba, "other@x", "9999999")
    identify(dba, "17@x", "9999999")
    assert not broken(dba)
    delete(dba, 1)
    assert not broken(dba)
    assert value(dba, "select array_agg(primary_id) from identity.large_cluster") == [2]
    dba.execute("update identity.contact set deleted_at = now() where contact_id > 20")
    assert value(dba, "select count(*) from identity.large_cluster") == 0


# Many at once


def test_of_many_questions_those_that_bring_nothing_new_are_answered_as_identify_does(dba: Session) -> None:
    identify(dba, "a@x", "050 1111111", "+380501111111")
    identify(dba, "b@x", "2222222")
    identify(dba, "c@x", "2222222")
    before = contacts(dba)
    asked = [
        (" A@X", None, None), (None, "2222222", None), ("b@x", "2222222", None), ("a@x", "050", "+380501111111"),
        ("new@x", "2222222", None), ("a@x", "2222222", None), ("null", "", None), (None, None, "+380501111111"),
    ]  # fmt: skip
    emails, phones, normals = (list(each) for each in zip(*asked, strict=True))
    statement = "select place, answer from identity.known(%s::text[], %s::text[], %s::text[])"
    told = dict(dba.execute(statement, [emails, phones, normals]).fetchall())
    assert contacts(dba) == before
    for place, ask in enumerate(asked[:4], 1):
        assert Contact.of(told[place]) == identify(dba, *ask)
    assert [told[place] for place in range(5, 9)] == [None] * 4


# Plans


@pytest.mark.parametrize("analyzed", [False, True])
def test_what_is_known_is_found_by_index_alone_whatever_the_statistics_say(
    dba: Session, connect: Connect, analyzed: bool
) -> None:
    plans: list[str] = []
    asking = connect()
    asking.add_notice_handler(lambda notice: plans.append(notice.message_primary or ""))
    if analyzed:
        dba.execute("analyze identity.contact")  # it is empty, and never seen again: the worst that a planner can know
    dba.execute(
        "insert into identity.contact (email, phone_number) select i || '@x', '1' || i from generate_series(1, 2000) i"
    )
    dba.execute("vacuum identity.contact")
    asking.execute("load 'auto_explain'; set auto_explain.log_min_duration = 0; set client_min_messages = log")
    asking.execute("set auto_explain.log_nested_statements = on; set auto_explain.log_analyze = on")
    identify(asking, "17@x", "117")
    [look] = [it for it in plans if "from identity.contact c\n                where c.email_key" in it]
    assert re.search(r"Index Only Scan using contact_value.*rows=1", look), look
    assert re.search(r"Index Only Scan using contact_phone.*rows=1", look), look
    assert look.count("Index Only Scan") == look.count("Heap Fetches: 0") == 2, look
    [members] = [it for it in plans if "as contact_count" in it]
    assert "Index Scan using contact_cluster" in members, members
    assert "Seq Scan" not in "".join(plans)


def test_an_addition_a_join_and_a_deletion_read_no_whole_table(dba: Session) -> None:
    with dba.transaction():
        identify(dba, "a@x", "1111111")
        identify(dba, "b@x", "2222222")
        identify(dba, "b@x", "3333333")
        identify(dba, "a@x", "3333333")
        delete(dba, 1)
        scans = "select seq_scan from pg_stat_xact_user_tables where relid = 'identity.contact'::regclass"
        before = value(dba, scans)
    assert before <= 1  # the deletion's own, which is the test's
