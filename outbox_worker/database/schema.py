"""The database side as files: where they are, and how they are loaded into a database.

The files are plain psql. `sql/install.sql` names the rest in order by `\\ir` lines, and so is the one list of them.
"""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
from psycopg import sql

from outbox_worker.errors import SchemaMismatch

VERSION = 2
INSTALLATION = 122550254464889  # the lock of sql/install.sql: one installation at a time
REFERENCE = ("accounting/reference_schema.sql", "accounting/reference_mapping.sql")

PACKAGE = Path(__file__).resolve().parent.parent


def directory() -> Path:
    """Return the directory of the SQL files: inside an installed package, beside it in a checkout."""
    installed = PACKAGE / "sql"
    return installed if installed.is_dir() else PACKAGE.parent / "sql"


def script(name: str) -> str:
    """Return a file of the SQL directory with the files that it includes put in their places."""
    path = directory() / name
    return re.sub(
        r"^\\ir (\S+)\n",
        lambda line: f"-- {line[1]}\n{(path.parent / line[1]).read_text(encoding='utf-8')}\n",
        path.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )


def install(connection: psycopg.Connection) -> None:
    """Install or re-install schema outbox in one transaction."""
    _run(connection, "install.sql")


def upgrade(connection: psycopg.Connection) -> int:
    """Bring schema outbox up to this version in one transaction; return the version that it had.

    What is newer than the database runs, and then the whole installation, which is safe to run again. Raises
    SchemaMismatch where there is no schema, or a newer one.
    """
    if (installed_version(connection) or VERSION + 1) > VERSION:
        require_version(connection)
    with connection.transaction():
        connection.execute("set local lock_timeout = '2s'")
        connection.execute("select pg_advisory_xact_lock(%s)", [INSTALLATION])
        # To wait for that lock does not make a session hear of what others have changed; to open a table does.
        connection.execute("select from outbox.route limit 0")
        found = installed_version(connection) or VERSION
        _run(connection, *upgrades(found), "install.sql")
    return found


def upgrades(version: int) -> list[str]:
    """Return the files that bring a schema of this version up, in order; each is named after the version it makes."""
    files = sorted((directory() / "upgrade").glob("[0-9][0-9][0-9]_*.sql"))
    return [f"upgrade/{file.name}" for file in files if int(file.name[:3]) > version]


def install_reference(connection: psycopg.Connection) -> None:
    """Install the reference accounting system and its mapping in one transaction."""
    _run(connection, *REFERENCE)


def uninstall(connection: psycopg.Connection) -> None:
    """Take schemas outbox and integration and all that hangs on them out of the database, in one transaction."""
    _run(connection, "uninstall.sql")


def installed_version(connection: psycopg.Connection) -> int | None:
    """Return the version of schema outbox, or None if it is not there (or this role may not see it)."""
    try:
        row = connection.execute("select outbox.schema_version()").fetchone()
    except (psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedFunction, psycopg.errors.InsufficientPrivilege):
        return None
    return int(row[0]) if row else None


def require_version(connection: psycopg.Connection) -> None:
    """Refuse a database whose schema is not the one this version works with.

    Raises SchemaMismatch. Needs a connection in autocommit mode.
    """
    found = installed_version(connection)
    where = f"database {connection.info.dbname!r} at {connection.info.host}:{connection.info.port}"
    if found is None:
        raise SchemaMismatch(
            f"{where} has no schema outbox that role {connection.info.user!r} may use. "
            "Install it with `outbox-worker schema install`, and grant outbox_worker to this role."
        )
    if found != VERSION:
        raise SchemaMismatch(
            f"{where} has version {found} of schema outbox; this outbox-worker works with version {VERSION}. "
            + (
                "Bring the schema up with `outbox-worker schema upgrade`."
                if found < VERSION
                else "Install the newer outbox-worker."
            )
        )


def _run(connection: psycopg.Connection, *names: str) -> None:
    with connection.transaction():
        for name in names:
            connection.execute(sql.SQL(script(name)))
