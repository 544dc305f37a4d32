"""What a running worker takes from settings that were changed: how to speak to InBoost, when to try again, what to log.

The rest was built into what runs, or is a promise between workers (time-outs), and needs a restart: it is named, never
half taken.
"""

from __future__ import annotations

from pathlib import Path

from outbox_worker import configuration, logs
from outbox_worker.configuration.assembly import Assembly, judge_of
from outbox_worker.configuration.listing import changes
from outbox_worker.configuration.model import Configuration
from outbox_worker.configuration.overrides import OperationSettings
from outbox_worker.configuration.refusal import Location

# Sections and keys that can be taken; of operations, which of them are enabled is part of what runs.
_TAKEN = (
    ("inboost",),
    *(("retry", key) for key in ("first", "factor", "longest", "tries_max")),
    ("log",),
    ("rounds",),  # their process is renewed, and reads everything anew
)
_NOT_TAKEN = {
    *(("inboost", key) for key in ("request_timeout", "connect_timeout", "idle_connection_age", "ca_file")),
    ("inboost", "event_id_prefix"),  # an attempt and the inquiry after it must speak of the same event
    ("log", "format"),
    ("rounds", "enabled"),
}


class Reloading:
    """Reads the settings again, from where they were read before, and has an assembly take what it can."""

    def __init__(self, file: Path | None, settings: Configuration, assembly: Assembly) -> None:
        self._file = file
        self._settings = settings  # what runs
        self._assembly = assembly

    def __call__(self) -> tuple[list[str], list[str]]:
        """Return the names of the settings that were taken and of those that need a restart.

        Raises ConfigurationError where the settings are wrong; then nothing was taken.
        """
        found = configuration.load(self._file)
        changed = changes(self._settings, found)
        waiting = [location for location in changed if not _is_taken(location)]
        taken = [location for location in changed if _is_taken(location)]
        self._settings = _merged(self._settings, found)
        profile = self._settings.profile()
        self._assembly.relay.adopt(profile, judge_of(self._settings, profile))
        logs.set_levels(self._settings.log.level, self._settings.log.levels)
        return _named(taken), _named(waiting)


def _is_taken(location: Location) -> bool:
    if location in _NOT_TAKEN or location[-1] == "rate_max":  # the rates are told to the database at the start
        return False
    if location[:2] == ("inboost", "operations") and location[-1] == "enabled":
        return False
    return any(location[: len(place)] == place for place in _TAKEN)


def _merged(running: Configuration, found: Configuration) -> Configuration:
    """Return the settings that run from now on: what was found, but for what cannot be taken."""
    kept = {key: getattr(running.inboost, key) for section, key in _NOT_TAKEN if section == "inboost"}
    unchanged = OperationSettings()
    kept["operations"] = {
        name: found.inboost.operations.get(name, unchanged).model_copy(update={"enabled": row.enabled})
        for name, row in running.inboost.applied_operations().items()
    }
    rates = {name: hook.rate_max for name, hook in running.inboost.hooks}
    kept["rate_max"] = running.inboost.rate_max
    kept["hooks"] = found.inboost.hooks.model_copy(
        update={name: hook.model_copy(update={"rate_max": rates[name]}) for name, hook in found.inboost.hooks}
    )
    retry = found.retry.model_copy(update={"circuit_threshold": running.retry.circuit_threshold})
    rounds = found.rounds.model_copy(update={"enabled": running.rounds.enabled})
    log = found.log.model_copy(update={"format": running.log.format})
    inboost = found.inboost.model_copy(update=kept)
    return running.model_copy(update={"inboost": inboost, "retry": retry, "rounds": rounds, "log": log})


def _named(locations: list[Location]) -> list[str]:
    return sorted(".".join(location) for location in locations)
