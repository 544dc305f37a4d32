"""A transaction pooler in little: whoever asks is handed a server process for one transaction.

    client ──▶ pooler ──one message at a time──▶ a process, until ReadyForQuery says that it is idle

It is the one that has been idle longest, or, with `latest`, the one that has just been let go.

Clients are let in without a password, and what a process says unasked (a notification) reaches nobody.
"""

from __future__ import annotations

import os
import socket
import struct
from collections import deque
from contextlib import suppress
from threading import Condition, Thread
from typing import Self

from psycopg import pq
from psycopg.conninfo import make_conninfo

ENCRYPTION_REQUESTS = (80877103, 80877104)
GREETING = {"server_version": "18.0", "client_encoding": "UTF8", "standard_conforming_strings": "on"}


class TransactionPooler:
    """Listens on `port` for as long as its block lasts."""

    def __init__(self, conninfo: str, *, size: int = 2, latest: bool = False) -> None:
        self._latest = latest
        self._logins = [pq.PGconn.connect(make_conninfo(conninfo, sslmode="disable").encode()) for _ in range(size)]
        self._idle = deque(socket.socket(fileno=os.dup(login.socket)) for login in self._logins)
        for process in self._idle:
            process.setblocking(True)  # libpq has it otherwise
            process.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._condition = Condition()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._clients: list[socket.socket] = []
        self._threads = [Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for client in self._clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        for held in (self._listener, *self._clients, *self._idle):
            held.close()
        for login in self._logins:
            login.finish()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._clients.append(client)
                self._threads.append(Thread(target=self._serve, args=(client,)))
                self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            self._greet(client)
            process: socket.socket | None = None
            while (message := _read(client))[:1] != b"X":
                process = process or self._take()
                process.sendall(message)
                if message[:1] in b"QS" and self._answer(process, client) == b"I":
                    self._give_back(process)
                    process = None

    def _greet(self, client: socket.socket) -> None:
        while _startup(client) in ENCRYPTION_REQUESTS:
            client.sendall(b"N")
        client.sendall(_message(b"R", struct.pack("!i", 0)))
        for name, value in GREETING.items():
            client.sendall(_message(b"S", f"{name}\0{value}\0".encode()))
        client.sendall(_message(b"K", struct.pack("!ii", 4711, 0)) + _message(b"Z", b"I"))

    def _answer(self, process: socket.socket, client: socket.socket) -> bytes:
        """Pass on what a process answers; return in which state of a transaction that leaves it."""
        while True:
            message = _read(process)
            if message[:1] != b"A":
                client.sendall(message)
            if message[:1] == b"Z":
                return message[5:6]

    def _take(self) -> socket.socket:
        with self._condition:
            self._condition.wait_for(lambda: self._idle)
            return self._idle.pop() if self._latest else self._idle.popleft()

    def _give_back(self, process: socket.socket) -> None:
        with self._condition:
            self._idle.append(process)
            self._condition.notify()


def _startup(client: socket.socket) -> int:
    (length,) = struct.unpack("!i", _exactly(client, 4))
    body = _exactly(client, length - 4)
    return int(struct.unpack("!i", body[:4])[0])


def _read(peer: socket.socket) -> bytes:
    head = _exactly(peer, 5)
    return head + _exactly(peer, struct.unpack("!i", head[1:])[0] - 4)


def _exactly(peer: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = peer.recv(count - len(data))
        if not chunk:
            raise ConnectionResetError
        data += chunk
    return data


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body
