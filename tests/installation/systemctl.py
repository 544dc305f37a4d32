"""A stand-in for systemd's systemctl, for machines where no systemd runs: it starts what a unit says, as systemd would.

    systemctl.py ROOT daemon-reload | enable --now UNIT | stop UNIT

It reads the unit and its drop-ins below ROOT/etc/systemd/system, makes the credentials, waits for READY=1 at a notify
socket, and keeps the process id. Of the sandboxing it does nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

START_S_MAX = 60


def settings(root: Path, unit: str) -> list[tuple[str, str]]:
    directory = root / "etc" / "systemd" / "system"
    files = [directory / f"{unit}.service", *sorted((directory / f"{unit}.service.d").glob("*.conf"))]
    text = re.sub("(?<=[=:])/etc/", f"{root}/etc/", "\n".join(file.read_text() for file in files))
    return re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)


def start(root: Path, unit: str) -> None:
    found = settings(root, unit)
    run = root / "run" / unit
    shutil.rmtree(run, ignore_errors=True)
    credentials = run / "credentials"
    credentials.mkdir(parents=True)
    for name, place in (value.split(":") for key, value in found if key == "LoadCredential"):
        shutil.copy(place, credentials / name)
    environment = dict(word.split("=", 1) for key, value in found if key == "Environment" for word in value.split())
    (command,) = [value for key, value in found if key == "ExecStart"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, (run / "journal").open("wb") as journal:
        manager.bind(str(run / "notify"))
        manager.settimeout(START_S_MAX)
        told = {"CREDENTIALS_DIRECTORY": str(credentials), "NOTIFY_SOCKET": str(run / "notify")}
        process = subprocess.Popen(
            command.split(), env={"PATH": os.environ["PATH"]} | environment | told,
            stdin=subprocess.DEVNULL, stdout=journal, stderr=journal, start_new_session=True,
        )  # fmt: skip
        (run / "pid").write_text(str(process.pid))
        while b"READY=1" not in manager.recv(65_536):
            if process.poll() is not None:
                sys.exit((run / "journal").read_text())
    process.returncode = 0  # it goes on without us


def main(root: Path, verb: str, *words: str) -> None:
    if verb == "enable":
        start(root, words[-1])
    elif verb == "stop":
        os.kill(int((root / "run" / words[-1] / "pid").read_text()), signal.SIGTERM)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
