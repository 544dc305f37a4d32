"""Where settings come from, the later winning: files with secrets, the TOML file, the environment.

Reading ends in one document, a dict of dicts, that the model then checks. What cannot be read becomes a complaint, so
that a person hears of everything at once.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outbox_worker.configuration.model import Configuration
from outbox_worker.configuration.refusal import Complaint, Location, Origins, suggestion
from outbox_worker.errors import ConfigurationError
from outbox_worker.inboost.operations import HOOKS

DEFAULT_FILE = Path("/etc/outbox-worker/outbox-worker.toml")
FILE_VARIABLE = "OUTBOX_WORKER_CONFIGURATION"
PREFIX = "OUTBOX_WORKER__"

Document = dict[str, Any]

_HOOK_NAMES = [destination.removesuffix("_hook") for destination in HOOKS]

# Every setting that is a secret, and the name of its file in systemd's credentials directory.
SECRETS: dict[Location, str] = {
    ("database", "password"): "database_password",
    ("inboost", "token"): "inboost_token",
    ("identify", "tokens"): "identify_tokens",
    **{("inboost", "hooks", name, "secrets"): f"hook_{name}_secret" for name in _HOOK_NAMES},
}


@dataclass
class Reading:
    """What was read, and what there is to say about it."""

    file: Path
    document: Document = field(default_factory=dict)
    complaints: list[Complaint] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    variables: dict[Location, str] = field(default_factory=dict)
    secret_files: dict[Location, str] = field(default_factory=dict)

    @property
    def origins(self) -> Origins:
        """Return where the settings came from."""
        return Origins(str(self.file), self.variables, self.secret_files)


def gather(file: Path | None, sections: Collection[str]) -> Reading:
    """Read everything. Secrets are read for the given sections only: a command that needs no token may not have one.

    Raises ConfigurationError when there is no file, or it is no TOML.
    """
    reading = Reading(_which(file))
    _take_file(reading, is_named=file is not None or FILE_VARIABLE in os.environ)
    _take_environment(reading)
    _find_beside_file(reading, ("inboost", "ca_file"))
    for location, credential in SECRETS.items():
        if location[0] in sections:
            _take_secret(reading, location, credential)
    return reading


def _which(file: Path | None) -> Path:
    return file or Path(os.environ.get(FILE_VARIABLE) or DEFAULT_FILE)


def _take_file(reading: Reading, *, is_named: bool) -> None:
    if not is_named and not reading.file.exists() and any(name.startswith(PREFIX) for name in os.environ):
        return  # a container that is configured by its environment alone
    try:
        reading.document = tomllib.loads(reading.file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"{reading.file}: {_why(error)}; copy the example systemd/outbox-worker.toml there, "
            f"or name another file with --configuration or {FILE_VARIABLE}"
        ) from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{reading.file}: is not UTF-8; save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{reading.file}: is no TOML: {error}") from None
    if _is_open_to_all(reading.file) and any(_at(reading.document, location) for location in SECRETS):
        reading.warnings.append(_warning(reading.file))


def _take_environment(reading: Reading) -> None:
    reading.variables = dict(_variables())
    if not reading.variables:
        return
    # Imported late: it takes as long as the whole model, and most installations set no variable.
    from outbox_worker.configuration.environment import read_variable

    for location, name in reading.variables.items():
        if location[0] not in Configuration.model_fields:
            near = suggestion(location[0], Configuration.model_fields)
            reading.complaints.append(Complaint(location, f"is no setting{near}"))
            continue
        found = read_variable(name)  # one by one, to say which of them cannot be read
        if found is None:
            reading.complaints.append(Complaint(location, 'must be JSON, like ["…"], as it is a list or a table'))
        else:
            _merge(reading.document, found)


def _variables() -> Iterator[tuple[Location, str]]:
    for name, value in os.environ.items():
        if name.upper().startswith(PREFIX) and value:
            yield tuple(name[len(PREFIX) :].lower().split("__")), name


def _find_beside_file(reading: Reading, location: Location) -> None:
    """Take a relative path as relative to the configuration file; nobody thinks of where a daemon was started."""
    *sections, key = location
    section = _at(reading.document, tuple(sections))
    if isinstance(_at(reading.document, location), str):
        section[key] = str(reading.file.parent / section[key])


def _take_secret(reading: Reading, location: Location, credential: str) -> None:
    """Read a secret from its own file, where it has one."""
    *sections, key = location
    named = _at(reading.document, (*sections, f"{key}_file"))
    if named and _at(reading.document, location):
        reading.complaints.append(Complaint(location, f"is set, and so is {key}_file; keep one of them"))
        return
    if isinstance(named, str) and named:
        _read_secret(reading, location, reading.file.parent / named)
    elif not _at(reading.document, location):
        path = _credential(reading, credential)
        if path is not None:
            _read_secret(reading, location, path)


def _credential(reading: Reading, name: str) -> Path | None:
    """Return the file of a credential: systemd's copy, or for a command that root gives, what it is a copy of."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if directory:
        path = Path(directory) / name
        return path if path.exists() else None
    path = reading.file.parent / name
    return path if os.access(path, os.R_OK) else None


def _read_secret(reading: Reading, location: Location, path: Path) -> None:
    reading.secret_files[location] = str(path)
    try:
        text = path.read_text(encoding="utf-8").rstrip("\r\n")
        if _is_open_to_all(path):
            reading.warnings.append(_warning(path))
    except OSError as error:
        reading.complaints.append(Complaint(location, f"cannot be read from its file: {_why(error)}"))
        return
    except UnicodeDecodeError:
        reading.complaints.append(Complaint(location, "cannot be read from its file, which is no text"))
        return
    if not text:
        reading.complaints.append(Complaint(location, "is missing: its file is empty"))
        return
    section = reading.document
    for name in location[:-1]:
        section = section.setdefault(name, {})
    section[location[-1]] = text.split() if location[-1] in {"secrets", "tokens"} else text


def _at(document: Document, location: Location) -> Any:
    """Return what stands at a place, None where nothing does. What has the wrong shape is for the model to refuse."""
    found: Any = document
    for name in location:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _merge(document: Document, winner: Document) -> None:
    for key, value in winner.items():
        if isinstance(value, dict) and isinstance(document.get(key), dict):
            _merge(document[key], value)
        else:
            document[key] = value


def _is_open_to_all(path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_IROTH)


def _warning(path: Path) -> str:
    return f"{path} holds a secret and everybody on this machine can read it; chmod 0640 {path}"


def _why(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
