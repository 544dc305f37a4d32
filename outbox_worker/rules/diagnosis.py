"""What doctor makes of what it saw: each check is one function, from what was seen to sentences.

A sentence says what is wrong, where, and what to do. `fail`: something is lost, or nothing can be delivered. `warn`: it
works, and costs something, or will not work one day. What was seen comes as arguments; nothing is looked up here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

SKEW_WARNED = timedelta(seconds=2)
SKEW_FAILED = timedelta(minutes=5)  # receivers of signed webhooks refuse a timestamp that is further off
UNIDENTIFIED_MAX = timedelta(minutes=1)  # as the alert has it
POOLER_REMEDY = "Let [database] url name PostgreSQL itself, not the pooler"


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found; `details` are lines to look at, phones masked."""

    check: str
    level: Level
    sentence: str
    details: tuple[str, ...] = ()


def well(check: str, sentence: str, *details: str) -> Finding:
    """Say that all is well."""
    return Finding(check, Level.OK, sentence, details)


def warn(check: str, sentence: str, *details: str) -> Finding:
    """Say what it costs."""
    return Finding(check, Level.WARN, sentence, details)


def fail(check: str, sentence: str, *details: str) -> Finding:
    """Say what is broken."""
    return Finding(check, Level.FAIL, sentence, details)


# The role


@dataclass(frozen=True, slots=True)
class Role:
    """The role that the worker logs in as; rights as `insert on outbox.claim`."""

    name: str
    is_superuser: bool
    is_member: bool  # of outbox_worker
    is_owner: bool  # may become outbox_owner
    missing: tuple[str, ...]
    excess: tuple[str, ...]


def judge_role(role: Role) -> Iterator[Finding]:
    """It should have what outbox_worker has, and no more: then the door is the only way in for events."""
    if role.missing:
        rights = f"misses {_some(role.missing)}"
        remedy = (
            "run `outbox-worker schema install`, and load your mapping, again"
            if role.is_member
            else f"grant it the worker's rights: grant outbox_worker to {_quoted(role.name)}"
        )
        yield fail("role", f"role {role.name} {rights}; {remedy}")
    if role.is_superuser:
        yield warn(
            "role", f"role {role.name} is a superuser: a leak of its password is one of the whole server. {_OWN}"
        )
    elif role.is_owner:
        yield warn("role", f"role {role.name} can become outbox_owner, and so rewrite the journal. {_OWN}")
    elif role.excess:
        yield warn("role", f"role {role.name} may do more than it needs: {_some(role.excess)}. {_OWN}")
    elif not role.missing:
        yield well("role", f"role {role.name} has what it needs, and no more")


_OWN = "Give the worker a role of its own: create role … login in role outbox_worker"


# The session


@dataclass(frozen=True, slots=True)
class Session:
    """What two connections that were open together saw of the servers' processes behind them.

    `connected_pid` is what the first was told when it connected, `pids` what it found in one transaction after the
    other, `other_pids` what the second one found meanwhile.
    """

    connected_pid: int
    pids: tuple[int, ...]
    other_pids: tuple[int, ...]
    keeps_options: bool  # the settings that were sent with the connection
    keeps_settings: bool
    keeps_locks: bool
    hears: bool


def judge_session(seen: Session) -> Finding:
    """LISTEN and session locks belong to one server process; a transaction pooler hands out another each time."""
    pids, other_pids = set(seen.pids), set(seen.other_pids)
    is_shared = len(pids) > 1 or len(other_pids) > 1 or bool(pids & other_pids)
    if is_shared or not (seen.keeps_settings and seen.keeps_locks):
        return fail(
            "session",
            "a transaction pooler stands between this host and the database: the server process changes from one "
            "transaction to the next. LISTEN and session locks do not work through one, so the worker would not wake, "
            f"and locks would stay with strangers. {POOLER_REMEDY}",
        )
    if not seen.keeps_options:
        return fail(
            "session",
            "a pooler drops the settings that come with a connection (ignore_startup_parameters), and the worker's "
            f"time-outs, plans and durability are among them. {POOLER_REMEDY}",
        )
    if not seen.hears:
        return fail("session", f"NOTIFY was sent and LISTEN did not hear it, so the doorbell is dead. {POOLER_REMEDY}")
    if seen.connected_pid != seen.pids[0]:
        return warn(
            "session",
            "a pooler in session mode stands between this host and the database. It works; if it ever ends idle "
            "connections or is set to transaction mode, nothing is heard any more",
        )
    return well("session", "LISTEN and NOTIFY, session locks and settings work: no pooler is in the way")


