"""Logs: one wide line per thing that happened, for a machine as JSON, for a person at a terminal in colours.

    log.info("attempt concluded", event_id=…, operation=…, verdict=…, took_us=…)

Phones are masked and secrets blotted out on the way, by the name of the key, by what a text looks like, and secrets of
the settings by what they are: a line that somebody adds tomorrow is safe as well. Names of things that must stay
legible, as they are what an operator searches for, stand in `_LEGIBLE`.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, BinaryIO, Literal, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from outbox_worker.rules.phones import mask, mask_all

Format = Literal["auto", "json", "console"]
Level = Literal["debug", "info", "warning", "error", "critical"]
Part = Literal["relay", "rounds", "web", "libraries"]  # may have a level of its own; `outbox_worker.PART` is its logger

_GRAVITY = {name.lower(): number for name, number in logging.getLevelNamesMapping().items()}

_BLOT = "***"
_IDENTIFIERS = ("event_id", "source_id", "delivery_id", "lane", "attempt", "worker", "boot_id", "digest", "logger")
_TERMS = ("operation", "destination", "kind", "purpose", "outcome", "verdict", "action", "evidence")
_OURS = ("level", "time", "version", "number", "status", "took_us", "lag_ms", "due_in_s")
_NUMBERS = (int, float)  # a tuple made once: `int | float` would be made anew for each value
_LEGIBLE = frozenset(_IDENTIFIERS + _TERMS + _OURS)
_SECRET = re.compile(r"token|secret|passw|authori[sz]|credential|conninfo|dsn|api_?key|signature|cookie", re.IGNORECASE)
_PHONE = re.compile(r"phone|msisdn", re.IGNORECASE)

# What a secret looks like inside a text: a password in a URL or in a conninfo, an authorization, a signing secret, the
# id at the end of a hook's address, which is all that protects a hook.
_SECRET_IN_TEXT = re.compile(
    r"(?P<before>://[^/\s:@]*:)[^/\s@]+(?=@)"
    r"|(?P<name>(?:password|passwd|token|secret)[\"']?\s*[=:]\s*[\"']?)[^\s,;'\"}]+"
    r"|(?P<scheme>\b(?:Bearer|Basic)\s+)[\w.~+/=-]+"
    r"|(?P<prefix>whsec_)[\w+/=-]+"
    r"|(?P<hook>/webhok/)[^/\s\"']+",
    re.IGNORECASE,
)
# Most texts hold none of these, and then the search above is spared.
_HINTS = ("@", "passw", "token", "secret", "bearer", "basic", "whsec_", "webhok")


_thresholds: dict[str | None, int] = {}  # by name of logger; None: all others


def configure(
    format: Format = "auto",
    level: Level = "info",
    stream: TextIO | None = None,
    *,
    levels: Mapping[Part, Level] | None = None,
) -> None:
    """Set up logging for the whole process, for libraries that use the standard library's logging as well.

    `auto` is console on a terminal and JSON otherwise. `stream` is standard error unless given: standard output
    belongs to what a command was asked for. NO_COLOR (no-color.org) is honoured.
    """
    out = sys.stderr if stream is None else stream
    as_json = format == "json" or (format == "auto" and not out.isatty())
    global _stream  # the process has one log
    _stream = out.buffer if as_json else None
    structlog.configure(
        processors=[_drop_below_threshold, *_common(), _as_json if as_json else _console(out)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=_factory(out, as_json),
    )
    _route_standard_logging(out, as_json)
    set_levels(level, levels or {})


def set_levels(level: Level, levels: Mapping[Part, Level]) -> None:
    """Write from now on what is at least so grave; `levels` are those of parts. Holds for known loggers too."""
    _thresholds.clear()
    _thresholds.update({f"outbox_worker.{part}": _GRAVITY[own] for part, own in levels.items()})
    _thresholds[None] = _GRAVITY[level]
    logging.root.setLevel(_GRAVITY[levels.get("libraries", level)])


def _factory(out: TextIO, as_json: bool) -> Callable[..., WrappedLogger]:
    def make(*names: str) -> WrappedLogger:
        logger: Any = structlog.BytesLogger(out.buffer) if as_json else structlog.WriteLogger(out)
        logger.name = names[0] if names else None
        return logger

    return make


def _drop_below_threshold(logger: WrappedLogger, name: str, line: EventDict) -> EventDict:
    if _GRAVITY[name] < _threshold(logger.name):
        raise structlog.DropEvent
    return line


def _threshold(name: str | None) -> int:
    own = _thresholds.get(name)
    return _thresholds[None] if own is None else own


def _common() -> list[Processor]:
    return [
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        protect,
    ]


def _console(out: TextIO) -> Processor:
    # The plain trace back: the default one shows local variables, tokens among them.
    return structlog.dev.ConsoleRenderer(
        colors=out.isatty() and not os.environ.get("NO_COLOR"),
        timestamp_key="time",
        exception_formatter=structlog.dev.plain_traceback,
    )


def _route_standard_logging(out: TextIO, as_json: bool) -> None:
    handler = logging.StreamHandler(out)
    renderer: Processor = _as_json_text if as_json else _console(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_common(), renderer],
        )
    )
    logging.basicConfig(handlers=[handler], force=True)


class WideLog:
    """Writes the lines of which there may be thousands a second: structlog's lines, without its steps in between.

    As JSON they are kept until `flush`: a write for each would cost as much as the line. For people they go through
    structlog. `bound` stands in every line. `configure` comes first.
    """

    def __init__(self, name: str, **bound: Any) -> None:
        self._log = structlog.get_logger(name).bind(**bound)
        self._name = name
        self._bound = bound
        self._kept: list[bytes] = []

    def write(self, level: Level, event: str, line: Mapping[str, Any], now: datetime) -> None:
        """Write a line of what happened `now` (in UTC); its values are protected like any other's."""
        if _stream is None:
            getattr(self._log, level)(event, **line)
        elif _GRAVITY[level] >= _threshold(self._name):
            head = {"time": now, "level": level, "event": event}
            self._kept.append(_encode({**head, **protect(None, level, {**self._bound, **line})}))

    def flush(self) -> None:
        """Let the lines out that were kept."""
        if _stream is not None and self._kept:
            kept, self._kept = self._kept, []
            _stream.write(b"\n".join([*kept, b""]))
            _stream.flush()


