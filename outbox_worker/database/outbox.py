"""The relay's half of the outbox: one connection, one round trip for a whole turn.

A turn concludes what is over, claims what will be sent at once, and looks for more. Its statements go out together and
PostgreSQL runs them as one transaction: all of it is durable, or none of it is.

What a crash leaves, line by line:
    before the turn commits     nothing has happened: what was over is concluded again or taken over as in doubt;
                                what was to be claimed is still pending
    after it commits            what was over is concluded; what was claimed has a claim row and was perhaps sent:
                                whoever finds the claim older than the request time-out treats it as in doubt
    during the commit           one of the two; a worker that lives on releases, when it is back, the claims that it
                                knows nothing of (it never sent them) and concludes again (the fence makes that
                                harmless)
    after it was undone         (a deadlock that PostgreSQL broke at our expense) the same as before it commits: the
                                claims of what was over stand, nothing new was claimed, so nothing new is sent. Only
                                the doorbell's lock, which is the session's, outlives the transaction: `begin_again`
                                lets it go before it is asked for once more, for it would be held twice

Locks, in this order: claim rows of concluded lanes, their delivery rows, destination rows, delivery rows to be claimed
(those locked by others are skipped), new claim rows. No statement waits for a lock that accounting holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any

import psycopg

from outbox_worker.database import encoding, schema, statements
from outbox_worker.database.options import ENCODING, options
from outbox_worker.database.pipeline import Pipeline, Statement
from outbox_worker.database.turns import Answer, Terms, Turn
from outbox_worker.errors import DatabaseUnavailable, TurnRefused, TurnUndone
from outbox_worker.records import Claim

CHANNEL = "outbox"
TAKE_OVER_MAX = 100
CONNECT_TIMEOUT_S = 5

# The statements are planned once, for tables whose statistics say nothing true for longer than a moment: by index,
# always. Durability is not the host's default to relax: a claim that is forgotten is a request sent twice. Nor is
# isolation: the look that follows the arming of the doorbell must see what was committed just before it was armed.
SETTINGS = {
    "synchronous_commit": "on",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_material": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    "lock_timeout": "5s",
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "60s",
}
KEEPALIVE = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10000,
}
# All of these pass by themselves. A server that has become a standby is one: after a fail-over the URL leads elsewhere.
PASSING = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction)
# The server rolled the transaction back and says that the same again will do; the connection stands.
UNDONE = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)


class Outbox:
    """The relay's connection. After a DatabaseUnavailable it is to be made anew by `connect`."""

    def __init__(self, conninfo: str, terms: Terms) -> None:
        self.rang = False  # the doorbell; whoever heeds it sets it back
        self._conninfo = conninfo
        self._terms = terms
        self._connection: psycopg.Connection[Any] | None = None
        self._pipeline: Pipeline | None = None
        self._turn: Turn | None = None
        self._prepared: tuple[Turn | None, list[Statement]] = None, []
        self._lost_pid = 0

    def connect(self, known: Iterable[int]) -> None:
        """Connect, waiting for it: `open` and `adopt`."""
        self.adopt(self.open(known))

    def adopt(self, connection: psycopg.Connection[Any]) -> None:
        """Use what `open` returned from now on."""
        self.close()
        connection.add_notify_handler(self._hear_bell)
        self._connection, self._pipeline = connection, Pipeline(connection)
        self._lost_pid = connection.info.backend_pid

    def open(self, known: Iterable[int]) -> psycopg.Connection[Any]:
        """Make a connection, and release the claims of this worker that it never heard of; `known` are the others' ids.

        Changes nothing here, so that a thread may do it while nothing else is asked of the database. Raises
        DatabaseUnavailable when the server cannot be reached, SchemaMismatch when the schema is not ours.
        """
        worker, operations = self._terms.worker, list(self._terms.operations)
        name = f"outbox-worker {worker}"
        with ExitStack() as failure, _explained():
            connection = psycopg.connect(
                self._conninfo,
                autocommit=True,
                application_name=name,
                client_encoding=ENCODING,
                options=options(self._conninfo, SETTINGS),
                connect_timeout=CONNECT_TIMEOUT_S,
                **KEEPALIVE,  # type: ignore[arg-type]  # libpq's own parameters
            )
            failure.callback(connection.close)
            schema.require_version(connection)
            # What is left of our last session must neither commit after this nor make this wait.
            connection.execute(statements.END_SESSION, (self._lost_pid, name))
            connection.execute(statements.RELEASE, (worker, list(known)))
            connection.execute(statements.ENABLE_ROUTES, (operations, operations))
            rates = self._terms.rates
            connection.execute(statements.SET_RATES, (list(rates), list(rates.values())))
            connection.execute(f"listen {CHANNEL}")
            failure.pop_all()
        return connection

    def close(self) -> None:
        """Close the connection; what it held, it lets go."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._pipeline = self._turn = None
        self.rang = False

    def fileno(self) -> int:
        """Return the socket's file descriptor: readable when there is an answer, a ring, or a lost connection."""
        return self._opened.fileno()

    @property
    def is_asked(self) -> bool:
        """Whether a turn is under way."""
        return self._turn is not None

    def prepare(self, turn: Turn) -> None:
        """Make ready what `begin` will send of this turn, while there is time."""
        self._prepared = turn, encoding.statements_of(turn, self._terms)

    def begin(self, turn: Turn) -> None:
        """Send a turn off; `answer` brings what comes of it."""
        self._turn = turn
        prepared, batch = self._prepared
        if prepared is not turn:
            batch = encoding.statements_of(turn, self._terms)
        with _explained():
            self._piped.send(batch)

    def begin_again(self, turn: Turn) -> None:
        """Send a turn off once more that was undone."""
        turn.disarm = turn.disarm or turn.arm
        self.begin(turn)

    def answer(self) -> Answer | None:
        """Read what the socket holds: the answer to the turn, if it is whole; whether the doorbell rang.

        Raises DatabaseUnavailable; then it is not known whether the turn took effect, and it is to be made again. With
        TurnRefused and TurnUndone it had none; after the latter the connection may be used.
        """
        with _explained():
            rows = self._piped.receive()
        while self._opened.pgconn.notifies():
            self.rang = True
        if rows is None or self._turn is None:
            return None
        turn, self._turn = self._turn, None
        return encoding.answer_of(turn, rows)

    def can_ring(self) -> bool:
        """Tell whether the doorbell works here: it is silent where transactions can be prepared."""
        return bool(self._ask("select current_setting('max_prepared_transactions') = '0'")[0][0])

    def somebody_sleeps(self) -> bool:
        """Tell whether another relay sleeps at the doorbell, so that every writer rings for all."""
        return bool(self._ask(statements.SOMEBODY_SLEEPS, (encoding.DOORBELL, encoding.DOORBELL))[0][0])

    def take_over(self, older_than_s: float, but: Iterable[int]) -> list[tuple[Claim, datetime]]:
        """Take claims over whose workers must be gone, in other lanes than these; return each with when it was claimed.

        The oldest come first, a hundred at most.
        """
        parameters = (older_than_s, list(but), TAKE_OVER_MAX)
        return [(encoding.claim_of(row[:-1]), row[-1]) for row in self._ask(statements.TAKE_OVER, parameters)]

    def _hear_bell(self, notify: psycopg.Notify) -> None:
        self.rang = True

    def _ask(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a seldom statement, waiting for its answer; not while a turn is under way."""
        with _explained():
            return self._opened.execute(statement, parameters).fetchall()

    @property
    def _opened(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            raise DatabaseUnavailable("there is no connection to the database")
        return self._connection

    @property
    def _piped(self) -> Pipeline:
        if self._pipeline is None:
            raise DatabaseUnavailable("there is no connection to the database")
        return self._pipeline


@contextmanager
def _explained() -> Iterator[None]:
    """Tell what passes by itself from what the database has against what it is asked."""
    try:
        yield
    except UNDONE as error:
        raise TurnUndone(str(error).strip()) from None
    except PASSING as error:
        raise DatabaseUnavailable(str(error).strip()) from None
    except psycopg.Error as error:
        raise TurnRefused(str(error).strip()) from error
