"""The version of the schema: a worker that does not fit refuses with a sentence that says what to do."""

from __future__ import annotations

import pytest

from outbox_worker.database import schema
from outbox_worker.errors import SchemaMismatch
from tests.conftest import Server
from tests.sql.till import Connect, Session


def complaint(session: Session) -> str:
    with pytest.raises(SchemaMismatch) as refused:
        schema.require_version(session)
    assert refused.value.exit_status == 78
    return str(refused.value)


def with_version(session: Session, version: int) -> None:
    session.execute(
        f"create or replace function outbox.schema_version() returns integer language sql immutable return {version}"
    )


def test_the_installed_version_is_the_one_that_this_program_works_with(connect: Connect) -> None:
    session = connect()
    assert schema.installed_version(session) == schema.VERSION
    schema.require_version(session)


def test_no_schema_is_told_with_the_command_that_installs_it(connect: Connect, empty_database_url: str) -> None:
    session = connect(empty_database_url)
    assert schema.installed_version(session) is None
    told = complaint(session)
    assert "schema install" in told
    assert session.info.dbname in told and str(session.info.port) in told
    assert session.info.password not in told


def test_an_older_schema_is_told_with_both_versions_and_the_command(connect: Connect) -> None:
    session = connect()
    with_version(session, schema.VERSION - 1)
    told = complaint(session)
    assert (
        f"version {schema.VERSION - 1} of schema outbox; this outbox-worker works with version {schema.VERSION}" in told
    )
    assert "schema upgrade" in told


def test_a_newer_schema_asks_for_a_newer_program(connect: Connect) -> None:
    session = connect()
    with_version(session, schema.VERSION + 1)
    told = complaint(session)
    assert f"version {schema.VERSION + 1}" in told
    assert "Install the newer outbox-worker" in told


@pytest.mark.parametrize("missing", ["function outbox.schema_version()", "schema outbox cascade"])
def test_a_schema_that_was_damaged_is_one_that_is_not_there(connect: Connect, missing: str) -> None:
    session = connect()
    session.execute(f"drop {missing}")
    assert schema.installed_version(session) is None


def test_a_role_without_rights_is_told_what_to_grant(connect: Connect, server: Server) -> None:
    session = connect()
    session.execute("set role pg_monitor")
    assert "grant outbox_worker to this role" in complaint(session)


def test_a_script_is_whole(connect: Connect) -> None:
    for name in ("install.sql", "uninstall.sql", *schema.REFERENCE):
        assert "\\ir" not in schema.script(name)
    assert "create table if not exists outbox.event" in schema.script("install.sql")