def judge_refused_connection(words: str) -> Finding:
    """A pooler often shows before anything else, by what it cannot take at connecting."""
    if "startup parameter" in words:
        return fail("database", f"a pooler refuses the connection. {POOLER_REMEDY}. It says: {words}")
    return fail("database", words)


# The server


def judge_prepared(max_prepared_transactions: int) -> Finding:
    """A transaction that has notified cannot be prepared, so where some may be, nobody notifies."""
    if max_prepared_transactions:
        return warn(
            "doorbell",
            f"max_prepared_transactions is {max_prepared_transactions}, so triggers do not ring: the worker looks ten "
            "times a second instead, and is up to 0.1 s late. If nothing here uses PREPARE TRANSACTION, set it to 0",
        )
    return well("doorbell", "triggers ring when the worker sleeps")


def judge_bypasses(current: str, settings: Sequence[tuple[str, str]]) -> Iterator[Finding]:
    """`settings` are those of roles and databases that keep triggers from firing, as (where, setting)."""
    for where, setting in settings:
        yield fail(
            "bypass",
            f"{setting} is set for {where}: whatever it writes fires no capture trigger. Take it back with "
            "alter role or alter database … reset session_replication_role, then run `outbox-worker reconcile`",
        )
    if current != "origin" and not settings:
        yield fail("bypass", f"session_replication_role is {current} on this server: capture triggers do not fire")
    if current == "origin" and not settings:
        yield well("bypass", "no role or database has its triggers switched off by session_replication_role")


@dataclass(frozen=True, slots=True)
class Holder:
    """Who keeps dead rows from being removed: a session, a prepared transaction or a replication slot."""

    kind: str
    name: str
    age: timedelta | None


def judge_holders(holders: Sequence[Holder], hidden_count: int, role: str) -> Iterator[Finding]:
    """An old snapshot makes each look for work walk over more and more dead rows."""
    for it in holders:
        age = f", for {round(it.age.total_seconds() / 60)} minutes" if it.age else ""
        yield warn(
            "snapshots",
            f"{it.kind} {it.name} holds an old snapshot{age}: dead rows cannot be removed, tables grow and the worker "
            f"slows down. {_REMEDIES[it.kind]}",
        )
    hidden = ""
    if hidden_count:
        hidden = f"; {hidden_count} sessions of other roles cannot be seen (grant pg_read_all_stats to {_quoted(role)})"
    if not holders:
        yield well("snapshots", f"no snapshot older than 5 minutes is held{hidden}")


_REMEDIES = {
    "session": "End it, or the report that it runs: pg_terminate_backend",
    "prepared transaction": "Finish it: commit prepared or rollback prepared",
    "replication slot": "Nobody reads it: have its reader come back, or pg_drop_replication_slot",
}


def judge_autovacuum(is_on: bool, tables: Sequence[str]) -> Finding:
    """Rows of deliveries come and go fast."""
    if not is_on:
        return fail("autovacuum", "autovacuum is off on this server: the outbox grows without end. Switch it on")
    if tables:
        return warn(
            "autovacuum",
            f"autovacuum is off for {_some(tables)}: they grow without end. alter table … reset (autovacuum_enabled)",
        )
    return well("autovacuum", "autovacuum is on for all tables of the outbox")


# Clocks


def judge_clock(whose: str, before: datetime, theirs: datetime, after: datetime, grain: timedelta) -> Finding:
    """Compare a clock that was read between two looks at ours, and shows no less than `grain`."""
    ahead = max(theirs - after, timedelta(0))
    behind = max(before - (theirs + grain), timedelta(0))
    skew, direction = (ahead, "ahead of") if ahead else (behind, "behind")
    seconds = round(skew.total_seconds(), 1)
    if skew > SKEW_FAILED:
        return fail(
            "clock",
            f"{whose} clock is {seconds} s {direction} this host's: receivers refuse signatures that are 5 minutes "
            "off. Have both follow a time server (timedatectl, chronyc tracking)",
        )
    if skew > SKEW_WARNED:
        return warn(
            "clock",
            f"{whose} clock is {seconds} s {direction} this host's: lags and retry times are off by as much. Have both "
            "follow a time server (timedatectl, chronyc tracking)",
        )
    return well("clock", f"{whose} clock and this host's agree")


# The outbox


