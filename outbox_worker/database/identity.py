"""identity.identify for many callers at once, by a few connections, each with a task of its own.

    identify(…) ──▶ one reader: identity.known(…), for all who wait at that moment ──▶ answered, if nothing is new
                        └──▶ one adder: identity.add(…), for all who wait ──▶ answered, if nobody stands in the way
                                 └──▶ writers: identity.identify(…), each a transaction of its own

To identify twice is to identify once, so what a lost connection leaves unanswered is asked again on another one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psycopg
import structlog
from psycopg import errors
from psycopg.adapt import Loader
from psycopg.pq import Format

from outbox_worker.database import schema
from outbox_worker.database.options import ENCODING, options
from outbox_worker.errors import DatabaseUnavailable, SchemaMismatch, Unreadable
from outbox_worker.rules.asking import Ask

IDENTIFY = "select identity.identify($1, $2, $3)"
KNOWN = "select place, answer from identity.known($1, $2, $3) where answer is not null"
ADD = "select place, answer from identity.add($1, $2, $3)"
TOGETHER_MAX = 64  # questions that the reader or the adder takes at once
SETTINGS = {"statement_timeout": "5000"}  # ms: what waits longer than that for others is told to come again
ANSWER_S_MAX = 8.0
WAITING_MAX = 1000  # questions; more are told at once to come again
RECONNECT_S = (0.2, 5.0)  # the first wait and the longest
TRIES_MAX = 2

_TOO_LATE = DatabaseUnavailable(f"no connection answered within {ANSWER_S_MAX:.0f} seconds")
_LATER = (errors.QueryCanceled, errors.LockNotAvailable, errors.DeadlockDetected, errors.ReadOnlySqlTransaction)


Connection = psycopg.AsyncConnection[Any]
Answering = Callable[[Connection], Coroutine[Any, Any, None]]


class _AsItCame(Loader):
    """Leaves JSON as the bytes that it is: nobody here looks into it."""

    format = Format.BINARY

    def load(self, data: Any) -> bytes:
        return bytes(data)


@dataclass(slots=True)
class _Question:
    values: tuple[str | None, str | None, str | None]
    answer: asyncio.Future[bytes] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    try_count: int = 0


class Identity:
    """Answers from `open` to `close`; `connection_count` connections are for what waits for others, besides two."""

    def __init__(self, conninfo: str, connection_count: int) -> None:
        self._conninfo = conninfo
        self._connection_count = connection_count
        self._questions: asyncio.Queue[_Question] = asyncio.Queue()
        self._additions: asyncio.Queue[_Question] = asyncio.Queue()
        self._others: asyncio.Queue[_Question] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._connected_count = 0
        self._log: Any = structlog.get_logger("outbox_worker.web")

    @property
    def is_ready(self) -> bool:
        """Whether a question would be answered now."""
        return self._connected_count > 0

    async def open(self) -> None:
        """Connect, however long that takes. Raises SchemaMismatch when there is no identify to call."""
        first = await self._connect()
        await _require_version(first)
        read = partial(_answer_together, KNOWN, self._questions, self._additions)
        add = partial(_answer_together, ADD, self._additions, self._others)
        self._tasks = [asyncio.create_task(self._keep_at_it(read, first)), asyncio.create_task(self._keep_at_it(add))]
        for _ in range(self._connection_count):
            self._tasks.append(asyncio.create_task(self._keep_at_it(self._answer_alone)))

    async def close(self) -> None:
        """Disconnect; what is not answered yet is cancelled."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def identify(self, ask: Ask) -> bytes:
        """Return the answer, JSON in UTF-8.

        Raises Unreadable when nothing was given, DatabaseUnavailable when it may work later.
        """
        if not self.is_ready or self._waiting_count >= WAITING_MAX:
            raise DatabaseUnavailable("the database is away, or too much waits for it")
        question = _Question((ask.email, ask.phone, ask.phone_normal))
        self._questions.put_nowait(question)
        patience = asyncio.get_running_loop().call_later(ANSWER_S_MAX, _refuse, question, _TOO_LATE)
        try:
            return await question.answer
        finally:
            patience.cancel()

    @property
    def _waiting_count(self) -> int:
        return self._questions.qsize() + self._additions.qsize() + self._others.qsize()

    async def _keep_at_it(self, answer: Answering, connection: Connection | None = None) -> None:
        while True:
            connection = connection or await self._connect()
            self._connected_count += 1
            try:
                async with connection:
                    await answer(connection)
            except psycopg.OperationalError as error:
                self._log.warning("connection lost", reason=_words(error))
            finally:
                self._connected_count -= 1
            connection = None

    async def _answer_alone(self, connection: Connection) -> None:
        """Answer questions one by one, waiting for whoever holds what they need, until the connection is lost."""
        cursor = _cursor(connection)
        while True:
            question = await self._others.get()
            if question.answer.done():  # who asked has gone
                continue
            try:
                await cursor.execute(IDENTIFY, question.values, prepare=True)
                row = await cursor.fetchone()
            except psycopg.Error as error:
                if connection.closed:
                    self._ask_again(question)
                    raise
                _refuse(question, error)
            else:
                if not question.answer.done():
                    question.answer.set_result(row[0] if row else b"")

    def _ask_again(self, question: _Question) -> None:
        question.try_count += 1
        if question.try_count < TRIES_MAX:
            self._others.put_nowait(question)
        else:
            _refuse(question, DatabaseUnavailable("the connection was lost twice"))

    async def _connect(self) -> Connection:
        wait_s, longest_s = RECONNECT_S
        while True:
            try:
                return await self._try_to_connect()
            except psycopg.OperationalError as error:
                self._log.warning("database cannot be reached", reason=_words(error), again_in_s=round(wait_s, 1))
            await asyncio.sleep(wait_s * random.uniform(0.5, 1))  # noqa: S311
            wait_s = min(2 * wait_s, longest_s)

    async def _try_to_connect(self) -> Connection:
        connection = await psycopg.AsyncConnection.connect(
            self._conninfo,
            autocommit=True,
            application_name="outbox-worker identify",
            connect_timeout=5,
            client_encoding=ENCODING,
            options=options(self._conninfo, SETTINGS),
        )
        connection.adapters.register_loader("json", _AsItCame)
        return connection


