"""Whose an order is, under which phone it goes out, and what it waits for; nothing of it is ever done twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from psycopg.conninfo import make_conninfo

from outbox_worker.database.bell_session import BELL, BellSession
from outbox_worker.runtime import identification
from outbox_worker.runtime.identification import Identification, IdentificationTerms
from tests.database.rows import Rows
from tests.runtime.syncing import TERMS
from tests.sql.test_orders import order
from tests.sql.till import Connect, Session, add_customer, column, sell, until, value

ANNA, BOHDAN, OTHER = "+380501234567", "+380507654321", "+380671112233"
Work = Callable[[], int]


@pytest.fixture
def dba(connect: Connect) -> Session:
    return connect()


@pytest.fixture
def conninfo(database_url: str, worker_login: dict[str, str]) -> str:
    return make_conninfo(database_url, **worker_login)


@pytest.fixture
def make(conninfo: str) -> Iterator[Callable[[], Work]]:
    """Make an identification, with a worker's rights, that works when it is told to."""
    sessions = []

    def one() -> Work:
        it = Identification(conninfo, IdentificationTerms("UA", TERMS.links), threading.Event())
        session = BellSession(conninfo, "outbox-worker identification").__enter__()
        sessions.append(session)

        def work() -> int:
            for look in (it._waiting_look, it._unknown_look, it._email_look, it._expiry):
                look._due_s = 0.0
            return it.work(session)

        return work

    yield one
    for session in sessions:
        session.__exit__()


@pytest.fixture
def work(make: Callable[[], Work]) -> Work:
    return make()


def link(session: Session, customer: int | str, phone: str, linked_at: str = "now") -> None:
    """Have InBoost know a customer of accounting by a phone."""
    statement = "insert into outbox.client (customer_id, phone, digest, linked_at) values (%s, %s, '', %s)"
    session.execute(statement, [str(customer), phone, linked_at])


def went_to(session: Session, purchase: int) -> list[tuple[str, str | None, str | None]]:
    """Return state, phone and why of both deliveries, or of the one they agree in."""
    return session.execute(
        "select distinct d.state, a.phone, a.chosen_as from outbox.delivery d join outbox.addressee a"
        " using (event_id, operation) where d.event_id = %s order by 1, 2, 3",
        [f"purchase:{purchase}"],
    ).fetchall()


def lanes_are_of(session: Session, purchase: int, owner: object) -> bool:
    statement = (
        "select bool_and(d.lane = outbox.lane_of(d.destination, %s) and d.lane = a.lane)"
        " from outbox.delivery d join outbox.addressee a using (event_id, operation) where event_id = %s"
    )
    return bool(value(session, statement, str(owner), f"purchase:{purchase}"))


def test_an_order_with_another_phone_goes_to_the_client_that_its_customer_is(dba: Session, work: Work) -> None:
    customer = add_customer(dba, "050 123-45-67")
    link(dba, customer, OTHER)
    purchase = order(dba, customer, phone=BOHDAN)
    assert work() == 2
    assert went_to(dba, purchase) == [("pending", OTHER, "client")]
    assert lanes_are_of(dba, purchase, customer)


def test_an_order_of_nobody_goes_to_the_client_that_was_linked_first_among_the_phones_of_its_contact(
    dba: Session, work: Work
) -> None:
    for email, phone in (("a@example.com", ANNA), ("a@example.com", BOHDAN), ("a@example.com", OTHER)):
        dba.execute("select identity.identify(%s, %s, %s)", [email, phone, phone])
    link(dba, 7, OTHER, "2026-01-02")
    link(dba, 8, BOHDAN, "2026-01-03")
    purchase = order(dba, email=" A@Example.com")
    work()
    assert went_to(dba, purchase) == [("pending", OTHER, "linked")]
    assert lanes_are_of(dba, purchase, 7)


def test_where_inboost_knows_nobody_the_phone_of_accounting_comes_before_that_of_the_contact(
    dba: Session, work: Work
) -> None:
    customer = add_customer(dba, "050 123-45-67")
    ours, nobodys = order(dba, customer, phone="050 765 43 21"), order(dba, phone="067 111 22 33")
    work()
    assert went_to(dba, ours) == [("pending", ANNA, "customer")]
    assert went_to(dba, nobodys) == [("pending", OTHER, "contact")]


def test_of_a_cluster_that_nobody_knows_the_primarys_phone_is_taken(dba: Session, work: Work) -> None:
    for email, phone in ((None, ANNA), ("a@example.com", ANNA), ("a@example.com", BOHDAN)):
        dba.execute("select identity.identify(%s, %s, %s)", [email, phone, phone])
    purchase = order(dba, phone=BOHDAN)
    work()
    assert went_to(dba, purchase) == [("pending", ANNA, "contact")]


