"""What an operator may see of a customer: phones masked in everything that is shown, unless --reveal was said.

Numbers keep the scale that accounting gave them. What looks like a secret stays hidden either way.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from outbox_worker import logs
from outbox_worker.rules.phones import mask

Value = Any  # what JSON can hold

_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode
_UNREADABLE = (msgspec.MsgspecError, RecursionError, ValueError)


class Screen:
    """What stands between a text and the reader. `reveals` shows phones as they are."""

    def __init__(self, *, reveals: bool) -> None:
        self._clean: Callable[[str], str] = str if reveals else logs.clean
        self.reveals = reveals

    def text(self, text: str) -> str:
        """Return a free text."""
        return self._clean(text)

    def maybe(self, text: str | None) -> str | None:
        """Return a free text, or nothing."""
        return None if text is None else self._clean(text)

    def value(self, document: str) -> Value:
        """Return JSON as a value; what cannot be read comes as text."""
        try:
            value = _decode(document)
        except _UNREADABLE:
            return self._clean(document)
        return value if self.reveals else self._masked(value, "")

    def _masked(self, value: Value, key: str) -> Value:
        if isinstance(value, dict):
            return {name: self._masked(it, name) for name, it in value.items()}
        if isinstance(value, list):
            return [self._masked(it, key) for it in value]
        if "phone" in key.lower() and isinstance(value, str | int) and not isinstance(value, bool):
            return mask(str(value))
        return self._clean(value) if isinstance(value, str) else value


def encoded(value: Value) -> str:
    """Return a value as JSON text."""
    return _encode(value).decode()
