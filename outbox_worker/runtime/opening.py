"""Opening something slow beside the loop: a name look-up or a server that hangs would hold up every transfer.

The only thread there is. It is handed what it needs, touches nothing else, and hands back one thing; a pipe tells the
loop's selector when.
"""

from __future__ import annotations

import os
import selectors
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """What can be closed when nobody wants it any more."""

    def close(self) -> None:
        """Close it."""


T = TypeVar("T", bound=Closable)


class Opening(Generic[T]):
    """One call of `open_it`, under way from the beginning."""

    def __init__(self, open_it: Callable[[], T], selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._opened: Future[T] = Future()
        self._heard, self._told = os.pipe()
        selector.register(self._heard, selectors.EVENT_READ, lambda descriptor, mask: None)
        # A daemon: a process that has stopped does not wait for a server that hangs.
        Thread(target=self._run, args=(open_it,), name="opening", daemon=True).start()

    @property
    def is_over(self) -> bool:
        """Whether `result` would return or raise at once."""
        return self._opened.done()

    def result(self) -> T:
        """Return what was opened, or raise what kept it from being opened. To be called once it is over, and once."""
        self._forget()
        return self._opened.result()

    def abandon(self) -> None:
        """Close what was opened, or, as soon as it is, what will be."""
        self._forget()
        self._opened.add_done_callback(_close)

    def _forget(self) -> None:
        self._selector.unregister(self._heard)
        os.close(self._heard)

    def _run(self, open_it: Callable[[], T]) -> None:
        try:
            self._opened.set_result(open_it())
        except BaseException as error:  # it is raised where the result is asked for
            self._opened.set_exception(error)
        finally:
            os.close(self._told)  # the end of the pipe is what the loop hears


def _close(opened: Future[T]) -> None:
    if opened.exception() is None:
        opened.result().close()
