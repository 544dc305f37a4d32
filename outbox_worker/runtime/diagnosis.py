"""Doctor's rounds: looks at everything in turn, and goes on where something cannot be looked at.

Nothing is changed, and nothing is sent but one look-up of a client that cannot exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from outbox_worker.database import diagnosis as seen
from outbox_worker.database import reconciliation
from outbox_worker.database.diagnosis import Sample
from outbox_worker.database.engine import engine, explained, session, transaction
from outbox_worker.database.reconciliation import Window
from outbox_worker.errors import DatabaseUnavailable, OutboxWorkerError, SchemaMismatch
from outbox_worker.inboost.client import Answer, Client, unresolved
from outbox_worker.inboost.profile import Profile
from outbox_worker.records import Evidence, Request
from outbox_worker.rules import diagnosis as judge
from outbox_worker.rules import mapping
from outbox_worker.rules.diagnosis import Finding, Level, fail, well

NAME = "outbox-worker doctor"
STATEMENT_S_MAX = 20.0
RECENT = timedelta(hours=1)
GRACE = timedelta(seconds=5)
HELD_MAX = timedelta(minutes=5)
NOBODY = "+999000000000000"  # no country has the code 999
DATE_GRAIN = timedelta(seconds=1)  # of the header

T = TypeVar("T")
Found = Finding | Iterable[Finding]


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined, as the configuration has it. `hooks` are the addresses in use, by destination."""

    conninfo: str
    profile: Profile
    base_url: str | None
    hooks: dict[str, str]
    request_timeout: timedelta


class Examination:
    """Makes the checks; each gives its findings, and one that cannot be made is a finding too."""

    def __init__(self, patient: Patient, client: Client) -> None:
        self._patient = patient
        self._client = client
        self._engine = engine(patient.conninfo, application_name=NAME, statement_timeout_s=STATEMENT_S_MAX)
        self._views: frozenset[str] = frozenset()

    def findings(self) -> Iterator[Finding]:
        """Make all checks but that of the samples."""
        yield from self._database()
        yield from self._inboost()

    def samples(self) -> Sequence[Sample]:
        """Return the latest fact of each kind; none where the mapping is not whole."""
        if not self._has("fact", "bonus_balance_event"):
            return []
        try:
            return self._ask(seen.samples)
        except OutboxWorkerError:
            return []  # what is wrong with the view has been told

    # The database

    def _database(self) -> Iterator[Finding]:
        reached = self._reach()
        yield reached
        if reached.level is Level.FAIL:
            return
        for check, make in self._checks():
            yield from _guarded(check, make)

    def _reach(self) -> Finding:
        try:
            with session(self._patient.conninfo, NAME) as connection:
                return well("database", f"PostgreSQL {seen.version(connection)} answers, its schema outbox is ours")
        except DatabaseUnavailable as error:
            return judge.judge_refused_connection(str(error))
        except SchemaMismatch as error:
            return fail("database", str(error))

    def _checks(self) -> Iterator[tuple[str, Callable[[], Found]]]:
        yield "role", lambda: judge.judge_role(self._ask(seen.role))
        yield "session", lambda: judge.judge_session(seen.session(self._patient.conninfo))
        yield "doorbell", lambda: judge.judge_prepared(self._ask(seen.max_prepared_transactions))
        yield "mapping", self._mapping
        yield "triggers", lambda: mapping.judge_triggers(self._ask(seen.triggers))
        yield "bypass", lambda: judge.judge_bypasses(*self._ask(seen.bypasses))
        if self._has("fact", "bonus_balance_event"):
            yield "events", self._events
        if self._has("fact"):
            yield "facts", lambda: mapping.judge_facts(self._ask(seen.facts))
        if self._has("customer"):
            yield "phones", self._phones
        yield "captures", lambda: judge.judge_failures(*self._ask(seen.capture_failures))
        yield "orders", lambda: judge.judge_unidentified(self._ask(seen.unidentified))
        yield "routes", lambda: judge.judge_routes(self._ask(seen.routes), self._patient.profile.deliveries)
        yield "clock", self._clock
        yield "snapshots", self._snapshots
        yield "autovacuum", lambda: judge.judge_autovacuum(*self._ask(seen.autovacuum))

    def _mapping(self) -> Iterator[Finding]:
        columns = self._ask(seen.columns)
        self._views = frozenset(column.view for column in columns)
        yield from mapping.judge_views(columns)
        yield from mapping.judge_functions(self._ask(seen.functions))

    def _events(self) -> Iterator[Finding]:
        now = self._ask(reconciliation.now)
        window = Window(now - RECENT, now - GRACE)
        missing = [
            (it.kind, it.fact_count, it.fact_count - it.known_count) for it in self._ask(reconciliation.count, window)
        ]
        account_count, suspects = self._ask(reconciliation.suspects, window)
        changed = self._ask(reconciliation.missing_balances, suspects) if suspects else []
        missing.append((reconciliation.BALANCE, account_count, len(changed)))
        return judge.judge_missing(missing, RECENT)

    def _phones(self) -> Finding:
        return mapping.judge_phones(self._ask(seen.phones), self._patient.profile.phone_region)

    def _snapshots(self) -> Iterator[Finding]:
        holders, hidden_count = self._ask(seen.holders, HELD_MAX)
        return judge.judge_holders(holders, hidden_count, self._ask(seen.role).name)

    def _clock(self) -> Finding:
        with transaction(self._engine) as connection:
            before = datetime.now(UTC)
            theirs = reconciliation.clock(connection)
            after = datetime.now(UTC)
        return judge.judge_clock("the database's", before, theirs, after, timedelta(0))

    def _has(self, *views: str) -> bool:
        return self._views.issuperset(views)

    def _ask(self, function: Callable[..., T], *arguments: Any) -> T:
        with explained(), transaction(self._engine) as connection:
            return function(connection, *arguments)

    # InBoost

    def _inboost(self) -> Iterator[Finding]:
        request = self._question()
        if request is None:
            yield well("inboost", "nothing of InBoost's API is in use that could be asked")
        else:
            yield from _guarded("inboost", lambda: self._judge_answer(self._client.read(request)))
        yield from judge.judge_hosts({name: unresolved(url) for name, url in self._patient.hooks.items()})

    def _question(self) -> Request | None:
        profile = self._patient.profile
        if self._patient.base_url is None:
            return None
        if profile.operations["find_client"].enabled:
            return profile.call("find_client", {"phone": NOBODY})
        return profile.call("list_clients", {"limit": 1}) if profile.operations["list_clients"].enabled else None

    def _judge_answer(self, answer: Answer) -> Iterator[Finding]:
        after = datetime.now(UTC)
        exchange = answer.exchange
        yield judge.judge_token(exchange.status, exchange.error)
        if exchange.evidence is not Evidence.ANSWERED:
            return
        took = timedelta(microseconds=exchange.took_us)
        yield judge.judge_answer_time(took, self._patient.request_timeout)
        if answer.date is not None:
            yield judge.judge_clock("InBoost's", after - took, answer.date, after, DATE_GRAIN)


def _guarded(check: str, make: Callable[[], Found]) -> list[Finding]:
    try:
        with explained():
            found = make()
            return [found] if isinstance(found, Finding) else list(found)
    except OutboxWorkerError as error:
        return [fail(check, f"this could not be looked at: {error}")]
