"""In a shell: completion by real shells, a live view, no colours where none are wanted, no trace back for a person."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from outbox_worker.cli import COMMANDS
from tests.cli.desk import Desk
from tests.scenarios.waiting import until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path_with_program(tmp_path: Path) -> str:
    """A PATH on which `outbox-worker` is this very program."""
    directory = tmp_path / "bin"
    directory.mkdir()
    program = directory / "outbox-worker"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m outbox_worker "$@"\n')
    program.chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"


ASK = {
    "bash": "source {script}; COMP_WORDS=({words}); COMP_CWORD={index}; _outbox_worker_completion outbox-worker;"
    ' printf "%s\\n" "${{COMPREPLY[@]}}"',
    "fish": "source {script}; complete --do-complete '{line}'",
}


def completed(shell: str, line: str, script: Path, search_path: str) -> list[str]:
    words = line.split(" ")
    asked = ASK[shell].format(script=script, words=" ".join(words), index=len(words) - 1, line=line)
    told = subprocess.run(
        [shell, "-c", asked],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env=os.environ | {"PATH": search_path},
    )
    return [answer.split("\t")[0] for answer in told.stdout.splitlines()]


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_a_shell_completes_commands_and_options(shell: str, desk: Desk, tmp_path: Path, path_with_program: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not on this machine")
    script = tmp_path / "completion"
    script.write_text(desk("completion", shell).out)
    assert completed(shell, "outbox-worker de", script, path_with_program) == sorted(
        name for name in COMMANDS if name.startswith("de")
    )
    assert "--watch" in completed(shell, "outbox-worker status --w", script, path_with_program)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_its_shell_can_read(shell: str, desk: Desk, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not on this machine")
    script = tmp_path / "completion"
    script.write_text(desk("completion", shell).out)
    subprocess.run([shell, "-n", str(script)], check=True, timeout=30)


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 120))
    yield ours, theirs
    for descriptor in (ours, theirs):
        with suppress(OSError):
            os.close(descriptor)


def test_a_live_view_shows_what_changes_until_ctrl_c(
    desk: Desk, database_url: str, terminal: tuple[int, int], connect: Callable[..., object]
) -> None:
    ours, theirs = terminal
    os.set_blocking(ours, False)
    seen = ""

    def has_seen(text: str) -> bool:
        nonlocal seen
        with suppress(BlockingIOError):
            seen += os.read(ours, 65_536).decode()
        return text in seen

    watching = subprocess.Popen(
        [sys.executable, "-m", "outbox_worker", "status", "--watch", "--every", "0.5", "-c", str(desk.file)],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env=os.environ | {"NO_COLOR": "1", "TERM": "xterm"},
    )  # fmt: skip
    try:
        until(lambda: has_seen("capture failures   0 facts"), "the first view")
        session = connect()
        session.execute("select outbox.record_capture_failure('purchase', '1', '22012', 'x')")  # type: ignore[attr-defined]
        until(lambda: has_seen("capture failures   1 facts"), "what has changed")
        assert "\x1b[31m" not in seen and "\x1b[1;3" not in seen, "no colours"
    finally:
        watching.send_signal(signal.SIGINT)
        status = watching.wait(10)
    assert status == 0, seen
    assert not has_seen("Traceback")


MISTAKES = [
    ("status", "--configuration", "/nowhere/none.toml"),
    ("run", "-c", "/"),
    ("events", "show"),
    ("events", "show", "no such:event"),
    ("events", "list", "--since", "yesterday"),
    ("in-doubt", "confirm", "purchase:1"),
    ("dead-letters", "requeue", "--all", "--reason", "x"),
    ("destinations", "pause", "elsewhere", "--reason", "x"),
    ("schema", "install", "--database", "postgresql://nobody@127.0.0.1:1/x"),
    ("schema", "print", "--from", "0"),
    ("configuration", "show", "-c", "/dev/null"),
    ("completion", "csh"),
    ("systemd", "other.service"),
    ("monitoring", "other"),
    ("--other",),
]


@pytest.mark.parametrize("words", MISTAKES, ids=" ".join)
def test_a_persons_mistake_is_a_sentence_and_no_trace_back(desk: Desk, words: tuple[str, ...]) -> None:
    answer = desk(*words)
    assert answer.status in (1, 2, 69, 78)
    assert answer.err and "Traceback" not in answer.err + answer.out
