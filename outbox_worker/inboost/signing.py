"""Signatures of webhooks, as Standard Webhooks defines them (www.standardwebhooks.com, specification 1.0.0).

The receiver checks that a request is ours, fresh and whole. During a rotation two secrets are live: the header
then carries both signatures, so that the receiver may change over at any moment.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook

from outbox_worker.errors import ConfigurationError

PREFIX = "whsec_"
SECRETS_MAX = 2  # the one in use and the one that replaces it
_KEY_SIZES = range(24, 65)  # bytes, by the specification


class Signer:
    """Signs for one hook.

    Raises ConfigurationError when a secret is not one, without showing it.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        if not 1 <= len(secrets) <= SECRETS_MAX:
            raise ConfigurationError(
                f"a hook has one signing secret, or two during a rotation; here are {len(secrets)}"
            )
        self._webhooks = tuple(Webhook(key_of(secret)) for secret in secrets)

    def headers(self, identifier: str, now: datetime, body: bytes) -> tuple[str, str, str]:
        """Return the three header lines. `identifier` is what the receiver deduplicates by, exactly as it is sent."""
        moment = now.astimezone(UTC)  # the library takes any other zone's clock for UTC's
        text = body.decode()
        signatures = " ".join(webhook.sign(identifier, moment, text) for webhook in self._webhooks)
        return (
            f"webhook-id: {identifier}",
            f"webhook-timestamp: {int(moment.timestamp())}",
            f"webhook-signature: {signatures}",
        )


def key_of(secret: str) -> bytes:
    """Return the key of a `whsec_…` secret.

    The library decodes leniently, so that a mistyped secret would sign with a wrong key: every request refused, and
    nobody told why. Raises ConfigurationError.
    """
    encoded = secret.removeprefix(PREFIX)
    if encoded == secret:
        raise ConfigurationError(f"a signing secret begins with {PREFIX}; copy it whole from the receiver's settings")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigurationError(
            f"a signing secret is base64 after {PREFIX}, and this one is not: was it cut, or does it hold a space?"
        ) from None
    if len(key) not in _KEY_SIZES:
        raise ConfigurationError(f"a signing secret holds 24 to 64 bytes, and this one {len(key)}: was it cut?")
    return key
