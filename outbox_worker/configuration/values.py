"""The kinds of values that settings have, each with the sentence that refuses a wrong one.

The sentences follow the name of the setting ("inboost.phone_region: is not…"), and never repeat what was given where
that could be a secret.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from datetime import time, timedelta
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, SecretStr

from outbox_worker.errors import ConfigurationError
from outbox_worker.inboost.profile import Template
from outbox_worker.inboost.signing import SECRETS_MAX, key_of
from outbox_worker.rules import timetable
from outbox_worker.rules.phones import is_region

_SECONDS_MAX = 86_400
TOKEN_LENGTH_MIN = 16
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2: token
_HEADERS_OF_OURS = {"content-type", "content-length", "transfer-encoding", "host", "user-agent", "idempotency-key"}
_LOCAL_TIME = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d")
_PREFIX = re.compile(r"[A-Za-z0-9._:-]{0,64}")


def _seconds(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number <= _SECONDS_MAX:
        raise ValueError(f"must be a number of seconds, above 0 and up to {_SECONDS_MAX}")
    return timedelta(seconds=number)


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")  # noqa: TRY004  what pydantic takes for a refusal
    return value


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        well_formed = bool(parts.hostname) and parts.port != 0
    except ValueError:
        well_formed = False
    if not well_formed or parts.scheme not in {"http", "https"}:
        raise ValueError("must be a whole URL with its host, like https://portal.inboost.ai")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("holds a space, a line break or a letter beyond ASCII; write those percent-encoded")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user name or password; they would be seen in logs")
    if parts.fragment:
        raise ValueError("must not hold a fragment (#…); it would never be sent")
    return parts


def _portal(url: str) -> str:
    parts = _split(url)
    if parts.path not in {"", "/"} or parts.query or "?" in url:
        raise ValueError(
            f"must end after the host ({parts.scheme}://{parts.netloc}); "
            "paths are set by operation, as [inboost.operations.add_purchase] path"
        )
    return f"{parts.scheme}://{parts.netloc}"


def _address(url: str) -> str:
    _split(url)
    return url


def is_plain_to_elsewhere(url: str) -> bool:
    """Tell whether a checked URL would carry secrets unencrypted off this machine."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine, and cannot be reached from another."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _token(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("is empty, or holds a space, a line break or a letter beyond ASCII; was it copied whole?")
    return secret


def _long_enough(tokens: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    if any(len(token.get_secret_value()) < TOKEN_LENGTH_MIN for token in tokens):
        raise ValueError(f"holds one of less than {TOKEN_LENGTH_MIN} characters, which can be guessed")
    return tokens


def _header_name(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError("is not the name of an HTTP header")
    if name.lower() in _HEADERS_OF_OURS:
        raise ValueError("is a header that every request has already")
    return name


def _scheme(scheme: str) -> str:
    if scheme and not _HEADER_NAME.fullmatch(scheme):
        raise ValueError('must be one word, like "Bearer", or "" to send the token alone')
    return scheme


def _region(region: str) -> str:
    if not is_region(region):
        hint = f"; did you mean {region.upper()}?" if is_region(region.upper()) else ", like UA"
        raise ValueError(f"is not a country code of two capital letters{hint}")
    return region


def _prefix(prefix: str) -> str:
    if not _PREFIX.fullmatch(prefix):
        raise ValueError("must be at most 64 letters a-z, digits, and . _ : -")
    return prefix


def _signing_secrets(secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    if len(secrets) > SECRETS_MAX:
        raise ValueError(f"holds {len(secrets)} secrets; there is one, or two during a rotation")
    for secret in secrets:
        _in_our_words(key_of, secret.get_secret_value())
    return secrets


def _path(path: str) -> str:
    if not path.startswith("/") or not path.isascii() or not path.isprintable() or set(path) & set(" #"):
        raise ValueError("must begin with / and hold no space, no # and no letter beyond ASCII")
    _in_our_words(Template, path)
    return path


def _in_our_words(check: Callable[[str], object], text: str) -> None:
    try:
        check(text)
    except ConfigurationError as error:
        raise ValueError(f"is refused: {error}") from None


def _conninfo(secret: SecretStr) -> SecretStr:
    try:
        conninfo_to_dict(secret.get_secret_value())
    except ProgrammingError:  # its words quote the text, and a password may be in it
        raise ValueError(
            "is no connection string of PostgreSQL; write postgresql://user@host/database, or host=… dbname=… user=…"
        ) from None
    return secret


def _duration(value: Any) -> Any:
    found = timetable.duration(value) if isinstance(value, str) else value
    if isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found):
        found = timedelta(seconds=max(0.0, min(found, 1e9)))
    if not isinstance(found, timedelta):
        raise ValueError('must be a duration, like "15m", "2h" or "7d"')  # noqa: TRY004  what pydantic takes
    return found


def _between(least: timedelta, most: timedelta, sentence: str) -> AfterValidator:
    def check(value: timedelta) -> timedelta:
        if not least <= value <= most:
            raise ValueError(sentence)
        return value

    return AfterValidator(check)


def _local_time(value: Any) -> Any:
    if isinstance(value, str) and _LOCAL_TIME.fullmatch(value):
        return time.fromisoformat(value)
    if not isinstance(value, time) or value.tzinfo is not None or value.microsecond:
        raise ValueError('must be a time of day, like "10:00"')
    return value


def _zone(value: Any) -> Any:
    try:
        return value if isinstance(value, ZoneInfo) else ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise ValueError("is no time zone that this machine knows; write one like Europe/Kyiv") from None


Seconds = Annotated[timedelta, BeforeValidator(_seconds)]
Count = Annotated[int, BeforeValidator(_no_bool), Field(ge=1, le=1_000_000)]
Connections = Annotated[int, BeforeValidator(_no_bool), Field(ge=1, le=100)]
RequestRate = Annotated[float, BeforeValidator(_no_bool), Field(ge=0, le=1_000_000)]
Bytes = Annotated[int, BeforeValidator(_no_bool), Field(ge=0, le=1_048_576)]
Port = Annotated[int, BeforeValidator(_no_bool), Field(ge=0, le=65_535)]
Status = Annotated[int, BeforeValidator(_no_bool), Field(ge=200, le=599)]
Rate = Annotated[float, BeforeValidator(_no_bool), Field(gt=0, le=10_000)]
Months = Annotated[int, BeforeValidator(_no_bool), Field(ge=1, le=120)]
PageSize = Annotated[int, BeforeValidator(_no_bool), Field(ge=1, le=10_000)]
Share = Annotated[float, BeforeValidator(_no_bool), Field(ge=0, le=1)]
Factor = Annotated[float, BeforeValidator(_no_bool), Field(ge=1, le=100)]
Portal = Annotated[str, AfterValidator(_portal)]
Address = Annotated[str, AfterValidator(_address)]
Token = Annotated[SecretStr, AfterValidator(_token)]
Tokens = Annotated[tuple[Token, ...], AfterValidator(_long_enough)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
Scheme = Annotated[str, AfterValidator(_scheme)]
Region = Annotated[str, AfterValidator(_region)]
Prefix = Annotated[str, AfterValidator(_prefix)]
SigningSecrets = Annotated[tuple[SecretStr, ...], AfterValidator(_signing_secrets)]
PathTemplate = Annotated[str, AfterValidator(_path)]
Conninfo = Annotated[SecretStr, AfterValidator(_conninfo)]

SyncInterval = Annotated[
    timedelta,
    BeforeValidator(_duration),
    _between(
        timedelta(minutes=10),
        timedelta(minutes=30),
        'must be from "10m" to "30m": more often burdens InBoost for nothing, more seldom leaves new customers waiting',
    ),
]
Interval = Annotated[
    timedelta,
    BeforeValidator(_duration),
    _between(timedelta(minutes=5), timedelta(days=1), 'must be from "5m" to "1d"'),
]
Span = Annotated[
    timedelta,
    BeforeValidator(_duration),
    _between(timedelta(hours=1), timedelta(days=3660), 'must be from "1h" to "3660d"'),
]
Zone = Annotated[ZoneInfo, PlainValidator(_zone)]
LocalTime = Annotated[time, PlainValidator(_local_time)]
Days = Annotated[int, BeforeValidator(_no_bool), Field(ge=0, le=366)]
Retention = Annotated[
    timedelta,
    BeforeValidator(_duration),
    _between(
        timedelta(days=120),
        timedelta(days=36_600),
        'must be at least "120d": purchases of the last three months are transferred, and a month is the margin',
    ),
]
