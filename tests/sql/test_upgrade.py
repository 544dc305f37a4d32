"""Upgrading: an upgraded database is a freshly installed one, with all that was in it; no sale notices."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from outbox_worker.database import schema
from outbox_worker.demo.sandbox import SandboxServer, Settings
from outbox_worker.errors import SchemaMismatch
from tests.cli.desk import Desk
from tests.conftest import Server
from tests.scenarios.conftest import login_of_a_worker
from tests.scenarios.world import World
from tests.sql.catalogue import catalogue, identities
from tests.sql.till import Connect, Session, add_customer, beside, in_outbox, sell, until_waiting, value

VERSIONS = sorted(int(path.stem) for path in (Path(__file__).parent / "versions").glob("*.sql"))
OURS = ("outbox", "identity")


def version_file(version: int) -> str:
    return (Path(__file__).parent / "versions" / f"{version}.sql").read_text()


@pytest.fixture(params=VERSIONS)
def old(request: pytest.FixtureRequest, connect: Connect, empty_database_url: str) -> Session:
    """A superuser's session in a database that was installed when our schema had this version."""
    session = connect(empty_database_url)
    with session.transaction():
        session.execute(sql.SQL(version_file(request.param)))
    return session


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path / "none.toml", monkeypatch, capsys)


def later(session: Session) -> None:
    """Run what an upgrade leaves for a quiet moment, because sales would wait for it."""
    with session.transaction():
        session.execute(sql.SQL(schema.script("upgrade/later.sql")))


def of_ours(session: Session) -> list[str]:
    return [line for line in catalogue(session, *OURS) if not line.startswith("other schema")]


def test_there_is_an_old_database_to_begin_with_for_every_version_but_this_one() -> None:
    assert list(range(1, schema.VERSION)) == VERSIONS
    assert [int(name.split("/")[1][:3]) for name in schema.upgrades(1)] == list(range(2, schema.VERSION + 1))


def test_an_upgraded_database_equals_a_freshly_installed_one(old: Session, dba: Session) -> None:
    assert of_ours(old) != of_ours(dba)
    assert schema.upgrade(old) in VERSIONS
    later(old)
    assert of_ours(old) == of_ours(dba)
    assert schema.installed_version(old) == schema.VERSION


def test_before_and_after_the_quiet_moment_a_delivery_keeps_its_rules(old: Session) -> None:
    schema.upgrade(old)
    sell(old, add_customer(old))
    for then in (later, later, lambda _: None):
        with pytest.raises(psycopg.errors.CheckViolation, match="stopping_has_a_reason"):
            old.execute("update outbox.delivery set state = 'dead'")
        with pytest.raises(psycopg.errors.CheckViolation, match="tries_are_attempts"):
            old.execute("update outbox.delivery set try_count = 1")
        then(old)


def test_to_upgrade_again_changes_nothing(old: Session) -> None:
    schema.upgrade(old)
    before = catalogue(old), identities(old)
    assert schema.upgrade(old) == schema.VERSION
    assert (catalogue(old), identities(old)) == before


def test_what_was_recorded_is_there_afterwards_and_is_delivered_once(
    old: Session, server: Server, tmp_path: Path
) -> None:
    for _ in range(3):
        sell(old, add_customer(old))
    old.execute(
        "insert into outbox.act (act, destination, actor, reason) values ('pause', 'api', 'me', 'x'), "
        "('resume', 'api', 'me', 'x')"
    )
    recorded = in_outbox(old)
    schema.upgrade(old)
    assert in_outbox(old) == recorded
    assert value(old, "select count(*) from outbox.act") == 2
    schema.install_reference(old)
    with (
        login_of_a_worker(server.url()) as login,
        SandboxServer(Settings(any_client=True, seed=1)) as inboost,
        closing(World(server.url(old.info.dbname), login, tmp_path, inboost)) as world,
    ):
        world.start()
        world.until_done(90)
        assert world.effect_count() == recorded["delivery"]


def test_an_upgrade_neither_waits_for_a_sale_nor_makes_one_wait(
    old: Session, connect: Connect, empty_database_url: str
) -> None:
    customer = add_customer(old)
    till, upgrader = connect(empty_database_url), connect(empty_database_url)
    till.execute("begin")
    sell(till, customer)
    schema.upgrade(upgrader)
    sell(till, customer)
    till.execute("commit")
    assert value(old, "select count(*) from outbox.capture_failure") == 0
    assert value(old, "select count(*) from outbox.event where kind = 'purchase'") == 2


def test_a_sale_goes_on_beside_an_upgrade_that_is_not_yet_committed(
    old: Session, connect: Connect, empty_database_url: str
) -> None:
    customer = add_customer(old)
    till, upgrader = connect(empty_database_url), connect(empty_database_url)
    till.execute("set lock_timeout = '1s'")
    upgrader.execute("begin")
    schema.upgrade(upgrader)
    sell(till, customer)
    upgrader.execute("commit")
    assert value(old, "select count(*) from outbox.capture_failure") == 0


def test_a_table_in_use_ends_the_upgrade_with_nothing_changed(
    old: Session, connect: Connect, empty_database_url: str, desk: Desk
) -> None:
    before = catalogue(old)
    reader = connect(empty_database_url)
    reader.execute("begin")
    reader.execute("select from outbox.act")
    answer = desk("schema", "upgrade", "--database", empty_database_url)
    assert answer.status == 69 and "Try again when it is quieter" in answer.err
    assert catalogue(old) == before


def test_of_two_who_upgrade_at_once_the_second_finds_it_done(
    old: Session, connect: Connect, empty_database_url: str, dba: Session
) -> None:
    first, second = connect(empty_database_url), connect(empty_database_url)
    first.execute("begin")
    schema.upgrade(first)
    with beside(lambda: schema.upgrade(second)):
        until_waiting(old, second)
        first.execute("commit")
    later(old)
    assert of_ours(old) == of_ours(dba)


def test_to_install_over_an_older_version_is_refused_with_the_command_that_does_it(
    old: Session, desk: Desk, empty_database_url: str
) -> None:
    before = catalogue(old)
    answer = desk("schema", "install", "--database", empty_database_url)
    assert answer.status == 78 and "schema upgrade" in answer.err and "Nothing was changed" in answer.err
    assert catalogue(old) == before


def test_the_commands_tell_what_was_done_and_print_what_would_be_run(
    old: Session, desk: Desk, empty_database_url: str, dba: Session
) -> None:
    before = schema.installed_version(old)
    printed = desk("schema", "print", "--from", str(before)).out
    answer = desk("schema", "upgrade", "--database", empty_database_url)
    assert (answer.status, f"from version {before} to {schema.VERSION}" in answer.out) == (0, True)
    assert "already" in desk("schema", "upgrade", "--database", empty_database_url).out
    with closing(psycopg.connect(empty_database_url, autocommit=True)) as session:
        session.execute("drop schema outbox, identity, integration, accounting cascade")
        with session.transaction():
            session.execute(sql.SQL(version_file(before or 0)))
        with session.transaction():
            session.execute(sql.SQL(printed))
        later(session)
        assert of_ours(session) == of_ours(dba)


def test_what_cannot_be_upgraded_is_told_what_to_do_instead(
    connect: Connect, empty_database_url: str, dba: Session
) -> None:
    with pytest.raises(SchemaMismatch, match="schema install"):
        schema.upgrade(connect(empty_database_url))
    dba.execute("create or replace function outbox.schema_version() returns integer language sql return 99")
    with pytest.raises(SchemaMismatch, match="Install the newer outbox-worker"):
        schema.upgrade(dba)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="version 99"):
        schema.install(dba)
