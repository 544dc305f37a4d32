"""The end of systemd's notify socket, for a test to hear what a service tells it."""

from __future__ import annotations

import socket

from tests.scenarios.waiting import until

WATCHDOG_S = 1.0  # as WatchdogSec=1s would have it


class Systemd:
    """The end of the socket that systemd reads; the kernel says from which process each message is."""

    def __init__(self, address: str) -> None:
        self.environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(round(WATCHDOG_S * 1e6))}
        self.heard: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0"))
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def listen(self) -> list[dict[str, str]]:
        """Return everything that was heard so far, each message as its lines by name."""
        while True:
            try:
                message = self._socket.recv(65_536).decode()
            except BlockingIOError:
                return self.heard
            self.heard.append(dict(line.split("=", 1) for line in message.splitlines()))

    def has_heard(self, **lines: str) -> bool:
        return any(lines.items() <= message.items() for message in self.listen())

    def count(self, name: str) -> int:
        return sum(name in message for message in self.listen())

    def until_heard(self, within_s: float = 20, **lines: str) -> None:
        until(lambda: self.has_heard(**lines), f"systemd to hear {lines}; it heard {self.heard}", within_s)
