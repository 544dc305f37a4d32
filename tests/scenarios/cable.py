"""The cable between a worker and its database: it can be cut without either end being told.

    worker ──▶ port of the cable ──▶ server          cut: nothing more arrives, on either side, and nothing is closed

What was connected when it was cut stays so for ever, as after a router that forgot its connections. Whoever connects
while it is cut is let in by the kernel and hears nothing.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Thread
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class Line:
    """One connection through the cable."""

    is_cut = False

    def carry(self, source: socket.socket, sink: socket.socket) -> None:
        """Carry bytes one way, and the end of them; after the cut, read and drop them."""
        with suppress(OSError):
            while data := source.recv(65536):
                if not self.is_cut:
                    sink.sendall(data)
        if not self.is_cut:
            with suppress(OSError):
                sink.shutdown(socket.SHUT_RDWR)


class Cable:
    """Listens for as long as its block lasts; `conninfo` leads through it."""

    def __init__(self, conninfo: str) -> None:
        words = conninfo_to_dict(conninfo)
        self._server = (str(words["host"]), int(words["port"] or 5432))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.conninfo = make_conninfo(conninfo, host="127.0.0.1", port=self._listener.getsockname()[1])
        self._lets_in = True
        self._ends: list[socket.socket] = []
        self._lines: list[Line] = []
        self._threads = [Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        for held in (self._listener, *self._ends):
            held.close()

    def cut(self) -> None:
        """Let nothing more arrive."""
        self.deafen()
        for line in self._lines:
            line.is_cut = True

    def deafen(self) -> None:
        """Let those who are connected be, and let those who connect from now on hear nothing."""
        self._lets_in = False

    def mend(self) -> None:
        """Let those through who connect from now on."""
        self._lets_in = True

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._ends.append(client)
                if self._lets_in:
                    server, line = self._connect(), Line()
                    self._ends.append(server)
                    self._lines.append(line)
                    for source, sink in ((client, server), (server, client)):
                        self._threads.append(Thread(target=line.carry, args=(source, sink)))
                        self._threads[-1].start()

    def _connect(self) -> socket.socket:
        host, port = self._server
        if not host.startswith("/"):
            return socket.create_connection(self._server)
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server
