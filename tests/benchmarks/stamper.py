"""A receiver that answers 200, at once or after a while, and notes when each event's request arrived.

Run as a program, with a port and the milliseconds until it answers. It reads only as much of HTTP as is needed: whole
requests, one after another on a connection. The stamp is taken when the first bytes of a request are read. With uvloop
it takes some ten thousand requests per second, all that one processor can do, without it about half as many.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from contextlib import suppress

MARK = re.compile(rb"MARK(\d{9})")  # as in events.py
AT = re.compile(rb"AT(\d{16})")  # as in host.py: the microsecond of the insert
LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)

stamps: dict[int, int] = {}
ages_us: list[tuple[int, int]] = []  # when each request came, and how long after the insert
counts = {"requests": 0}


class Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._data = b""
        self._came_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take what came; answer when a request is whole."""
        self._came_ns = self._came_ns if self._data else time.monotonic_ns()
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not found or len(body) < (int(length[1]) if length else 0):
            return
        self._data = b""
        if head.startswith(b"GET /"):
            self._write(self._asked(head))
            return
        self._note(body)
        if self._delay_s:
            asyncio.get_running_loop().call_later(self._delay_s, self._write, b"")
        else:
            self._write(b"")

    def _note(self, body: bytes) -> None:
        counts["requests"] += 1
        if mark := MARK.search(body):
            stamps.setdefault(int(mark[1]), self._came_ns)
        elif at := AT.search(body):
            came_us = time.time_ns() // 1000
            ages_us.append((came_us, came_us - int(at[1])))

    def _asked(self, head: bytes) -> bytes:
        if head.startswith(b"GET /stamps "):
            return json.dumps(stamps).encode()
        if head.startswith(b"GET /ages "):
            return json.dumps(ages_us).encode()
        return str(counts["requests"]).encode()

    def _write(self, answer: bytes) -> None:
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))


async def main(port: int, delay_s: float) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(delay_s), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    with suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]) / 1000))
