"""An operator's desk: commands as in a shell, with their exit status and what they wrote."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from outbox_worker.cli import main


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Keyboard(io.StringIO):
    """A terminal at which somebody has typed this."""

    def isatty(self) -> bool:
        return True


class Desk:
    """Gives commands in this process, with one configuration file."""

    def __init__(self, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.file = file
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        monkeypatch.setenv("OUTBOX_WORKER_CONFIGURATION", str(file))
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setenv("TZ", "UTC")

    def __call__(self, *words: str, stdin: str = "", types: str | None = None) -> Answer:
        """Give a command; `types` is what a person types at a terminal, `stdin` what comes through a pipe."""
        self._monkeypatch.setattr(sys, "argv", ["outbox-worker", *words])
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(stdin) if types is None else Keyboard(types))
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = self._capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Answer(ended.value.code, said.out, said.err)
