"""Trade that goes on beside a scenario, whatever happens to the database."""

from __future__ import annotations

import threading
from contextlib import closing
from random import Random
from typing import Self

import psycopg

from tests.scenarios.shop import Shop

OPENS_AGAIN_S = 0.05
SALES_AT_ONCE = 4


class Trade:
    """A till in a thread: it records a few facts, pauses for a moment drawn by chance, and so on until the end."""

    def __init__(self, database_url: str, customers: list[int], *, seed: int, pause_s_max: float = 0.05) -> None:
        self._database_url = database_url
        self._customers = customers
        self._chance = Random(seed)  # noqa: S311
        self._pause_s_max = pause_s_max
        self._ends = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="trade")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        while not self._ends.is_set():
            try:
                with closing(Shop(self._database_url)) as shop:
                    self._go_on(shop)
            except psycopg.OperationalError:  # the database is away: the till opens again when it is back
                self._ends.wait(OPENS_AGAIN_S)
            except Exception as error:  # it is raised where the trade ends
                self._failure = error
                return

    def _go_on(self, shop: Shop) -> None:
        while not self._ends.is_set():
            shop.trade(self._customers, self._chance, SALES_AT_ONCE)
            self._ends.wait(self._chance.uniform(0, self._pause_s_max))
