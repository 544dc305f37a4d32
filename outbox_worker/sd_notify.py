"""What systemd is told: a datagram of lines to the socket that it names in NOTIFY_SOCKET; nothing where there is none.

The protocol is sd_notify(3), which systemd promises to keep as it is, and a dozen lines: too few for a library.
"""

from __future__ import annotations

import os
import socket


def is_heard() -> bool:
    """Tell whether somebody listens: the process was started by a unit of Type=notify, or by a test."""
    return bool(os.environ.get("NOTIFY_SOCKET"))


def notify(**lines: str | int) -> bool:
    """Send one message, as `notify(READY=1, STATUS="…")`; return whether it was taken.

    Never waits and never raises: what systemd does not hear now, it can be told later, and no delivery depends on it.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    message = "".join(f"{name}={' '.join(str(value).split())}\n" for name, value in lines.items())
    where = f"\0{address[1:]}" if address.startswith("@") else address  # the abstract namespace, as systemd writes it
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendto(message.encode(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, where)
    except OSError:
        return False
    return True


def watchdog_s() -> float | None:
    """Return how long systemd hears nothing before it restarts this process, None if it does not watch it."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    is_ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 1e6 if microseconds.isdigit() and int(microseconds) and is_ours else None
