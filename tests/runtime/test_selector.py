"""The loop's selector: what it tells is what the standard library's would tell."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector, EpollSelector

import pytest

from outbox_worker.runtime.selector import Selector


@pytest.fixture(params=[Selector, EpollSelector])
def selector(request: pytest.FixtureRequest) -> Iterator[BaseSelector]:
    with request.param() as selector:
        yield selector


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def ready(selector: BaseSelector, timeout: float = 0) -> dict[int, int]:
    return {key.fd: mask for key, mask in selector.select(timeout)}


def test_what_is_ready_is_told_with_what_was_given_for_it(
    selector: BaseSelector, ends: tuple[socket.socket, socket.socket]
) -> None:
    one, other = ends
    assert selector.register(one.fileno(), EVENT_READ, "data").data == "data"
    assert ready(selector) == {}
    other.send(b"x")
    ((key, mask),) = selector.select(1)
    assert (key.fd, key.data, mask) == (one.fileno(), "data", EVENT_READ)
    selector.modify(one.fileno(), EVENT_READ | EVENT_WRITE)
    assert ready(selector) == {one.fileno(): EVENT_READ | EVENT_WRITE}


def test_what_is_unregistered_is_not_told_and_may_come_back(
    selector: BaseSelector, ends: tuple[socket.socket, socket.socket]
) -> None:
    one, other = ends
    for _ in range(3):
        selector.register(one.fileno(), EVENT_READ)
        other.send(b"x")
        assert ready(selector, 1) == {one.fileno(): EVENT_READ}
        selector.unregister(one.fileno())
        assert ready(selector) == {}
        one.recv(1)


def test_what_comes_back_for_something_else_is_told_for_that(
    selector: BaseSelector, ends: tuple[socket.socket, socket.socket]
) -> None:
    one, _ = ends
    selector.register(one.fileno(), EVENT_READ)
    selector.unregister(one.fileno())
    selector.register(one.fileno(), EVENT_WRITE)
    assert ready(selector) == {one.fileno(): EVENT_WRITE}


def test_a_number_that_was_closed_and_belongs_to_another_descriptor_is_watched(selector: BaseSelector) -> None:
    read, write = os.pipe()
    selector.register(read, EVENT_READ)
    selector.unregister(read)
    os.close(read)
    os.close(write)
    again, write = os.pipe()
    assert again == read
    selector.register(again, EVENT_READ)
    os.write(write, b"x")
    assert ready(selector, 1) == {again: EVENT_READ}
    selector.unregister(again)
    os.close(again)
    os.close(write)


def test_what_happens_to_a_descriptor_that_nobody_watches_wakes_once_at_most(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    one, other = ends
    with Selector() as selector:
        selector.register(one.fileno(), EVENT_READ)
        selector.unregister(one.fileno())
        other.close()
        assert selector.select(1) == []
        assert selector._epoll.poll(0) == [], "the kernel was told"
        selector.register(one.fileno(), EVENT_READ)
        assert ready(selector, 1) == {one.fileno(): EVENT_READ}


def test_a_descriptor_is_registered_once(selector: BaseSelector, ends: tuple[socket.socket, socket.socket]) -> None:
    selector.register(ends[0].fileno(), EVENT_READ)
    with pytest.raises(KeyError):
        selector.register(ends[0].fileno(), EVENT_READ)
    assert list(selector.get_map()) == [ends[0].fileno()]
    selector.unregister(ends[0].fileno())
    with pytest.raises(KeyError):
        selector.unregister(ends[0].fileno())


def test_a_wait_ends_in_time(selector: BaseSelector) -> None:
    assert selector.select(0.0001) == []
    assert selector.select(-1) == []
