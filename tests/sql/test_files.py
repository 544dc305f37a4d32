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

# What hangs on an object stands with it: indexes, first rows.
CREATED = re.compile(
    r"^\s*create (?:or replace )?(?:table|view|function|sequence|domain|schema)(?: if not exists)? ([\w.]+)",
    re.MULTILINE,
)


@pytest.mark.parametrize("name", INSTALLED)
def test_a_file_makes_the_object_that_it_is_named_after_and_no_other(name: str) -> None:
    made = CREATED.findall((SQL / "install" / name).read_text())
    expected = [] if name in NO_OBJECT else [name.removesuffix(".sql")]
    assert [it.removeprefix("outbox.") for it in made] == (["outbox"] if name == "schema.sql" else expected)


def test_every_file_is_listed_once() -> None:
    listed = re.findall(r"^\\ir install/(\S+)$", (SQL / "install.sql").read_text(), re.MULTILINE)
    assert sorted(listed) == INSTALLED


def test_every_object_has_its_file(dba: Session) -> None:
    objects = column(
        dba,
        "select relname from pg_class where relnamespace = 'outbox'::regnamespace and relkind in ('r', 'v', 'S', 'm')"
        " and not exists (select from pg_depend where objid = pg_class.oid and deptype = 'i' and refobjsubid > 0)"
        " union select proname from pg_proc where pronamespace = 'outbox'::regnamespace"
        " union select typname from pg_type where typnamespace = 'outbox'::regnamespace and typtype in ('d', 'e')",
    )
    assert sorted(f"{name}.sql" for name in objects) == sorted(set(INSTALLED) - NO_OBJECT - {"schema.sql"})


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
