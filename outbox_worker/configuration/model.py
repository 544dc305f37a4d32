"""The settings: every section and key, its kind, its default. `systemd/outbox-worker.toml` explains them to people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import time, timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import Field, PrivateAttr, SecretStr

from outbox_worker.configuration.overrides import OperationSettings, Section
from outbox_worker.configuration.values import (
    Address,
    Bytes,
    Connections,
    Conninfo,
    Count,
    Days,
    Factor,
    HeaderName,
    Interval,
    LocalTime,
    Months,
    PageSize,
    Port,
    Portal,
    Prefix,
    Rate,
    Region,
    RequestRate,
    Retention,
    Scheme,
    Seconds,
    Share,
    SigningSecrets,
    Span,
    SyncInterval,
    Token,
    Tokens,
    Zone,
    is_loopback,
)
from outbox_worker.inboost import profile
from outbox_worker.inboost.operations import API, DEFAULT, HOOKS, Operation
from outbox_worker.logs import Format, Level, Part
from outbox_worker.records import OnDoubt
from outbox_worker.rules.matching import Winner
from outbox_worker.rules.schedule import Timetable

HOOK_ID_MIN = 12  # letters of a part of a hook's address that may be its id, and not a word
LanePolicy = Literal["continue", "wait"]


class Database(Section):
    """`[database]`: where the accounting database is."""

    url: Conninfo
    password: SecretStr | None = None
    password_file: Path | None = None

    @property
    def conninfo(self) -> str:
        """What libpq connects with, the password in it."""
        words = {} if self.password is None else {"password": self.password.get_secret_value()}
        return make_conninfo(self.url.get_secret_value(), **words)

    @property
    def has_password_in_url(self) -> bool:
        """Whether the url holds a password."""
        return "password" in conninfo_to_dict(self.url.get_secret_value())

    @property
    def server(self) -> str:
        """The same for people to read: host, port and database, no password."""
        words = conninfo_to_dict(self.url.get_secret_value())
        host, port = words.get("host") or words.get("hostaddr") or "local socket", words.get("port") or "5432"
        return f"{host}:{port}/{words.get('dbname') or words.get('user') or ''}"


class Hook(Section):
    """`[inboost.hooks.<name>]`: one incoming webhook of InBoost."""

    url: Address | None = Field(default=None, repr=False)  # its last part is all that protects a hook
    secrets: SigningSecrets = ()
    secrets_file: Path | None = None
    receiver_deduplicates: bool = False
    on_doubt: OnDoubt | None = None
    rate_max: Rate | None = None


class Hooks(Section):
    """`[inboost.hooks]`."""

    accrual: Hook = Hook()
    redemption: Hook = Hook()
    purchase: Hook = Hook()
    expiry: Hook = Hook()

    def by_destination(self) -> dict[str, Hook]:
        """Return the hooks under the names of their destinations."""
        return {destination: getattr(self, destination.removesuffix("_hook")) for destination in HOOKS}


class InBoost(Section):
    """`[inboost]`: the portal, how to speak to it, and how long to wait."""

    base_url: Portal | None = None
    token: Token | None = None
    token_file: Path | None = None
    token_header: HeaderName = "Authorize"  # noqa: S105
    token_scheme: Scheme = "Bearer"  # noqa: S105
    phone_region: Region = "UA"
    event_id_prefix: Prefix = ""
    request_timeout: Seconds = timedelta(seconds=10)
    connect_timeout: Seconds = timedelta(seconds=3)
    rate_max: Rate | None = None
    idle_connection_age: Seconds = timedelta(seconds=20)
    answer_excerpt_max: Bytes = 1000
    ca_file: Path | None = None
    allow_plain_http: bool = False
    hooks: Hooks = Hooks()
    operations: dict[str, OperationSettings] = Field(default_factory=dict)

    @property
    def authorization(self) -> str | None:
        """The header line that carries the token."""
        if self.token is None:
            return None
        words = filter(None, (self.token_scheme, self.token.get_secret_value()))
        return f"{self.token_header}: {' '.join(words)}"

    @property
    def rates(self) -> dict[str, float | None]:
        """How many requests a second each destination gets at most; None: as many as there are."""
        return {API: self.rate_max} | {name: hook.rate_max for name, hook in self.hooks.by_destination().items()}

    def applied_operations(self) -> dict[str, Operation]:
        """Return the table of operations with what is overridden in it."""
        unchanged = OperationSettings()
        table = {name: self.operations.get(name, unchanged).applied(row) for name, row in DEFAULT.items()}
        return {name: self._with_doubt_of_hook(row) for name, row in table.items()}

    def _with_doubt_of_hook(self, operation: Operation) -> Operation:
        hook = self.hooks.by_destination().get(operation.destination)
        if hook is None:
            return operation
        declared = OnDoubt.RESEND if hook.receiver_deduplicates else operation.on_doubt
        return replace(operation, on_doubt=hook.on_doubt or declared)


class Relay(Section):
    """`[relay]`: how much at once, and what a delivery in trouble means for those behind it."""

    slots: Count = 16
    poll_interval: Seconds = timedelta(seconds=5)
    read_ahead: Count = 20_000
    lane_read_ahead: Count = 64
    on_dead_letter: LanePolicy = "continue"
    on_hold: LanePolicy = "continue"

    @property
    def blocking_states(self) -> tuple[str, ...]:
        """The states of a delivery that hold up those behind it."""
        policies = {"dead": self.on_dead_letter, "held": self.on_hold}
        return "pending", "in_doubt", "waiting", *(state for state, policy in policies.items() if policy == "wait")


class Retry(Section):
    """`[retry]`: when a failed attempt is made again."""

    first: Seconds = timedelta(seconds=1)
    factor: Factor = 2.0
    longest: Seconds = timedelta(minutes=15)
    tries_max: Count = 20
    circuit_threshold: Count = 5

    @property
    def timetable(self) -> Timetable:
        """The waits between tries."""
        return Timetable(self.first, self.factor, self.longest, self.tries_max)


class CustomerSyncRound(Section):
    """`[rounds.customer_sync]`: how often customers are compared with InBoost's clients."""

    enabled: bool = True
    interval: SyncInterval = timedelta(minutes=15)


