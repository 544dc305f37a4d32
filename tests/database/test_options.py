"""The options of our sessions: what the URL says holds, and what we say holds against it."""

from __future__ import annotations

from contextlib import closing
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from sqlalchemy import text

from outbox_worker.database.engine import engine, transaction
from outbox_worker.database.outbox import Outbox
from outbox_worker.database.turns import Terms

GIVEN = "-c work_mem=7MB -c enable_seqscan=on -c lock_timeout=1h"
ASKED = "select current_setting('work_mem'), current_setting('enable_seqscan'), current_setting('lock_timeout')"


def relays(conninfo: str) -> psycopg.Connection:
    terms = Terms(uuid4(), (), ("pending",), failures_max=5, probe_s=3)
    return Outbox(conninfo, terms).open([])


def test_options_of_the_url_are_kept_and_ours_prevail(database_url: str) -> None:
    with closing(relays(make_conninfo(database_url, options=GIVEN))) as session:
        assert session.execute(ASKED).fetchall() == [("7MB", "off", "5s")]
    with transaction(engine(make_conninfo(database_url, options=GIVEN), application_name="x")) as connection:
        assert connection.execute(text(ASKED)).fetchall() == [("7MB", "on", "2s")]


def test_options_of_the_environment_are_kept_where_the_url_has_none(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", GIVEN)
    with closing(relays(database_url)) as session:
        assert session.execute(ASKED).fetchall() == [("7MB", "off", "5s")]


def test_no_default_of_the_database_changes_how_the_relay_reads_and_writes(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as owner:
        for setting in ("client_encoding = 'WIN1251'", "default_transaction_read_only = on"):
            owner.execute(f'alter database "{owner.info.dbname}" set {setting}')
    asked = "select current_setting('client_encoding'), current_setting('transaction_read_only')"
    with closing(relays(database_url)) as session:
        assert session.execute(asked).fetchall() == [("UTF8", "off")]
    with transaction(engine(database_url, application_name="x")) as connection:
        assert connection.execute(text(asked)).fetchall() == [("UTF8", "off")]
