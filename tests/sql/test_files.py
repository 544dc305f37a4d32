"""The files: one object each, named after it, listed once, explained, and readable by every database."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from outbox_worker.database import schema
from tests.sql.till import Session, column

SQL = schema.directory()
INSTALLED = sorted(path.name for path in (SQL / "install").glob("*.sql"))
NO_OBJECT = {"roles.sql", "rights.sql"}
SCHEMAS = {"schema.sql": ["outbox"], "identity_schema.sql": ["identity"]}

# What hangs on an object stands with it: indexes, first rows.
CREATED = re.compile(
    r"^\s*create (?:or replace )?(?:unlogged )?(?:table|view|function|sequence|domain|schema)"
    r"(?: if not exists)? ([\w.]+)",
    re.MULTILINE,
)


@pytest.mark.parametrize("name", INSTALLED)
def test_a_file_makes_the_object_that_it_is_named_after_and_no_other(name: str) -> None:
    made = CREATED.findall((SQL / "install" / name).read_text())
    expected = [] if name in NO_OBJECT else [name.removesuffix(".sql")]
    assert [it.removeprefix("outbox.").replace("identity.", "identity_") for it in made] == SCHEMAS.get(name, expected)


def test_every_file_is_listed_once() -> None:
    listed = re.findall(r"^\\ir install/(\S+)$", (SQL / "install.sql").read_text(), re.MULTILINE)
    assert sorted(listed) == INSTALLED


def test_every_object_has_its_file(dba: Session) -> None:
    made = "case {}::regnamespace::text when 'identity' then 'identity_' else '' end || {}"
    ours = "in ('outbox'::regnamespace, 'identity'::regnamespace)"
    objects = column(
        dba,
        f"select {made.format('relnamespace', 'relname')} from pg_class where relnamespace {ours}"
        " and relkind in ('r', 'v', 'S', 'm')"
        " and not exists (select from pg_depend where objid = pg_class.oid and deptype = 'i' and refobjsubid > 0)"
        f" union select {made.format('pronamespace', 'proname')} from pg_proc where pronamespace {ours}"
        f" union select {made.format('typnamespace', 'typname')} from pg_type where typnamespace {ours}"
        " and typtype in ('d', 'e')",
    )
    assert sorted(f"{name}.sql" for name in objects) == sorted(set(INSTALLED) - NO_OBJECT - set(SCHEMAS))


@pytest.mark.parametrize("path", sorted(SQL.rglob("*.sql")), ids=lambda path: path.name)
def test_a_file_begins_by_saying_what_it_is_for(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert re.match(r"-- \w.{30,}", first), first


@pytest.mark.parametrize("path", sorted(SQL.rglob("*.sql")), ids=lambda path: path.name)
def test_a_file_is_ascii_so_that_databases_of_every_encoding_can_read_why_they_are_refused(path: Path) -> None:
    path.read_bytes().decode("ascii")


@pytest.mark.parametrize("path", sorted((SQL / "install").glob("*.sql")), ids=lambda path: path.name)
def test_a_file_says_nothing_that_would_lock_out_sales_when_it_is_run_again(path: Path) -> None:
    """An ALTER TABLE or a CREATE INDEX locks the table before it looks whether there is anything to do."""
    text = re.sub(r"^\s*--.*$", "", path.read_text(), flags=re.MULTILINE).lower()
    assert not re.search(r"^alter table|^create (unique )?index|^drop |^truncate|^lock ", text, re.MULTILINE)
