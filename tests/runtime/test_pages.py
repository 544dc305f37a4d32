"""However InBoost's cursors behave, the reading ends, and the next run goes on where nothing is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import count
from typing import Any

import pytest

from outbox_worker.errors import InBoostUnavailable, SyncStopped
from outbox_worker.inboost.listing import CursorExpired, Page
from outbox_worker.runtime.customer_sync import SyncTerms
from outbox_worker.runtime.pages import Pages
from tests.database.rows import Rows
from tests.runtime.syncing import TERMS, Sync, counts, put

Answer = Callable[[str | None], Page]


class Source:
    """Answers as it is told, and keeps at which cursors it was asked."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.asked: list[str | None] = []

    def page(self, since: datetime | None, cursor: str | None, size: int, today: date) -> Page:
        self.asked.append(cursor)
        assert len(self.asked) < 1_000, "the reading does not end"
        return self._answer(cursor)


def page(cursor: str | None, digest: bytes = b"") -> Page:
    return Page([], [], cursor, datetime(2026, 11, 21, tzinfo=UTC), digest)


def test_a_list_is_read_to_its_end() -> None:
    source = Source(lambda cursor: page({None: "a", "a": "b", "b": None}[cursor], (cursor or "").encode()))
    pages = Pages(source, None, None, 1)
    assert [it.cursor for it in pages] == ["a", "b", None]
    assert not pages.begins_again


@pytest.mark.parametrize("circle", [{None: "a", "a": "a"}, {None: "a", "a": "b", "b": "a"}])
def test_a_circle_is_left_and_the_next_run_begins_at_the_watermark(circle: dict[str | None, str]) -> None:
    pages = Pages(Source(lambda cursor: page(circle[cursor])), None, None, 1)
    with pytest.raises(SyncStopped, match="circle"):
        list(pages)
    assert pages.begins_again


def test_a_list_that_never_ends_is_left() -> None:
    numbers = count()
    pages = Pages(Source(lambda cursor: page(f"cursor {next(numbers)}", b"the same")), None, None, 1)
    with pytest.raises(SyncStopped, match="does not end"):
        list(pages)


def test_an_expired_cursor_begins_again_at_the_watermark_and_not_for_ever() -> None:
    def answer(cursor: str | None) -> Page:
        if cursor is not None:
            raise CursorExpired
        return page("a")

    source = Source(answer)
    with pytest.raises(SyncStopped, match="expire 4 times"):
        list(Pages(source, None, "old", 1))
    assert source.asked == ["old", None, "a", None, "a", None, "a"]


def test_a_cursor_of_an_earlier_run_that_inboost_cannot_bear_is_given_up() -> None:
    def answer(cursor: str | None) -> Page:
        raise InBoostUnavailable("500")

    pages = Pages(Source(answer), None, "old", 1)
    with pytest.raises(InBoostUnavailable):
        list(pages)
    assert pages.begins_again


def clients(portal: Any, number: int) -> None:
    put(portal, *({"id": n, "userPhoneNumber": f"+38050222{n:04}", "userName": f"Ira {n}"} for n in range(number)))


def test_a_run_that_is_broken_off_goes_on_at_its_cursor(portal: Any, rows: Rows, run: Sync) -> None:
    clients(portal, 10)
    with pytest.raises(Exception, match="told to stop"):
        run(_small(3), stopping=lambda: bool(rows.all("select from outbox.sync_run where page_count = 2")))
    assert rows.all("select read_count, cursor is not null, ended_at from outbox.sync_run") == [(6, True, None)]
    assert counts(run(_small(3))) == {"read_count": 10, "created_count": 10, "linked_count": 10}
    assert portal.state.ledger.requests.last == 4, "no page is read twice"


@pytest.mark.parametrize(
    "fault",
    [
        "list_clients:error:count=2",
        "list_clients:cut:count=2",
        "list_clients:reset_after:count=2",
        "list_clients:garbage:count=2",
        "list_clients:cursor_expired:count=3",
    ],
)
def test_passing_troubles_of_the_list_cost_nothing(portal: Any, run: Sync, fault: str) -> None:
    clients(portal, 10)
    portal.put_faults(fault)
    done = run(_small(3))
    assert (done.counts.created_count, done.counts.linked_count) == (10, 10)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("list_clients:cursor_loop", "circle"),
        ("list_clients:not_json", "cannot be read"),
        ("list_clients:error", "cannot be had|answers 500"),
        ("list_clients:unauthorized", "token"),
    ],
)
def test_lasting_troubles_of_the_list_are_a_sentence_and_the_next_run_makes_up_for_them(
    portal: Any, rows: Rows, run: Sync, fault: str, error: str
) -> None:
    clients(portal, 10)
    portal.put_faults(fault)
    with pytest.raises(Exception, match=error):
        run(_small(3))
    ((problem,),) = rows.all("select problem from outbox.sync_run")
    assert problem
    portal.put_faults()
    assert run(_small(3)).counts.created_count == 10
    assert rows.all("select problem, ended_at is not null from outbox.sync_run") == [(None, True)]


def test_a_client_that_changes_while_the_list_is_read_is_not_missed(portal: Any, rows: Rows, run: Sync) -> None:
    clients(portal, 6)

    def progress(so_far: Any) -> None:
        if so_far.page_count == 2:
            now_s = datetime.now(UTC).timestamp()
            portal.do(portal.state.register, [{"userPhoneNumber": "+380502220000", "lastName": "New"}], now_s)

    run(_small(2), progress=progress)
    run(_small(2))
    assert rows.all("select last_name from accounting.customer where phone = '+380502220000'") == [("New",)]
    assert rows.all("select count(*) from accounting.customer") == [(6,)]


def _small(size: int) -> SyncTerms:
    return replace(TERMS, page_size=size)