def judge_failures(count: int, first: tuple[str, str] | None) -> Finding:
    """`first` is the event id and the message of the oldest capture that failed and is not repaired."""
    if not count or first is None:
        return well("captures", "no capture has failed that is not repaired")
    return fail(
        "captures",
        f"{count} facts could not be recorded when they happened, the first one {first[0]}: {first[1]}. Mend the "
        "mapping or the fact, then run `outbox-worker reconcile`",
    )


def judge_unidentified(waiting: timedelta) -> Finding:
    """`waiting` is how long the oldest order with contact data waits to be identified; it takes milliseconds."""
    if waiting <= UNIDENTIFIED_MAX:
        return well("orders", "no order waits to be identified")
    return fail(
        "orders",
        f"orders with contact data wait to be identified, the oldest for {round(waiting.total_seconds())} s: a worker "
        "with [rounds] enabled = true does it, so start one; if one runs, its journal says `orders cannot be "
        "identified` and why",
    )


def judge_missing(missing: Sequence[tuple[str, int, int]], within: timedelta) -> Iterator[Finding]:
    """`missing` says of each kind how many facts there are and how many have no event."""
    minutes = round(within.total_seconds() / 60)
    for kind, fact_count, missing_count in missing:
        if missing_count:
            yield fail(
                "events",
                f"{missing_count} of {fact_count} facts of kind {kind} within the last {minutes} minutes have no "
                "event: a trigger is off, or is bypassed. Mend that, then run `outbox-worker reconcile`",
            )
    if not any(it[2] for it in missing):
        count = sum(it[1] for it in missing)
        yield well("events", f"each of the {count} facts within the last {minutes} minutes has its event")


def judge_routes(routes: Sequence[tuple[str, str, bool]], enabled: Sequence[str]) -> Iterator[Finding]:
    """`routes` are kind, operation, whether the database has it enabled; `enabled` are those that are configured."""
    for kind, operation, is_enabled in routes:
        if operation in enabled and not is_enabled:
            yield warn(
                "routes",
                f"{operation} is configured, and disabled in outbox.route: events of kind {kind} get no delivery to "
                "it. Start the worker, which sets it by its configuration",
            )
        elif operation not in enabled and is_enabled:
            yield warn(
                "routes",
                f"{operation} is switched off by the configuration, and enabled in outbox.route: its deliveries will "
                "become dead letters. Start the worker again, which sets it by its configuration",
            )
    if all((operation in enabled) == is_enabled for _, operation, is_enabled in routes):
        off = [operation for _, operation, is_enabled in routes if not is_enabled]
        yield well("routes", "routes are as configured" + (f"; switched off: {', '.join(off)}" if off else ""))


# InBoost


def judge_answer_time(took: timedelta, request_timeout: timedelta) -> Finding:
    """Every time-out is a doubt."""
    limit_s = request_timeout.total_seconds()
    words = f"InBoost answered within {took.total_seconds():.2f} s; request_timeout is {limit_s:g} s"
    if took > request_timeout / 2:
        return warn("time-outs", f"{words}. Each request that it cuts off is in doubt: raise [inboost] request_timeout")
    return well("time-outs", words)


def judge_token(status: int | None, words: str) -> Finding:
    """The answer to a look-up of a client that cannot exist."""
    if status == 200:
        return well("inboost", "InBoost answers, and takes the token")
    if status in (401, 403):
        return fail("inboost", f"InBoost refuses the token (answered {status}); put the right one into [inboost] token")
    if status in (429, 503):
        return warn("inboost", f"InBoost answered {status}: it is busy just now. The worker comes back by itself")
    if status is not None and 300 <= status < 400:
        return fail(
            "inboost", f"InBoost redirects (answered {status}): correct [inboost] base_url; no redirect is followed"
        )
    if status is not None:
        return fail(
            "inboost",
            f"InBoost answered {status} to a look-up of a client: compare [inboost] base_url and the path of "
            "[inboost.operations.find_client] with your portal's documentation",
        )
    return fail(
        "inboost", f"InBoost cannot be reached: {words}. Compare [inboost] base_url, ca_file and this host's network"
    )


def judge_hosts(reasons: Mapping[str, str | None]) -> Iterator[Finding]:
    """`reasons` say why the host of a hook cannot be found, None where it can. More, only a POST could tell."""
    for destination, reason in reasons.items():
        if reason is not None:
            yield fail("hooks", f"the host of {destination} cannot be found: {reason}. Compare its url in the settings")
    if reasons and not any(reasons.values()):
        yield well("hooks", f"the hosts of {len(reasons)} hooks can be found; nothing was sent there")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