async def _answer_together(
    statement: str, asked: asyncio.Queue[_Question], left: asyncio.Queue[_Question], connection: Connection
) -> None:
    """Answer all who wait by one statement, until the connection is lost; hand those on that it has no answer for."""
    cursor = _cursor(connection)
    while True:
        questions = [await asked.get()]
        while not asked.empty() and len(questions) < TOGETHER_MAX:
            questions.append(asked.get_nowait())
        try:
            values = [list(each) for each in zip(*(it.values for it in questions), strict=True)]
            await cursor.execute(statement, values, prepare=True)
            answers = dict(await cursor.fetchall())
        except psycopg.Error:
            # Whatever it was, each is asked again for itself, and told what there is to tell.
            answers = {}
        for place, question in enumerate(questions, 1):
            if place not in answers:
                left.put_nowait(question)
            elif not question.answer.done():
                question.answer.set_result(answers[place])
        if connection.closed:
            raise psycopg.OperationalError("the server closed it")


def _cursor(connection: Connection) -> psycopg.AsyncRawCursor[Any]:
    cursor = psycopg.AsyncRawCursor(connection)
    cursor.format = Format.BINARY
    return cursor


async def _require_version(connection: Connection) -> None:
    try:
        row = await (await connection.execute("select outbox.schema_version()")).fetchone()
    except (errors.InvalidSchemaName, errors.UndefinedFunction, errors.InsufficientPrivilege):
        row = None
    found = row[0] if row else "none that this role may use"
    if found != schema.VERSION:
        raise SchemaMismatch(
            f"database {connection.info.dbname!r} has version {found} of our schema; this outbox-worker works with "
            f"version {schema.VERSION}. Install it with `outbox-worker schema install`, and grant outbox_identify to "
            f"role {connection.info.user!r}."
        )


def _refuse(question: _Question, error: Exception) -> None:
    if question.answer.done():
        return
    if isinstance(error, errors.InvalidParameterValue):
        error = Unreadable("gives neither email nor phoneNumber; give at least one of them")
    elif isinstance(error, _LATER):
        error = DatabaseUnavailable(f"others hold what this needs: {_words(error)}")
    question.answer.set_exception(error)


def _words(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
