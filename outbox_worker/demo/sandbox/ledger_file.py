"""The ledger on disk: a JSON line per effect and per registered client, so that a killed sandbox comes back as it was.

A line is written before its request is answered. It is not forced to the disk: the sandbox may be killed, the host not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from outbox_worker.demo.sandbox.ledger import Effect
from outbox_worker.errors import ConfigurationError


class Registration(msgspec.Struct, frozen=True, tag="client", tag_field="type"):
    """A client that did not come by a request, but was registered for a trial."""

    registered_at: float  # Unix seconds
    fields: dict[str, Any]


Line = Effect | Registration


class LedgerFile:
    """Appends lines, and reads back what a former life appended."""

    def __init__(self, path: Path) -> None:
        """Open the file and make it if need be; raises ConfigurationError when that cannot be done."""
        self._path = path
        self._encode = msgspec.json.Encoder().encode
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(f"the ledger file {path} cannot be opened: {error.strerror}") from error

    def append(self, line: Line) -> None:
        """Write a line so that it outlives the process."""
        os.write(self._descriptor, self._encode(line) + b"\n")

    def read_back(self) -> Iterator[Line]:
        """Yield all lines; a last line that was torn by a kill goes, as its request was not answered either.

        Raises ConfigurationError when another line cannot be read.
        """
        decode = msgspec.json.Decoder(Line).decode
        read_bytes = 0
        with self._path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    os.ftruncate(self._descriptor, read_bytes)
                    return
                read_bytes += len(line)
                try:
                    yield decode(line)
                except msgspec.DecodeError as error:
                    raise ConfigurationError(f"line {number} of the ledger file {self._path}: {error}") from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
