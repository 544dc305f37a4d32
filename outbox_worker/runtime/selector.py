"""The loop's selector: epoll, which lets a descriptor stay with the kernel when it is unregistered.

libcurl watches a connection anew for each request. To the kernel, a descriptor that comes back is told again in one
call, and one that does not is told nothing: it goes when it is closed, or when something happens to it that nobody
asked for. (The one in the standard library makes two calls for each request.)
"""

from __future__ import annotations

import math
import select
from collections.abc import Mapping
from contextlib import suppress
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector, SelectorKey
from typing import Any

_NOT_READ, _NOT_WRITE = ~select.EPOLLIN, ~select.EPOLLOUT


class Selector(BaseSelector):
    """As `selectors.EpollSelector`, for descriptors only. Not for descriptors that a child process inherits."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._keys: dict[Any, SelectorKey] = {}
        self._left: dict[int, SelectorKey] = {}  # unregistered, and the kernel was not told

    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        """Watch a descriptor. Raises KeyError if it is watched already."""
        if fileobj in self._keys:
            raise KeyError(f"descriptor {fileobj} is registered already")
        key = self._left.pop(fileobj, None)
        if key is None:
            self._epoll.register(fileobj, _mask(events))
        else:
            self._tell_again(fileobj, _mask(events))
        if key is None or key.events != events or key.data != data:
            key = SelectorKey(fileobj, fileobj, events, data)
        self._keys[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> SelectorKey:
        """Watch a descriptor no more. Raises KeyError if it was not."""
        key = self._left[fileobj] = self._keys.pop(fileobj)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        """Watch a descriptor for something else. Raises KeyError if it was not watched."""
        if self._keys[fileobj].events != events:
            self._epoll.modify(fileobj, _mask(events))
        key = self._keys[fileobj] = SelectorKey(fileobj, fileobj, events, data)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait for `timeout` seconds at most, for ever if None; return what is ready."""
        # Rounded up to milliseconds, as epoll counts them: a wait that is cut short would be made again and again.
        wait_s = -1 if timeout is None else math.ceil(max(timeout, 0) * 1e3) * 1e-3
        ready = []
        for descriptor, mask in self._epoll.poll(wait_s, max(len(self._keys) + len(self._left), 1)):
            key = self._keys.get(descriptor)
            if key is None:
                self._let_go(descriptor)
                continue
            events = ((EVENT_READ if mask & _NOT_WRITE else 0) | (EVENT_WRITE if mask & _NOT_READ else 0)) & key.events
            if events:
                ready.append((key, events))
        return ready

    def close(self) -> None:
        """Watch nothing more."""
        self._epoll.close()
        self._keys.clear()
        self._left.clear()

    def get_map(self) -> Mapping[Any, SelectorKey]:
        """Return what is watched."""
        return self._keys

    def _tell_again(self, descriptor: int, mask: int) -> None:
        try:
            self._epoll.modify(descriptor, mask)
        except FileNotFoundError:  # it was closed since, and the number belongs to another one
            self._epoll.register(descriptor, mask)

    def _let_go(self, descriptor: int) -> None:
        self._left.pop(descriptor, None)
        with suppress(FileNotFoundError):
            self._epoll.unregister(descriptor)


def _mask(events: int) -> int:
    return (select.EPOLLIN if events & EVENT_READ else 0) | (select.EPOLLOUT if events & EVENT_WRITE else 0)