class ReconciliationRound(Section):
    """`[rounds.reconciliation]`: how often facts are held against events, and those of how long."""

    enabled: bool = True
    interval: Interval = timedelta(hours=1)
    window: Span = timedelta(days=3)


class ExpiryNoticeRound(Section):
    """`[rounds.expiry_notice]`: when customers are told of bonuses that will expire, and how long before."""

    enabled: bool = True
    at: LocalTime = time(10)
    horizon_days: Days = 7


class HousekeepingRound(Section):
    """`[rounds.housekeeping]`: when what is old is forgotten, and what is old."""

    enabled: bool = True
    at: LocalTime = time(3, 30)
    keep: Retention = timedelta(days=180)


class Rounds(Section):
    """`[rounds]`: work that comes every so often."""

    enabled: bool = True
    time_zone: Zone = ZoneInfo("Europe/Kyiv")
    customer_sync: CustomerSyncRound = CustomerSyncRound()
    reconciliation: ReconciliationRound = ReconciliationRound()
    expiry_notice: ExpiryNoticeRound = ExpiryNoticeRound()
    housekeeping: HousekeepingRound = HousekeepingRound()


class Winners(Section):
    """`[customers.winner]`: whose value is kept where InBoost and accounting differ, field by field."""

    phone: Winner = Winner.NEWEST
    first_name: Winner = Winner.NEWEST
    last_name: Winner = Winner.NEWEST
    birth_date: Winner = Winner.NEWEST
    source: Winner = Winner.NEWEST
    specialty: Winner = Winner.NEWEST


class Customers(Section):
    """`[customers]`: how InBoost's clients become customers of accounting."""

    history_months: Months = 3
    page_size: PageSize = 1_000
    overlap: Seconds = timedelta(minutes=5)
    change_share_max: Share = 0.2
    unknown_client: Literal["wait", "create"] = "wait"
    winner: Winners = Winners()

    @property
    def winners(self) -> dict[str, Winner]:
        """Who wins, by field."""
        return {name: getattr(self.winner, name) for name in Winners.model_fields}


class Web(Section):
    """`[web]`: metrics and health."""

    host: str = "127.0.0.1"
    port: Port = 9464


class Identify(Section):
    """`[identify]`: what `outbox-worker web` serves, and to whom."""

    host: str = "127.0.0.1"
    port: Port = 9480
    monitoring_port: Port = 9481
    tokens: Tokens = ()
    tokens_file: Path | None = None
    connections: Connections = 8
    body_max: Bytes = 16_384
    requests_per_second: RequestRate = 1000

    @property
    def is_for_this_machine(self) -> bool:
        """Whether nobody elsewhere can call."""
        return is_loopback(self.host)


class Log(Section):
    """`[log]`."""

    format: Format = "auto"
    level: Level = "info"
    levels: dict[Part, Level] = Field(default_factory=dict)


class Configuration(Section):
    """All settings, checked. Made by `configuration.load`; nothing in it changes afterwards."""

    database: Database
    inboost: InBoost = InBoost()
    relay: Relay = Relay()
    retry: Retry = Retry()
    rounds: Rounds = Rounds()
    customers: Customers = Customers()
    web: Web = Web()
    identify: Identify = Identify()
    log: Log = Log()
    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed and unwise, in sentences, to be logged once logging is set up."""
        return self._warnings

    @property
    def secrets(self) -> list[str]:
        """Everything that must never be shown: token, passwords, signing secrets, what protects a hook's address."""
        hooks = self.inboost.hooks.by_destination().values()
        given = [self.database.password, self.inboost.token, *self.identify.tokens]
        given += [secret for hook in hooks for secret in hook.secrets]
        words = conninfo_to_dict(self.database.url.get_secret_value())
        return [
            *(secret.get_secret_value() for secret in given if secret is not None),
            *(str(word) for name, word in words.items() if "pass" in name),
            *(part for hook in hooks for part in urlsplit(hook.url or "").path.split("/") if len(part) >= HOOK_ID_MIN),
        ]

    def warned(self, warnings: Sequence[str]) -> Configuration:
        """Return the same settings with warnings about them."""
        copy = self.model_copy()
        copy._warnings = tuple(warnings)
        return copy

    def profile(self) -> profile.Profile:
        """Return the InBoost profile with everything that is overridden in it."""
        hooks = {
            destination: profile.Hook(hook.url, tuple(secret.get_secret_value() for secret in hook.secrets))
            for destination, hook in self.inboost.hooks.by_destination().items()
            if hook.url is not None
        }
        return profile.Profile(
            operations=self.inboost.applied_operations(),
            base_url=self.inboost.base_url,
            authorization=self.inboost.authorization,
            hooks=hooks,
            phone_region=self.inboost.phone_region,
            event_id_prefix=self.inboost.event_id_prefix,
        )
