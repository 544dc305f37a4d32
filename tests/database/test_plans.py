"""The relay's statements are planned by index whatever the statistics say: the tables fill and empty within seconds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from outbox_worker.database import statements
from outbox_worker.database.outbox import SETTINGS

OF_A_TURN = ["ACKNOWLEDGE", "CONCLUDE", "NOTE_DESTINATIONS", "CLAIM", "FOLLOW", "LOOK", "REREAD"]
Connect = Callable[..., psycopg.Connection[Any]]

FILL = """
select count(outbox.record_event('bonus_accrual', i::text, (i % 50)::text, '{}', now())) from generate_series(1, 3000) i
"""


def plan(connection: psycopg.Connection[Any], name: str) -> str:
    """Return the generic plan of a statement, as the relay's session would have it."""
    text = getattr(statements, name)
    parameter_count = max(map(int, re.findall(r"\$(\d+)", text)))
    connection.execute(f"prepare it as {text}")
    rows = connection.execute(f"explain (costs off) execute it ({', '.join(['null'] * parameter_count)})").fetchall()
    connection.execute("deallocate it")
    return "\n".join(line for (line,) in rows)


@pytest.fixture(params=["empty", "filled", "filled, then analyzed", "analyzed, then filled"])
def relays_session(connect: Connect, request: pytest.FixtureRequest) -> psycopg.Connection[Any]:
    connection = connect(options=" ".join(f"-c {key}={value}" for key, value in SETTINGS.items()))
    for step in request.param.split(", then "):
        if step == "filled":
            connection.execute(FILL)
        if step == "analyzed":
            connection.execute("analyze outbox.delivery, outbox.event, outbox.claim, outbox.attempt")
    return connection


@pytest.mark.parametrize("name", OF_A_TURN)
def test_no_statement_of_a_turn_reads_a_whole_table(relays_session: psycopg.Connection[Any], name: str) -> None:
    shown = plan(relays_session, name)
    whole = r"Seq Scan on (delivery|claim|event|attempt)|Materialize|Bitmap|Hash(?!Aggregate)"
    assert not re.search(whole, shown), shown


def test_each_candidate_is_found_by_its_lane_and_id(relays_session: psycopg.Connection[Any]) -> None:
    shown = plan(relays_session, "CLAIM")
    assert "Index Cond: ((lane = due.lane) AND (delivery_id = due.delivery_id))" in shown
    outer = r"(due\.\w+|\$\d+)"  # PostgreSQL 15 shows it as a parameter
    assert re.search(rf"Index Cond: \(\(lane = {outer}\) AND \(delivery_id < {outer}\)\)", shown)


def test_only_a_delivery_with_contact_data_costs_a_look_for_its_addressee(
    relays_session: psycopg.Connection[Any],
) -> None:
    """Counted, not read from the plan: the look-up stands there, and must be made for the one and for no other."""
    session = relays_session
    for number in range(20):
        contact = '{"contact_phone": "0501234567"}' if number == 7 else '{"contact": "none", "lines": []}'
        session.execute(
            "select outbox.record_event('purchase', %s, %s, %s, now())", [f"of-{number}", f"c{number}", contact]
        )
    session.execute("update outbox.delivery set state = 'pending', reason = null where state = 'waiting'")
    session.execute("update outbox.addressee set phone = '+380501234567', chosen_as = 'contact', identified_at = now()")
    text = re.sub(r"\$(\d+)", r"%(p\1)s", statements.CLAIM.replace("%", "%%"))
    found = session.execute(
        "select lane, delivery_id from outbox.delivery where event_id like 'purchase:of-%' and destination = 'api'"
    ).fetchall()
    given: dict[str, Any] = {"p1": [it[0] for it in found], "p2": [it[1] for it in found]}
    given |= {"p3": ["pending", "in_doubt", "waiting"], "p4": "00000000-0000-0000-0000-000000000001", "p5": 1, "p6": []}
    given |= {"p7": 5, "p8": ["pending", "in_doubt"], "p9": [], "p10": [], "p11": [], "p12": [], "p13": [], "p14": []}
    session.execute("begin")
    shown = session.execute(f"explain (analyze, timing off, costs off, format json) {text}", given).fetchone()
    session.execute("rollback")
    assert shown is not None
    looks = [it["Actual Loops"] for it in _nodes(shown[0][0]["Plan"]) if it.get("Relation Name") == "addressee"]
    assert looks == [1]
    rows = session.execute(text, given).fetchall()
    assert sorted({row[-1] for row in rows}, key=str) == ["+380501234567", None] and len(rows) == 20


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def test_a_look_reads_one_destination_from_one_id_on(relays_session: psycopg.Connection[Any]) -> None:
    shown = plan(relays_session, "LOOK")
    assert "Index Cond: ((destination = look.destination) AND (delivery_id > look.after))" in shown
    assert "Sort" not in shown
