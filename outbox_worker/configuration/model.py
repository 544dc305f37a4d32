"""The settings: every section and key, its kind, its default, and what it is for.

The text below a key is for people: `documentation` makes the example of a configuration file of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import time, timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import Field, PrivateAttr, SecretStr

from outbox_worker.configuration.overrides import NEEDED, Section
from outbox_worker.configuration.portal import InBoost
from outbox_worker.configuration.values import (
    Bytes,
    Connections,
    Conninfo,
    Count,
    Days,
    Factor,
    Interval,
    LocalTime,
    Months,
    PageSize,
    Port,
    RequestRate,
    Retention,
    Seconds,
    Share,
    Span,
    SyncInterval,
    Tokens,
    Zone,
    is_loopback,
)
from outbox_worker.inboost import profile
from outbox_worker.logs import Format, Level, Part
from outbox_worker.rules.matching import Winner
from outbox_worker.rules.schedule import Timetable

HOOK_ID_MIN = 12  # letters of a part of a hook's address that may be its id, and not a word
LanePolicy = Literal["continue", "wait"]


class Database(Section):
    """`[database]`: the accounting database."""

    url: Conninfo = Field(examples=['"postgresql://outbox_worker@localhost/accounting"'], json_schema_extra=NEEDED)
    """Where the accounting database is: a URL of libpq or its key=value pairs; sockets, sslmode and so on as libpq has
    them."""
    password: SecretStr | None = Field(default=None, examples=['"…"'])
    """Better in a file or a credential than in the url."""
    password_file: Path | None = Field(default=None, examples=['"database_password"'])
    """The file that holds it."""

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


class Relay(Section):
    """`[relay]`: how much at once, and what a delivery in trouble means for those behind it."""

    slots: Count = 16
    """Requests in flight at once at each destination (the API, each hook). Each has its own, so one that is slow or
    silent takes nothing from the others."""
    poll_interval: Seconds = timedelta(seconds=5)
    """New events ring a bell; should a ring be lost, they are found after this time."""
    read_ahead: Count = 20_000
    """Deliveries known in memory at each destination."""
    lane_read_ahead: Count = 64
    """Of these, of one customer."""
    on_dead_letter: LanePolicy = "continue"
    """Whether a customer's later deliveries go on past one that was given up: "continue" or "wait"."""
    on_hold: LanePolicy = "continue"
    """The same for one that is in doubt and held for a person."""

    @property
    def blocking_states(self) -> tuple[str, ...]:
        """The states of a delivery that hold up those behind it."""
        policies = {"dead": self.on_dead_letter, "held": self.on_hold}
        return "pending", "in_doubt", "waiting", *(state for state, policy in policies.items() if policy == "wait")


class Retry(Section):
    """`[retry]`: when a failed attempt is made again."""

    first: Seconds = timedelta(seconds=1)
    """The wait after the first failed try. It grows from here, and each wait is shortened by chance, so that what
    failed together does not come back together."""
    factor: Factor = 2.0
    """By how much each wait is longer than the one before."""
    longest: Seconds = timedelta(minutes=15)
    """The longest wait."""
    tries_max: Count = 20
    """After so many tries a person is asked. A destination that cannot be reached, throttles or refuses the token costs
    a delivery none of them."""
    circuit_threshold: Count = 5
    """After so many failures in a row a destination gets one request at a time until it answers one."""

    @property
    def timetable(self) -> Timetable:
        """The waits between tries."""
        return Timetable(self.first, self.factor, self.longest, self.tries_max)


class CustomerSyncRound(Section):
    """`[rounds.customer_sync]`: how often customers are compared with InBoost's clients."""

    enabled: bool = True
    """false: this worker does not make it."""
    interval: SyncInterval = timedelta(minutes=15)
    """From 10m to 30m."""


class ReconciliationRound(Section):
    """`[rounds.reconciliation]`: how often facts that no event tells of are recorded; see `outbox-worker reconcile`."""

    enabled: bool = True
    """false: this worker does not make it."""
    interval: Interval = timedelta(hours=1)
    """From 5m to 1d."""
    window: Span = timedelta(days=3)
    """Facts of how long."""


class ExpiryNoticeRound(Section):
    """`[rounds.expiry_notice]`: when InBoost is told whose bonuses will expire.

    One request has all phones; nobody is told twice of the same bonuses.
    """

    enabled: bool = True
    """false: this worker does not make it."""
    at: LocalTime = time(10)
    """When, by the shop's clocks."""
    horizon_days: Days = 7
    """What expires today is meant, and what does up to so many days later."""


