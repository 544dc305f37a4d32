"""A receiver made of bare sockets, which does on each connection what a script says, however badly behaved.

    def script(connection):            runs in a thread of its own for each connection, which closes when it returns
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\\r\\n…")

A script may block in any read: when the receiver closes, every read ends as if the sender had gone. Errors of the
network are part of the game and end a script; any other error is raised when the receiver closes.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from threading import Lock, Thread
from types import TracebackType

RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # linger for no time at all


class Connection:
    """One connection as the receiver sees it."""

    def __init__(self, receiver: Receiver, socket: socket.socket, number: int) -> None:
        self.number = number
        self._receiver = receiver
        self._socket = socket

    def secure(self, context: ssl.SSLContext) -> None:
        self._socket = context.wrap_socket(self._socket, server_side=True)

    def read_request(self) -> bytes:
        """Read one whole request and note it. Empty when the sender has gone."""
        data = b""
        while (missing := _bytes_missing(data)) > 0:
            chunk = self._socket.recv(missing)
            if not chunk:
                return b""
            data += chunk
        self._receiver.requests.append(data)
        return data

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def wait_until_gone(self) -> None:
        while self._socket.recv(65536):
            pass

    def read_byte(self) -> None:
        self._socket.recv(1)

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._socket.close()

    def end_reads(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


class Receiver:
    """Listens on a free port of the loopback until closed. `requests` are whole requests in the order of their ends."""

    def __init__(self, script: Callable[[Connection], None], certificate: ssl.SSLContext | None = None) -> None:
        self.requests: list[bytes] = []
        self._script = script
        self._certificate = certificate
        self._connections: list[Connection] = []
        self._errors: list[Exception] = []
        self._lock = Lock()
        self._is_closing = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.port}/"
        self._threads = [Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def connection_count(self) -> int:
        return len(self._connections)

    def __enter__(self) -> Receiver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all scripts; what they have read by then is in `requests`."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for connection in self._connections:
            connection.end_reads()
        for thread in self._threads[1:]:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                accepted, _ = self._listener.accept()
                connection = Connection(self, accepted, len(self._connections) + 1)
                self._connections.append(connection)
                self._threads.append(Thread(target=self._follow_script, args=(connection,)))
                self._threads[-1].start()

    def _follow_script(self, connection: Connection) -> None:
        try:
            if self._certificate:
                connection.secure(self._certificate)
            self._script(connection)
        except OSError:
            pass  # the sender went, or sent what TLS refuses
        except Exception as error:
            self._errors.append(error)
        finally:
            connection.close()


def _bytes_missing(data: bytes) -> int:
    """Say how many bytes may be read at once without reading beyond the request."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return 65536
    length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    return (int(length[1]) if length else 0) - len(body)