def test_what_accounting_books_to_one_customer_is_not_one_person(dba: Session, work: Work) -> None:
    retail = add_customer(dba, None)
    first, second = order(dba, retail, phone=ANNA), order(dba, retail, phone=BOHDAN)
    work()
    assert went_to(dba, first) == [("pending", ANNA, "contact")]
    assert went_to(dba, second) == [("pending", BOHDAN, "contact")]
    assert value(dba, "select count(distinct primary_id) from identity.contact") == 2


def test_the_e_mail_address_that_accounting_has_of_a_customer_leads_to_his_phone(dba: Session, work: Work) -> None:
    customer = add_customer(dba, "050 123-45-67")
    dba.execute("update accounting.customer set email = 'Anna@example.com'")
    purchase = order(dba, email="anna@EXAMPLE.com")
    assert work() + work() == 2
    assert went_to(dba, purchase) == [("pending", ANNA, "contact")]
    sold = order(dba, customer, phone=BOHDAN)
    later = order(dba, phone=BOHDAN, email="anna@example.com")
    work()
    assert went_to(dba, sold) == [("pending", ANNA, "customer")]
    assert went_to(dba, later) == [("pending", ANNA, "ordered")]
    assert lanes_are_of(dba, later, customer)


def test_an_e_mail_address_that_two_customers_have_is_no_answer(dba: Session, work: Work) -> None:
    add_customer(dba, ANNA)
    add_customer(dba, BOHDAN)
    dba.execute("update accounting.customer set email = 'info@example.com'")
    purchase = order(dba, email="info@example.com")
    work()
    assert went_to(dba, purchase) == [("waiting", None, None)]


@pytest.mark.parametrize(
    "gets_one",
    [
        lambda dba: dba.execute("select identity.identify('e@example.com', '0501234567', %s)", [ANNA]),
        lambda dba: order(dba, email="e@example.com", phone="050 123 45 67"),
        lambda dba: dba.execute("select identity.link(1, (identity.identify(null, '0501234567', %s)"
                                " #>> '{contact,primaryContactId}')::bigint)", [ANNA]),
    ],
    ids=["asked-over-the-web", "another-order", "linked-by-a-person"],
)  # fmt: skip
def test_an_e_mail_address_alone_waits_until_its_cluster_has_a_phone(
    dba: Session, work: Work, gets_one: Callable[[Session], object]
) -> None:
    purchase = order(dba, email="e@example.com")
    assert work() == 0
    assert went_to(dba, purchase) == [("waiting", None, None)]
    reasons = column(dba, "select distinct reason from outbox.delivery")
    assert reasons == ["no phone of the buyer is known yet"]
    gets_one(dba)
    assert work() + work() >= 2
    assert went_to(dba, purchase) == [("pending", ANNA, "contact")]


def test_an_order_that_waits_for_a_phone_holds_up_nobody(dba: Session, work: Work, customer_of_anna: int) -> None:
    first = order(dba, email="e@example.com")
    work()
    sell(dba, customer_of_anna)
    second = order(dba, phone=BOHDAN)
    work()
    assert went_to(dba, first) == [("waiting", None, None)]
    assert went_to(dba, second) == [("pending", BOHDAN, "contact")]
    assert value(dba, "select count(*) from outbox.delivery where state = 'pending'") == 6


@pytest.fixture
def customer_of_anna(dba: Session) -> int:
    return add_customer(dba, ANNA)


def test_what_had_to_wait_behind_an_order_goes_on_with_it(dba: Session, work: Work, customer_of_anna: int) -> None:
    order(dba, customer_of_anna, phone=BOHDAN)
    sell(dba, customer_of_anna, accrued="")
    reason = "behind a delivery that is waiting"
    dba.execute("update outbox.delivery set state = 'waiting', reason = %s where state = 'pending'", [reason])
    work()
    assert column(dba, "select distinct state from outbox.delivery") == ["pending"]


def test_a_phone_that_inboost_does_not_know_is_given_up_for_one_that_it_comes_to_know(
    dba: Session, work: Work, rows: Rows
) -> None:
    purchase = order(dba, email="a@example.com", phone=ANNA)
    work()
    dba.execute("update outbox.delivery set state = 'waiting', reason = 'answered 404'")
    assert work() == 0
    dba.execute("select identity.identify('a@example.com', %s, %s)", [BOHDAN, BOHDAN])
    assert work() == 0  # InBoost does not know that one either, as far as anybody knows
    link(dba, 9, BOHDAN)
    assert work() == 2
    assert went_to(dba, purchase) == [("pending", BOHDAN, "linked")]


