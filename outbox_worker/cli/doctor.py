"""`outbox-worker doctor`: what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from outbox_worker import configuration, logs
from outbox_worker.cli import options, output
from outbox_worker.cli.masking import Screen
from outbox_worker.cli.preview import preview
from outbox_worker.configuration import Configuration
from outbox_worker.database.diagnosis import Sample
from outbox_worker.inboost.client import Client
from outbox_worker.inboost.profile import Profile
from outbox_worker.rules.diagnosis import Finding, Level, fail, warn, well
from outbox_worker.rules.schedule import Timetable
from outbox_worker.runtime.diagnosis import Examination, Patient

TIMETABLE = Timetable(first=timedelta(seconds=0.5), tries_max=2)

OPERATIONS = {
    "bonus_balance": ("set_bonus_balance",),
    "bonus_accrual": ("accrual_webhook",),
    "bonus_redemption": ("redemption_webhook",),
    "purchase": ("purchase_webhook", "add_purchase"),
    "bonus_expiry": ("expiry_webhook",),
}

# What stands in for a kind of which there was no fact lately.
_BONUS = '{"phone": "+380501234567", "code": "CODE", "amount": 12.50, "balance": 12.50}'
INVENTED = {
    "bonus_balance": '{"phone": "+380501234567", "balance": 12.50, "changed_at": "2026-01-01T00:00:00+00:00"}',
    "bonus_accrual": _BONUS,
    "bonus_redemption": _BONUS,
    "purchase": (
        '{"purchase_id": "1", "purchased_at": "2026-01-01T00:00:00+00:00", "phone": "+380501234567", "total": 100.00,'
        ' "currency": "UAH", "bonus_accrued": 1.00, "bonus_redeemed": 0.00, "lines": []}'
    ),
    "bonus_expiry": '{"expires_before": "2026-01-31", "phones": ["+380501234567"]}',
}

EPILOG = """\b
Exit status: 0 if nothing fails, warnings or not; 1 if something does.

\b
--json gives one object: failure_count, warning_count, findings: of each check, level (ok, warn, fail),
sentence, details.
"""


@click.command(epilog=EPILOG)
@options.configuration_option
@options.json_option
@click.pass_context
def doctor(context: click.Context, configuration_file: Path | None, as_json: bool) -> None:
    """Find what is wrong: triggers, rights, the mapping, the database, clocks, InBoost; each with what to do.

    Changes nothing. InBoost is asked for one client that cannot exist; hooks are not called. Run it with the worker's
    own configuration, as the worker's own user.
    """
    settings = configuration.load(configuration_file)
    findings = [_clean(it) for it in _examine(settings)]
    failures = [it for it in findings if it.level is Level.FAIL]
    warnings = [it for it in findings if it.level is Level.WARN]
    if as_json:
        counts = {"failure_count": len(failures), "warning_count": len(warnings)}
        output.emit(counts | {"findings": [asdict(it) for it in findings]})
    else:
        _show(findings)
        output.blank()
        output.show(f"{output.counted(len(failures), 'failure')}, {output.counted(len(warnings), 'warning')}.")
    context.exit(1 if failures else 0)


def _examine(settings: Configuration) -> Iterator[Finding]:
    inboost = settings.inboost
    profile = settings.profile()
    for warning in settings.warnings:
        yield warn("settings", warning)
    client = Client(
        connect_timeout=inboost.connect_timeout,
        request_timeout=inboost.request_timeout,
        ca_file=inboost.ca_file,
        timetable=TIMETABLE,
    )
    with client:
        examination = Examination(_patient(settings, profile), client)
        yield from examination.findings()
        yield from _render(profile, {it.kind: it for it in examination.samples()})


def _patient(settings: Configuration, profile: Profile) -> Patient:
    in_use = {profile.operations[name].destination for name in profile.deliveries}
    hooks = settings.inboost.hooks.by_destination().items()
    return Patient(
        conninfo=settings.database.conninfo,
        profile=profile,
        base_url=settings.inboost.base_url,
        hooks={name: hook.url for name, hook in hooks if name in in_use and hook.url is not None},
        request_timeout=settings.inboost.request_timeout,
    )


def _render(profile: Profile, samples: dict[str, Sample]) -> Iterator[Finding]:
    """Render what would be sent of a fact of each kind, the latest one where there is one."""
    for kind, names in OPERATIONS.items():
        for name in names:
            if name in profile.deliveries:
                yield _rendered(profile, kind, name, samples.get(kind))


def _rendered(profile: Profile, kind: str, operation: str, sample: Sample | None) -> Finding:
    now = datetime.now(UTC)
    screen = Screen(reveals=False)
    shown = preview(
        profile,
        operation,
        profile.operations[operation].destination,
        event_id=f"{kind}:{sample.source_id if sample else 'sample'}",
        payload=sample.payload if sample else INVENTED[kind],
        occurred_at=sample.occurred_at if sample else now,
        recorded_at=now,
    )
    word = output.spoken(kind)
    whose = f"the latest {word}" if sample else f"there is no recent {word}, but an invented one"
    if shown.request is None:
        say = warn if shown.waits else fail
        return say("samples", f"{operation}: {whose} could not be sent: {shown.unsendable}")
    return well("samples", f"{operation}: {whose} could be sent", shown.line(screen), shown.body(screen))


def _clean(finding: Finding) -> Finding:
    """Mask what slipped into a sentence from the database or the network."""
    details = tuple(logs.clean(it) for it in finding.details)
    return Finding(finding.check, finding.level, logs.clean(finding.sentence), details)


def _show(findings: Sequence[Finding]) -> None:
    rows = [(it.level, it.check, "\n".join((it.sentence, *it.details))) for it in findings]
    output.show_table(["", "check", "finding"], rows)
