"""Refusals: what is wrong with the settings, each in a sentence that names the place, the key and the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from outbox_worker.errors import ConfigurationError

Location = tuple[str, ...]


class Complaint(NamedTuple):
    """One thing that is wrong: with which key, and what about it. An empty location is the configuration as a whole."""

    location: Location
    sentence: str


@dataclass(frozen=True, slots=True)
class Origins:
    """Where settings came from, so that a person finds the one to be changed."""

    file: str
    environment: Mapping[Location, str]  # names of variables
    secret_files: Mapping[Location, str]

    def of(self, location: Location) -> str:
        """Name the variable or the file that a setting was read from, or where it belongs."""
        for length in range(len(location), 0, -1):
            place = self.environment.get(location[:length]) or self.secret_files.get(location[:length])
            if place:
                return place
        return self.file


def refuse(complaints: Iterable[Complaint], origins: Origins) -> None:
    """Raise ConfigurationError with every complaint, if there is one."""
    lines = [f"{origins.of(found.location)}: {_line(found)}" for found in dict.fromkeys(complaints)]
    if len(lines) == 1:
        raise ConfigurationError(lines[0])
    if lines:
        raise ConfigurationError("\n  ".join([f"{len(lines)} settings are wrong:", *lines]))


def _line(complaint: Complaint) -> str:
    return " ".join(filter(None, (".".join(complaint.location), complaint.sentence)))


def complaints_of(error: ValidationError, model: type[BaseModel]) -> list[Complaint]:
    """Return what pydantic found, in our words. Nothing that was given is repeated: it may be a secret."""
    found = error.errors(include_url=False, include_input=False)
    return [Complaint(_location(detail), _sentence(detail, model)) for detail in found]


def _location(detail: ErrorDetails) -> Location:
    return tuple(str(part) for part in detail["loc"] if part != "[key]")


_SENTENCES = {
    "missing": "is missing; the example systemd/outbox-worker.toml shows what to write",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be a text in quotes",
    "path_type": "must be the path of a file, in quotes",
    "model_type": "must be a table of settings",
    "model_attributes_type": "must be a table of settings",
    "dict_type": "must be a table of settings",
    "tuple_type": 'must be a list, like ["…"]',
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "value_error": "{error}",
}


def _sentence(detail: ErrorDetails, model: type[BaseModel]) -> str:
    if detail["type"] == "extra_forbidden":
        return "is no setting" + suggestion(str(detail["loc"][-1]), _known_beside(detail["loc"], model))
    template = _SENTENCES.get(detail["type"])
    return template.format(**detail.get("ctx", {})) if template else detail["msg"]


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown word: the nearest known one, or all of them."""
    words = sorted(known)
    near = get_close_matches(word.lower(), words, n=1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(words)}"


def _known_beside(location: tuple[Any, ...], model: type[BaseModel]) -> list[str]:
    """Return the keys of the section that holds the last part of the location."""
    section: type[BaseModel] = model
    for part in location[:-1]:
        section = next(iter(_sections_in(section, str(part))), section)
    return [field.alias or name for name, field in section.model_fields.items()]


def _sections_in(section: type[BaseModel], key: str) -> list[type[BaseModel]]:
    fields = {field.alias or name: field for name, field in section.model_fields.items()}
    return _sections_of(fields[key].annotation) if key in fields else []


def _sections_of(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections_of(part)]