def test_an_order_goes_on_when_inboost_has_come_to_know_its_phone(dba: Session, work: Work) -> None:
    purchase = order(dba, phone=ANNA)
    work()
    dba.execute("update outbox.delivery set state = 'waiting', reason = 'answered 404'")
    link(dba, 9, ANNA)
    assert work() == 2
    assert went_to(dba, purchase) == [("pending", ANNA, "linked")]
    dba.execute("update outbox.delivery set state = 'waiting', reason = 'answered 404'")
    assert work() == 0  # it contradicts itself, and is not asked again and again


@pytest.mark.parametrize("state", ["in_doubt", "held", "dead", "pending"])
def test_a_phone_that_was_perhaps_used_never_changes(dba: Session, work: Work, state: str) -> None:
    purchase = order(dba, email="a@example.com", phone=ANNA)
    work()
    dba.execute("update outbox.delivery set state = %s, reason = 'x', attempt_count = 1", [state])
    dba.execute("select identity.identify('a@example.com', %s, %s)", [BOHDAN, BOHDAN])
    link(dba, 9, BOHDAN)
    assert work() == 0
    assert went_to(dba, purchase) == [(state, ANNA, "contact")]


def test_what_a_person_released_unidentified_stays_as_it_is(dba: Session, work: Work, customer_of_anna: int) -> None:
    purchase = order(dba, customer_of_anna, phone=BOHDAN)
    dba.execute("update outbox.delivery set state = 'pending', reason = null where operation = 'add_purchase'")
    assert work() == 1
    assert went_to(dba, purchase) == [("pending", ANNA, "customer"), ("pending", None, None)]
    assert value(dba, "select count(*) from outbox.addressee where identified_at is null") == 0


def test_contact_data_that_cannot_be_any_do_not_hold_up_the_next_order(dba: Session, work: Work) -> None:
    too_long = order(dba, email="x" * 300)
    strange = order(dba, phone="call me")
    fine = order(dba, phone=ANNA)
    work()
    assert went_to(dba, too_long) == went_to(dba, strange) == [("waiting", None, None)]
    assert went_to(dba, fine) == [("pending", ANNA, "contact")]


def test_an_order_older_than_the_window_of_history_is_closed_and_says_so(dba: Session, work: Work) -> None:
    statement = "insert into accounting.purchase (total, contact_email, purchased_at) values (1, %s, '2020-01-01')"
    for email in ("a@example.com", "b@example.com"):
        dba.execute(statement, [email])
    work()
    assert value(dba, "select count(*) from outbox.delivery") == 4, "entered late is not waited for long"
    dba.execute("update outbox.event set recorded_at = '2020-01-01' where event_id = 'purchase:1'")
    work()
    assert column(dba, "select distinct event_id from outbox.delivery") == ["purchase:2"]
    acts = dba.execute("select distinct act, event_id, actor, reason from outbox.act").fetchall()
    reason = "waited for a phone until it was older than the window of history"
    assert acts == [("expire", "purchase:1", "outbox-worker", reason)]
    assert value(dba, "select count(*) from outbox.addressee where chosen_as = 'never'") in (0, 2)
    work()
    assert value(dba, "select count(*) from outbox.addressee where chosen_as = 'never'") == 2


# A crash at each line.


def test_who_dies_after_identifying_and_before_addressing_has_done_nothing_that_is_done_twice(
    dba: Session, make: Callable[[], Work], connect: Connect, customer_of_anna: int
) -> None:
    purchase = order(dba, customer_of_anna, email="a@example.com", phone=BOHDAN)
    holder = connect()
    holder.execute("begin; select from outbox.delivery for update")
    killed = threading.Thread(target=_killed, args=[make()])
    killed.start()
    victim = until(
        lambda: dba.execute(
            "select pid from pg_stat_activity where application_name = 'outbox-worker identification'"
            " and wait_event_type = 'Lock'"
        ).fetchone(),
        "an identification that waits for the deliveries",
    )
    assert value(dba, "select count(*) from identity.contact") == 1  # identified, and not addressed
    dba.execute("select pg_terminate_backend(%s, 5000)", victim)
    killed.join()
    holder.execute("commit")
    assert went_to(dba, purchase) == [("waiting", None, None)]
    assert make()() == 2
    assert went_to(dba, purchase) == [("pending", ANNA, "customer")]
    assert value(dba, "select count(*) from identity.contact") == 1


def _killed(work: Work) -> None:
    with pytest.raises(Exception, match=r"terminating|closed|lost"):
        work()