class HousekeepingRound(Section):
    """`[rounds.housekeeping]`: when what is old is forgotten. What was not delivered stays, however old."""

    enabled: bool = True
    """false: this worker does not make it."""
    at: LocalTime = time(3, 30)
    """When, by the shop's clocks."""
    keep: Retention = timedelta(days=180)
    """At least 120d. Of an older event its name is kept, so that the same fact is never sent again."""


class Rounds(Section):
    """`[rounds]`: work that comes every so often, in a process beside the relay.

    Of several workers one runs a round at a time, whichever finds it due. `outbox-worker rounds list` shows them.
    """

    enabled: bool = True
    """false: this worker only delivers."""
    time_zone: Zone = ZoneInfo("Europe/Kyiv")
    """The shop's: what time it is there, and what date."""
    customer_sync: CustomerSyncRound = CustomerSyncRound()
    reconciliation: ReconciliationRound = ReconciliationRound()
    expiry_notice: ExpiryNoticeRound = ExpiryNoticeRound()
    housekeeping: HousekeepingRound = HousekeepingRound()


class Winners(Section):
    """`[customers.winner]`: whose value is kept where both sides have one and they differ.

    "inboost", "accounting", or "newest", the one that was changed last (where one side does not know, accounting's). An
    empty value never replaces a filled one.
    """

    phone: Winner = Winner.NEWEST
    first_name: Winner = Winner.NEWEST
    last_name: Winner = Winner.NEWEST
    birth_date: Winner = Winner.NEWEST
    source: Winner = Winner.NEWEST
    specialty: Winner = Winner.NEWEST


class Customers(Section):
    """`[customers]`: how InBoost's clients become customers of accounting."""

    history_months: Months = 3
    """When a client is linked with a customer, the purchases of so many months are sent to InBoost, and the balance.
    The months begin at midnight in [rounds] time_zone."""
    page_size: PageSize = 1_000
    """So many clients are asked for at once."""
    overlap: Seconds = timedelta(minutes=5)
    """Each run reads again what was updated in so many seconds before the last one, for clocks differ and clients
    change while we read. A client that comes again as it was costs nothing."""
    change_share_max: Share = 0.2
    """A run that would create or change more than this part of all customers (and more than 100) stops, until a person
    has looked and says `outbox-worker customers sync --force`."""
    unknown_client: Literal["wait", "create"] = "wait"
    """What becomes of deliveries for a client that InBoost does not know: they "wait" until it does; or the worker
    looks every 20 seconds and has it "create" the client, from accounting."""
    winner: Winners = Winners()

    @property
    def winners(self) -> dict[str, Winner]:
        """Who wins, by field."""
        return {name: getattr(self.winner, name) for name in Winners.model_fields}


class Web(Section):
    """`[web]`: metrics and health."""

    host: str = "127.0.0.1"
    """Where they are served."""
    port: Port = 9464
    """0 takes a free one."""


class Identify(Section):
    """`[identify]`: `outbox-worker web`, a process of its own: POST /identify, /openapi.json.

    Give it a database role of its own, one that has outbox_identify: OUTBOX_WORKER__DATABASE__URL in its unit. Phones
    are read with phone_region of [inboost].
    """

    host: str = "127.0.0.1"
    """Where it is served."""
    port: Port = 9480
    """0 takes a free one."""
    monitoring_port: Port = 9481
    """Where its metrics and health are, at the same host."""
    tokens: Tokens = ()
    """One for each caller, 16 characters at least: Authorization: Bearer <token>. Without any, everybody on this
    machine may ask; for another host there must be one."""
    tokens_file: Path | None = Field(default=None, examples=['"identify_tokens"'])
    """The file that holds them, one on each line."""
    connections: Connections = 8
    """Connections to the database for what waits for others, as a join of clusters does. Two more answer what is known,
    and add what is new."""
    body_max: Bytes = 16_384
    """Bytes of a request's body."""
    requests_per_second: RequestRate = 1000
    """Of each address; 0: any number. Behind a proxy all come from its address."""

    @property
    def is_for_this_machine(self) -> bool:
        """Whether nobody elsewhere can call."""
        return is_loopback(self.host)


class Log(Section):
    """`[log]`: what is logged, and how; to the standard error."""

    format: Format = "auto"
    """"json", "console" (for people), or "auto": console on a terminal, json otherwise."""
    level: Level = "info"
    """"debug", "info", "warning", "error" or "critical"."""
    levels: dict[Part, Level] = Field(default_factory=dict)
    """Parts may have a level of their own, as { relay = "warning" }: relay (a line for each attempt), rounds, web,
    libraries."""


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
