"""Claiming beside other workers: what another one has is passed over, and nobody waits for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from outbox_worker.database.outbox import Outbox
from outbox_worker.database.turns import Answer, Look, Terms, Turn
from tests.database.rows import Rows
from tests.scenarios.waiting import until

Connect = Callable[..., psycopg.Connection[Any]]


@pytest.fixture
def outbox(database_url: str) -> Iterator[Outbox]:
    terms = Terms(uuid4(), ("add_purchase",), ("pending", "in_doubt"), failures_max=3, probe_s=3, rates={"api": None})
    with closing(Outbox(database_url, terms)) as outbox:
        outbox.connect([])
        yield outbox


def taken(outbox: Outbox, turn: Turn) -> Answer:
    outbox.begin(turn)
    return until(outbox.answer, "the answer")


def test_a_claim_under_conclusion_elsewhere_is_neither_waited_for_nor_its_delivery_locked(
    outbox: Outbox, connect: Connect
) -> None:
    rows = Rows(connect())
    concluded, free = rows.purchase(1, "1"), rows.purchase(2, "2")
    rows.claimed(concluded)
    heads = taken(outbox, Turn(looks=[Look("api", 0, 100)])).found["api"]
    assert len(heads) == 2
    other = connect(autocommit=False)
    other.execute("delete from outbox.claim")  # the first half of a conclusion
    answer = taken(outbox, Turn(candidates=heads))
    assert [claim.event_id for claim in answer.claims] == [free]
    other.execute("set local lock_timeout = '1s'")
    deleted = other.execute("delete from outbox.delivery where event_id = %s and destination = 'api'", [concluded])
    assert deleted.rowcount == 1, "the second half of the conclusion"
    other.commit()