def test_two_who_meet_at_an_order_release_it_once(
    dba: Session, make: Callable[[], Work], connect: Connect, customer_of_anna: int
) -> None:
    order(dba, customer_of_anna, phone=BOHDAN)
    holder = connect()
    holder.execute("begin; select from outbox.delivery for update")
    counts: list[int] = []
    both = [threading.Thread(target=lambda it=it: counts.append(it())) for it in (make(), make())]
    for one in both:
        one.start()
    waiting = (
        "select count(*) from pg_stat_activity where application_name = 'outbox-worker identification'"
        " and wait_event_type = 'Lock'"
    )
    until(lambda: value(dba, waiting) == 2, "both to wait for the deliveries")
    holder.execute("commit")
    for one in both:
        one.join()
    assert sorted(counts) == [0, 2]


def test_it_sleeps_with_the_bell_in_no_transaction_and_is_woken_by_a_sale(
    dba: Session, conninfo: str, monkeypatch: pytest.MonkeyPatch, customer_of_anna: int
) -> None:
    stop = threading.Event()
    thread = threading.Thread(
        target=Identification(conninfo, IdentificationTerms("UA", TERMS.links), stop).run, name="identification"
    )
    thread.start()
    armed = "select count(*) from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock' and objid = %s"
    asleep = (
        "select state = 'idle' and backend_xmin is null from pg_stat_activity"
        " where application_name = 'outbox-worker identification'"
    )
    until(lambda: value(dba, armed, BELL & 0xFFFFFFFF) and value(dba, asleep), "it to fall asleep")
    purchase = order(dba, customer_of_anna, phone=BOHDAN)
    until(lambda: went_to(dba, purchase) == [("pending", ANNA, "customer")], "the order to be identified")
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert identification.ASLEEP_S > 10


def test_while_nothing_rings_it_looks_now_and_then_and_keeps_the_bell(
    conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identification, "ASLEEP_S", 0.01)
    stop = threading.Event()
    it = Identification(conninfo, IdentificationTerms("UA", TERMS.links), stop)
    with BellSession(conninfo, "outbox-worker identification") as session:
        asked: list[str] = []
        call = session.call

        def note(function: Callable[..., object], *arguments: object, **words: object) -> object:
            asked.append(getattr(function, "__name__", ""))
            if asked.count("unidentified") == 5:
                stop.set()
            return call(function, *arguments, **words)

        monkeypatch.setattr(session, "call", note)
        it.run_once(session)
    assert asked.count("unidentified") == 5
    assert asked.count("_ask") == 2, "the bell is taken once and given back once"


def test_who_ordered_as_a_customer_once_is_found_again_by_what_was_left_then(
    dba: Session, work: Work, customer_of_anna: int
) -> None:
    waiting = order(dba, email="a@example.com")
    work()
    order(dba, customer_of_anna, email="a@example.com", phone=BOHDAN)
    both = order(dba, phone=BOHDAN), order(dba, email="A@example.com")
    work()
    work()
    for purchase in (waiting, *both):
        assert went_to(dba, purchase) == [("pending", ANNA, "ordered")]
        assert lanes_are_of(dba, purchase, customer_of_anna)


@pytest.mark.parametrize(
    "trouble",
    ["drop schema integration cascade", "drop view integration.customer cascade",
     "create or replace view integration.customer as select customer_id, phone, (1 / 0)::text as email, first_name,"
     " last_name, birth_date, source, specialty, changed_at from accounting.customer"],
    ids=["no-mapping", "no-customers", "a-view-that-fails"],
)  # fmt: skip
def test_an_order_is_identified_whatever_is_wrong_with_the_mapping_now(
    dba: Session, work: Work, customer_of_anna: int, trouble: str
) -> None:
    ours, nobodys, waiting = (
        order(dba, customer_of_anna, phone=OTHER), order(dba, phone=BOHDAN), order(dba, email="a@example.com"),
    )  # fmt: skip
    dba.execute(trouble)
    work()
    assert went_to(dba, ours) == [("pending", ANNA, "customer")]
    assert went_to(dba, nobodys) == [("pending", BOHDAN, "contact")]
    assert went_to(dba, waiting) == [("waiting", None, None)]


def test_sales_of_a_customer_commit_while_identification_holds_all_its_locks_on_him(
    dba: Session, work: Work, connect: Connect, customer_of_anna: int
) -> None:
    order(dba, customer_of_anna, email="a@example.com")
    holder, till = connect(), connect()
    holder.execute("begin; select from outbox.delivery for update; update outbox.addressee set lane = lane")
    holder.execute("insert into outbox.customer_phone values (%s, %s, %s)", [str(customer_of_anna), ANNA, ANNA])
    till.execute("set lock_timeout = '50ms'")
    order(till, customer_of_anna, email="a@example.com")
    sell(till, customer_of_anna)
    holder.execute("commit")
    assert value(dba, "select count(*) from outbox.capture_failure") == 0
    assert work() == 4
