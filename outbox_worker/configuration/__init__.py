"""Settings: read from the TOML file, the environment and files with secrets, checked, and turned into objects.

    sources ──document──▶ model ──▶ contradictions ──▶ Configuration ──▶ profile(), timetable, conninfo …
        └── complaints ─────┴──────────────┴─────────▶ refusal: one ConfigurationError that lists them all

What a setting is for stands below its key in the model, and nowhere else: `documentation` makes of it the example that
`systemd/outbox-worker.toml` ships.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from outbox_worker import logs
from outbox_worker.configuration.contradictions import contradictions
from outbox_worker.configuration.documentation import example
from outbox_worker.configuration.explanation import Explained, explain
from outbox_worker.configuration.model import Configuration
from outbox_worker.configuration.refusal import complaints_of, refuse
from outbox_worker.configuration.sources import Reading, gather

__all__ = ["Configuration", "Explained", "example", "explained", "load"]


def load(file: Path | None = None, *, to_deliver: bool = True, to_identify: bool = False) -> Configuration:
    """Return the settings of this process.

    `file` is what a person named with --configuration; else OUTBOX_WORKER_CONFIGURATION, else the one below /etc.
    A command that only speaks with the database says so with `to_deliver=False`: it gets by without token and hooks,
    and without the right to read them; the service says `to_identify=True` as well. Raises ConfigurationError with
    everything that is wrong.
    """
    configuration, reading = _load(file, to_deliver=to_deliver, to_identify=to_identify)
    return configuration.warned(reading.warnings)


def explained(file: Path | None = None) -> list[Explained]:
    """Return every setting as it holds, with where it comes from; no secret among the values.

    Raises ConfigurationError as `load` does.
    """
    configuration, reading = _load(file, to_deliver=True, to_identify=False)
    return explain(configuration, reading.document, reading.origins)


def _load(file: Path | None, *, to_deliver: bool, to_identify: bool) -> tuple[Configuration, Reading]:
    needed = {"database", "identify"} if to_identify else {"database"}
    reading = gather(file, Configuration.model_fields if to_deliver else needed)
    reading.document.setdefault("database", {})
    try:
        configuration = Configuration.model_validate(reading.document)
    except ValidationError as error:
        refuse([*reading.complaints, *complaints_of(error, Configuration)], reading.origins)
        raise  # never: a validation error has at least one complaint
    # What could not be read is missing as well, and is complained of once.
    known = {complaint.location for complaint in reading.complaints}
    found = [
        each
        for each in contradictions(configuration, to_deliver=to_deliver, to_identify=to_identify)
        if each.location not in known
    ]
    refuse([*reading.complaints, *found], reading.origins)
    logs.know(configuration.secrets)
    return configuration, reading
