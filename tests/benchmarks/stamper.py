"""A receiver that answers 200 and notes when each event's request arrived. Run as a program, with a port.

It reads only as much of HTTP as is needed: whole requests, one after another on a connection. The stamp is taken when
the first bytes of a request are read.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time

MARK = re.compile(rb"MARK(\d{9})")  # as in events.py
LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)

stamps: dict[int, int] = {}
counts = {"requests": 0}


class Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
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
        answer = self._answer(head, body)
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))

    def _answer(self, head: bytes, body: bytes) -> bytes:
        if head.startswith(b"GET /count "):
            return str(counts["requests"]).encode()
        if head.startswith(b"GET /stamps "):
            return json.dumps(stamps).encode()
        counts["requests"] += 1
        if mark := MARK.search(body):
            stamps.setdefault(int(mark[1]), self._came_ns)
        return b""


async def main(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
