"""The settings about InBoost: the portal, its webhooks, how to speak to them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from pydantic import Field

from outbox_worker.configuration.overrides import NEEDED, OperationSettings, Section
from outbox_worker.configuration.values import (
    Address,
    Bytes,
    HeaderName,
    Portal,
    Prefix,
    Rate,
    Region,
    Scheme,
    Seconds,
    SigningSecrets,
    Token,
)
from outbox_worker.inboost.operations import API, DEFAULT, HOOKS, Operation
from outbox_worker.records import OnDoubt


class Hook(Section):
    """`[inboost.hooks.<name>]`: one incoming webhook of InBoost."""

    url: Address | None = Field(
        default=None,
        repr=False,
        examples=['"https://portal.inboost.ai/api/webhok/{name}-hook-id/"'],
        json_schema_extra=NEEDED,
    )
    """The whole URL, pasted. Its last part is all that protects the hook: keep it secret."""
    secrets: SigningSecrets = ()
    """Sign each request as Standard Webhooks has it (whsec_…, base64 of 24 to 64 bytes). Two while one replaces the
    other: each request then carries both signatures."""
    secrets_file: Path | None = Field(default=None, examples=['"hook_{name}_secret"'])
    """The file that holds them, one on each line."""
    receiver_deduplicates: bool = False
    """When an answer is lost, nobody knows whether the hook acted. true, if the receiver ignores an eventId that it has
    had before: then the request is sent again. Otherwise the delivery is held for a person to decide."""
    on_doubt: OnDoubt | None = Field(default=None, examples=['"hold"'])
    """The same said directly: "resend" (only where the receiver deduplicates) or "hold". Unset, it follows from the
    above."""
    rate_max: Rate | None = Field(default=None, examples=["10"])
    """How many requests a second this hook gets at most, of all workers together. Unset: as many as there are."""


class Hooks(Section):
    """`[inboost.hooks]`: the incoming webhooks of InBoost.

    One that you do not use is switched off by its operation: [inboost.operations.expiry_webhook] enabled = false.
    """

    accrual: Hook = Hook()
    redemption: Hook = Hook()
    purchase: Hook = Hook()
    expiry: Hook = Hook()

    def by_destination(self) -> dict[str, Hook]:
        """Return the hooks under the names of their destinations."""
        return {destination: getattr(self, destination.removesuffix("_hook")) for destination in HOOKS}


class InBoost(Section):
    """`[inboost]`: the portal, how to speak to it, and how long to wait."""

    base_url: Portal | None = Field(default=None, examples=['"https://portal.inboost.ai"'], json_schema_extra=NEEDED)
    """Your portal, without a path."""
    token: Token | None = Field(default=None, examples=['"…"'])
    """What the portal gave you to speak to its API. Better in a file or a credential than here."""
    token_file: Path | None = Field(default=None, examples=['"inboost_token"'])
    """The file that holds it."""
    token_header: HeaderName = "Authorize"  # noqa: S105
    """How the token travels: "Authorize: Bearer <token>". Some portals want "Authorization". It goes to the portal
    only, never to hooks."""
    token_scheme: Scheme = "Bearer"  # noqa: S105
    """The word before the token; "" sends the token alone."""
    phone_region: Region = "UA"
    """The country (ISO 3166) whose phone numbers accounting writes without a country code."""
    event_id_prefix: Prefix = ""
    """Put before every event id, so that two accounting databases can share one portal: "shop2-". Letters, digits, .
    _ : -"""
    request_timeout: Seconds = timedelta(seconds=10)
    """For a whole request, from connecting to the last byte of the answer. After it the delivery is in doubt."""
    connect_timeout: Seconds = timedelta(seconds=3)
    """For name look-up, connecting and TLS. What fails within it was certainly not sent."""
    rate_max: Rate | None = Field(default=None, examples=["50"])
    """How many requests a second the API gets at most, of all workers together: evenly, nothing is saved up for later.
    Unset: as many as there are. Each hook has its own. Of several workers' settings that of the last one to connect
    holds."""
    idle_connection_age: Seconds = timedelta(seconds=20)
    """Idle connections are closed at this age. It must be less than the receiver's keep-alive time, or requests meet
    connections that are just being closed, and each of those is in doubt."""
    answer_excerpt_max: Bytes = 1000
    """How many bytes of each answer are kept in the journal."""
    ca_file: Path | None = Field(default=None, examples=['"inboost-ca.pem"'])
    """Certificates to trust instead of the system's (PEM)."""
    allow_plain_http: bool = False
    """http:// to another machine lets everybody on the way read customers' data: refused unless this is true."""
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