_stream: BinaryIO | None = None  # where lines of JSON go, if they do
_encode = msgspec.json.Encoder(enc_hook=str).encode


def _as_json(logger: WrappedLogger, name: str, line: EventDict) -> bytes:
    return _encode({"time": line.pop("time"), "level": line.pop("level"), "event": line.pop("event"), **line})


def _as_json_text(logger: WrappedLogger, name: str, line: EventDict) -> str:
    return _as_json(logger, name, line).decode()


def protect(logger: WrappedLogger, name: str, line: EventDict) -> EventDict:
    """Mask phones and blot out secrets in every value of a line. A processor for structlog."""
    for key, value in line.items():
        if key not in _LEGIBLE:
            line[key] = _treatment(key)(value)
    return line


Treatment = Callable[[Any], Any]


@lru_cache(maxsize=1024)
def _treatment(key: str) -> Treatment:
    if _SECRET.search(key):
        return _blot
    return _mask_phones if _PHONE.search(key) else _clean


def _blot(value: Any) -> Any:
    return _BLOT if value else value


def _mask_phones(value: Any) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_mask_phones(item) for item in value]
    return _clean(value)


def _clean(value: Any) -> Any:
    if value is None or isinstance(value, _NUMBERS):
        return value
    if isinstance(value, str):
        return clean(value) if value else value
    if isinstance(value, Mapping):
        return protect(None, "", {str(key): item for key, item in value.items()})
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(item) for item in value]
    return clean(str(value))


_known: set[str] = set()
_KNOWN_LENGTH_MIN = 8  # shorter ones are words of our own too often


def know(secrets: Iterable[str]) -> None:
    """Have these secrets blotted out from now on wherever they stand, whatever the text around them looks like."""
    _known.update(secret for secret in secrets if len(secret) >= _KNOWN_LENGTH_MIN)
    clean.cache_clear()


def blot(text: str) -> str:
    """Blot out the secrets that are known, in a text that otherwise stays as it is, like an answer that is kept."""
    for secret in _known:
        if secret in text:
            text = text.replace(secret, _BLOT)
    return text


@lru_cache(maxsize=256)  # most lines say the same few words: "attempt" ten thousand times a second
def clean(text: str) -> str:
    """Mask what looks like a phone number in a free text, and blot out what is or looks like a secret."""
    masked = mask_all(blot(text))
    lowered = masked.lower()
    return _SECRET_IN_TEXT.sub(_blot_found, masked) if any(hint in lowered for hint in _HINTS) else masked


def _blot_found(found: re.Match[str]) -> str:
    return next(group for group in found.groups() if group is not None) + _BLOT
