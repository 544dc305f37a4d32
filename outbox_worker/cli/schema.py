"""`outbox-worker schema`: the database side, put in, taken out, shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import psycopg

from outbox_worker import configuration
from outbox_worker.cli.options import configuration_option
from outbox_worker.database import schema as files
from outbox_worker.errors import DatabaseUnavailable, OutboxWorkerError, SchemaMismatch

database_option = click.option(
    "--database",
    metavar="URL",
    help="Connect as somebody who may create schemas and roles [default: [database] url of the configuration].",
)
reference_option = click.option(
    "--reference", is_flag=True, help="With the reference accounting system and its mapping."
)


@click.group()
def schema() -> None:
    """Install, upgrade, uninstall or print the database side. The daemon itself never changes a schema."""


@schema.command()
@configuration_option
@database_option
@reference_option
def install(configuration_file: Path | None, database: str | None, reference: bool) -> None:
    """Install schema outbox, or bring its functions up to date. Safe to run again."""
    with _connected(configuration_file, database) as connection:
        with connection.transaction():
            files.install(connection)
            if reference:
                files.install_reference(connection)
        click.echo(f"Schema outbox, version {files.VERSION}, is installed in database {connection.info.dbname!r}.")


@schema.command()
@configuration_option
@database_option
def upgrade(configuration_file: Path | None, database: str | None) -> None:
    """Bring an older schema outbox up to this version, in one transaction; sales go on meanwhile.

    Stop the workers before, start the new ones afterwards. The mapping is yours, and stays as it is.
    """
    with _connected(configuration_file, database) as connection:
        before = files.upgrade(connection)
        where = f"in database {connection.info.dbname!r}"
        if before == files.VERSION:
            click.echo(f"Schema outbox {where} has version {before} already; its functions were brought up to date.")
        else:
            click.echo(f"Schema outbox {where} was brought from version {before} to {files.VERSION}.")


@schema.command()
@configuration_option
@database_option
@click.confirmation_option(
    prompt="This drops schemas outbox and integration with every event, delivery and receipt. Go on?"
)
def uninstall(configuration_file: Path | None, database: str | None) -> None:
    """Take triggers, mapping and outbox out of the database. The accounting tables stay as they were."""
    with _connected(configuration_file, database) as connection:
        files.uninstall(connection)
        click.echo(f"Schemas outbox and integration are gone from database {connection.info.dbname!r}.")


@schema.command(name="print")
@reference_option
@click.option("--uninstall", "to_uninstall", is_flag=True, help="What `schema uninstall` runs.")
@click.option("--from", "version", type=click.IntRange(1), help="What `schema upgrade` runs on this version.")
def print_(reference: bool, to_uninstall: bool, version: int | None) -> None:
    """Print the SQL that `schema install` runs, for psql --single-transaction or for reading."""
    names = ["uninstall.sql"] if to_uninstall else [*files.upgrades(version or files.VERSION), "install.sql"]
    if reference and not to_uninstall:
        names += files.REFERENCE
    for name in names:
        click.echo(files.script(name))


@contextmanager
def _connected(configuration_file: Path | None, database: str | None) -> Iterator[psycopg.Connection]:
    conninfo = database or configuration.load(configuration_file, to_deliver=False).database.conninfo
    try:
        connection = psycopg.connect(
            conninfo, autocommit=True, connect_timeout=5, application_name="outbox-worker schema"
        )
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(f"the database cannot be reached: {str(error).strip()}") from None
    except psycopg.ProgrammingError as error:
        raise click.UsageError(f"--database is not something to connect to: {error}") from None
    with connection:
        try:
            yield connection
        except psycopg.Error as error:
            raise _explained(error, connection.info.user) from None


def _explained(error: psycopg.Error, user: str) -> OutboxWorkerError:
    words = error.diag.message_primary or str(error).strip().partition("\n")[0]
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return OutboxWorkerError(
            f"role {user!r} may not do this: {words}. Nothing was changed. Connect with --database as a superuser, or "
            "as one with CREATEROLE and CREATE on the database (and, with --reference, owner of the accounting tables)."
        )
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return DatabaseUnavailable(
            "something is in use and did not become free within 2 seconds. Nothing was changed, nobody was made to "
            "wait for long. Try again when it is quieter."
        )
    if isinstance(error, psycopg.errors.FeatureNotSupported | psycopg.errors.ObjectNotInPrerequisiteState):
        return SchemaMismatch(" ".join(filter(None, (f"{words}. Nothing was changed.", error.diag.message_hint))))
    if isinstance(error, psycopg.OperationalError):
        return DatabaseUnavailable(f"the database does not answer: {words}")
    return OutboxWorkerError(f"the database refused: {words}. Nothing was changed.")
