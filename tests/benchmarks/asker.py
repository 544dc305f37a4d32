"""Asks a service from several connections that are kept alive, each one request after another, and prints what it saw.

    python asker.py PORT CONNECTIONS SECONDS known|new|one FIRST CONTACTS

Numbers of customers are those of `scenarios/identify.py`. As little Python for each request as can be, so that what is
measured is the service. One JSON object at the end: requests a second, and percentiles in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator

import uvloop

HEAD = b"POST /identify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"


def bodies(what: str, first: int, contacts: int) -> Iterator[bytes]:
    """Return what is asked: of known customers at random, new details (each other one of a known customer), or one."""
    chance = random.Random(first)  # noqa: S311
    number = first
    while True:
        if what == "new":
            number += 1
            known = chance.randrange(contacts) if number % 2 else number
            yield b'{"email":"new%d@x.com","phoneNumber":"+38067%07d"}' % (number, known)
        else:
            known = first if what == "one" else chance.randrange(contacts)
            yield b'{"email":"u%d@x.com","phoneNumber":"+38067%07d"}' % (known, known)


class Caller(asyncio.Protocol):
    """One connection: asks again as soon as it is answered, until the time is over."""

    def __init__(self, asked: Iterator[bytes], until_s: float, done: asyncio.Future[list[float]]) -> None:
        self._asked = asked
        self._until_s = until_s
        self._done = done
        self._took_s: list[float] = []
        self._data = b""
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._begun_s = time.perf_counter()
        if self._begun_s > self._until_s:
            self._transport.close()
            self._done.set_result(self._took_s)
            return
        body = next(self._asked)
        self._transport.write(HEAD % (len(body), body))  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Take what came; ask again when the answer is whole."""
        if self._missing:
            self._missing -= len(data)
        else:
            self._data += data
            head, found, body = self._data.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 200 " not in head[:15]:
                self._done.set_exception(RuntimeError(f"was answered {self._data[:300]!r}"))
                return
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            self._missing, self._data = length - len(body), b""
        if self._missing <= 0:
            self._missing = 0
            self._took_s.append(time.perf_counter() - self._begun_s)
            self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(RuntimeError(f"the connection was lost: {error}"))


async def main(port: int, connections: int, seconds: float, what: str, first: int, contacts: int) -> None:
    """Ask, and print what was seen."""
    loop = asyncio.get_running_loop()
    asked, begun_s = bodies(what, first, contacts), time.perf_counter()
    ends: list[asyncio.Future[list[float]]] = [loop.create_future() for _ in range(connections)]
    for end in ends:
        await loop.create_connection(lambda end=end: Caller(asked, begun_s + seconds, end), "127.0.0.1", port)  # type: ignore[misc]
    took_ms = sorted(it * 1000 for each in await asyncio.gather(*ends) for it in each)
    took_s = time.perf_counter() - begun_s
    percentiles = {f"p{share}_ms": took_ms[len(took_ms) * share // 100] for share in (50, 99)}
    print(json.dumps({"per_s": len(took_ms) / took_s, **percentiles}))


if __name__ == "__main__":
    port, connections, seconds, what, first, contacts = sys.argv[1:]
    uvloop.run(main(int(port), int(connections), float(seconds), what, int(first), int(contacts)))
