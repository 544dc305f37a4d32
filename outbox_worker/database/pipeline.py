"""Statements sent together and answered together, while the caller does something else: libpq's pipeline mode.

Without BEGIN, PostgreSQL runs all that stands between two synchronisation points as one transaction: all of it is
durable, or none of it is. psycopg's own pipeline waits for the answers; here the caller's selector does, and the
relay's transfers go on meanwhile.
"""

from __future__ import annotations

import select
from collections.abc import Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer

Row = tuple[Any, ...]


class Statement(NamedTuple):
    """A statement with $1, $2 … and its parameters as text; `name` is that of its plan and of its rows."""

    name: str
    text: str
    parameters: Sequence[str] = ()


class Pipeline:
    """One batch of statements at a time on a connection that nobody else uses meanwhile."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._link = connection.pgconn
        self._prepared: set[str] = set()
        self._expected: list[tuple[str, bool]] = []  # names not answered yet, and whether of a plan or of rows
        self._rows: dict[str, list[Row]] = {}
        self._error: psycopg.Error | None = None
        self.is_under_way = False

    def send(self, statements: Sequence[Statement]) -> None:
        """Send a batch. Raises psycopg.OperationalError when the connection is lost."""
        self._expected, self._rows, self._error = [], {}, None
        self._link.enter_pipeline_mode()
        self.is_under_way = True
        for statement in statements:
            self._queue(statement)
        self._link.pipeline_sync()
        self._flush()

    def receive(self) -> dict[str, list[Row]] | None:
        """Read what has come. Return the rows by name of statement when all are there, None before that.

        Raises the psycopg.Error of the first statement that failed, or OperationalError when the connection is lost;
        then nothing of the batch took effect, or, if the connection was lost, perhaps all of it.
        """
        self._link.consume_input()
        while self.is_under_way and not self._link.is_busy():
            result = self._link.get_result()
            if result is None:
                continue  # what parts two statements
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                return self._end()
            self._take(result)
        return None

    def _queue(self, statement: Statement) -> None:
        name = statement.name.encode()
        if statement.name not in self._prepared:
            self._link.send_prepare(name, statement.text.encode())
            self._expected.append((statement.name, True))
        parameters = [parameter.encode() for parameter in statement.parameters]
        self._link.send_query_prepared(name, parameters, result_format=pq.Format.BINARY)
        self._expected.append((statement.name, False))

    def _flush(self) -> None:
        # Reads too while the server does not take more: it may be waiting for us to read.
        while self._link.flush():
            readable, _, _ = select.select([self._link.socket], [self._link.socket], [])
            if readable:
                self._link.consume_input()

    def _take(self, result: pq.abc.PGresult) -> None:
        # What fails when the batch commits is answered after its last statement.
        name, is_plan = self._expected.pop(0) if self._expected else ("", False)
        if is_plan and result.status == pq.ExecStatus.COMMAND_OK:
            self._prepared.add(name)  # what stands behind a failure is not even parsed
        elif result.status == pq.ExecStatus.TUPLES_OK:
            transformer = Transformer(self._connection)
            transformer.set_pgresult(result)
            self._rows[name] = transformer.load_rows(0, result.ntuples, tuple)
        elif result.status == pq.ExecStatus.FATAL_ERROR and self._error is None:
            self._error = _error_of(result)

    def _end(self) -> dict[str, list[Row]]:
        self._link.exit_pipeline_mode()
        self.is_under_way = False
        if self._error is not None:
            raise self._error
        return self._rows


def _error_of(result: pq.abc.PGresult) -> psycopg.Error:
    sqlstate = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"XX000").decode()
    message = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"no message").decode("utf-8", "replace")
    try:
        kind: type[psycopg.Error] = psycopg.errors.lookup(sqlstate)
    except KeyError:
        kind = psycopg.DatabaseError
    return kind(f"{message} ({sqlstate})")
