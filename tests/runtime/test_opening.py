"""Opening beside the loop: the selector is told, the result is handed over, and what nobody wants is closed."""

from __future__ import annotations

import selectors
from threading import Event

import pytest

from outbox_worker.errors import DatabaseUnavailable
from outbox_worker.runtime.opening import Opening
from tests.scenarios.waiting import until


class Thing:
    """Something that is open until it is closed."""

    def __init__(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False


def test_it_is_not_waited_for_and_the_selector_wakes_when_it_is_there() -> None:
    thing, may_go_on = Thing(), Event()

    def open_slowly() -> Thing:
        may_go_on.wait()
        return thing

    with selectors.DefaultSelector() as selector:
        opening = Opening(open_slowly, selector)
        assert not opening.is_over and selector.select(0) == []
        may_go_on.set()
        assert selector.select(20)
        until(lambda: opening.is_over, "the thing")
        assert opening.result() is thing and thing.is_open
        assert not selector.get_map(), "nothing of it is left in the selector"


def test_what_kept_it_from_being_opened_is_raised_where_the_result_is_asked_for() -> None:
    def fail() -> Thing:
        raise DatabaseUnavailable("no server")

    with selectors.DefaultSelector() as selector:
        opening = Opening(fail, selector)
        assert selector.select(20)
        with pytest.raises(DatabaseUnavailable, match="no server"):
            opening.result()


@pytest.mark.parametrize("early", [True, False])
def test_what_nobody_wants_any_more_is_closed(early: bool) -> None:
    thing, may_go_on = Thing(), Event()

    def open_slowly() -> Thing:
        may_go_on.wait()
        return thing

    with selectors.DefaultSelector() as selector:
        opening = Opening(open_slowly, selector)
        if early:
            opening.abandon()
        may_go_on.set()
        if not early:
            until(lambda: opening.is_over, "the thing")
            opening.abandon()
        until(lambda: not thing.is_open, "it to be closed")
