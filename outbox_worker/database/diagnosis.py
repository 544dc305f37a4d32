"""What doctor looks at in the database: read here, judged in `rules.diagnosis` and `rules.mapping`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString

import psycopg
from sqlalchemy import Connection, text

from outbox_worker.rules.diagnosis import Holder, Role, Session
from outbox_worker.rules.mapping import Column, FactSample, Trigger

HEARD_S_MAX = 2.0
SAMPLE_MAX = 10_000
SAMPLE_DAYS = 7

_OF_SYNC = ("client", "unstored_client", "customer_phone")
# What sql/install/rights.sql grants; a test compares the two.
NEEDED = {
    "select": (
        "event",
        "delivery",
        "addressee",
        "claim",
        "attempt",
        "act",
        "duplicate",
        "destination",
        "route",
        "capture_failure",
        "backlog",
        "round",
        "round_run",
        "told_lot",
        *_OF_SYNC,
        "sync_run",
    ),
    "insert": ("claim", "attempt", "act", "round_run", "told_lot", *_OF_SYNC, "sync_run"),
    "update": ("delivery", "addressee", "claim", "destination", "round", "round_run", *_OF_SYNC, "sync_run"),
    "delete": ("delivery", "claim", *_OF_SYNC),
}
EXCESS = {
    "insert": ("event", "delivery", "duplicate", "capture_failure"),
    "update": ("event", "attempt", "act", "duplicate"),
    "delete": ("event", "attempt", "act", "duplicate", "capture_failure", "route", "destination"),
    "truncate": ("event", "delivery", "claim", "attempt", "act"),
}


@dataclass(frozen=True, slots=True)
class Sample:
    """A recent fact as the event that it would be."""

    kind: str
    source_id: str
    customer_id: str | None
    payload: str
    occurred_at: datetime


_ROLE = text("""
select session_user, rolsuper, pg_has_role(session_user, 'outbox_worker', 'usage'),
       pg_has_role(session_user, 'outbox_owner', 'member')
from pg_roles where rolname = session_user
""")

_RIGHTS = text("""
select wanted.privilege || ' on outbox.' || wanted.name,
       coalesce(has_table_privilege(relation.oid, wanted.privilege), false)
from unnest(cast(:privileges as text[]), cast(:names as text[])) with ordinality wanted (privilege, name, number)
left join pg_class relation
       on relation.relname = wanted.name
      and relation.relnamespace = (select oid from pg_namespace where nspname = 'outbox')
order by wanted.number
""")

_OTHER_RIGHTS = text("""
select named.name, coalesce(named.is_given, false)
from (
    values ('usage on schema outbox', has_schema_privilege(
                (select oid from pg_namespace where nspname = 'outbox'), 'usage')),
           ('usage on schema integration', has_schema_privilege(
                (select oid from pg_namespace where nspname = 'integration'), 'usage')),
           ('usage on outbox.claim_id', (
                select has_sequence_privilege(oid, 'usage') from pg_class
                where relname = 'claim_id'
                  and relnamespace = (select oid from pg_namespace where nspname = 'outbox'))),
           ('update of outbox.route.enabled', (
                select has_column_privilege(oid, 'enabled', 'update') from pg_class
                where relname = 'route'
                  and relnamespace = (select oid from pg_namespace where nspname = 'outbox'))),
           ('update of outbox.capture_failure.repaired_at', (
                select has_column_privilege(oid, 'repaired_at', 'update') from pg_class
                where relname = 'capture_failure'
                  and relnamespace = (select oid from pg_namespace where nspname = 'outbox'))),
           ('execute on outbox.record_event', (
                select bool_and(has_function_privilege(oid, 'execute')) from pg_proc
                where proname = 'record_event'
                  and pronamespace = (select oid from pg_namespace where nspname = 'outbox')))
) named (name, is_given)
""")

_BYPASSES = text("""
select case when own.setrole = 0 then 'all roles' else 'role ' || role.rolname end
       || case when own.setdatabase = 0 then '' else ' in this database' end,
       setting
from pg_db_role_setting own
left join pg_roles role on role.oid = own.setrole
cross join unnest(own.setconfig) setting
where own.setdatabase in (0, (select oid from pg_database where datname = current_database()))
  and setting like 'session\\_replication\\_role=%' and setting <> 'session_replication_role=origin'
""")

# Vacuum looks at no other snapshot of a vacuum, and a walsender's is told by its slot.
_HOLDERS = text("""
select 'session', session.pid || ' of role ' || session.usename || ' (' || session.application_name || ')',
       clock_timestamp() - session.xact_start
from pg_stat_activity session
where (session.backend_xmin is not null or session.backend_xid is not null)
  and session.xact_start < clock_timestamp() - cast(:older_than as interval) and session.backend_type = 'client backend'
union all
select 'prepared transaction', prepared.gid || ' of role ' || prepared.owner, clock_timestamp() - prepared.prepared
from pg_prepared_xacts prepared
where prepared.database = current_database() and prepared.prepared < clock_timestamp() - cast(:older_than as interval)
union all
select 'replication slot', slot.slot_name, null
from pg_replication_slots slot
where not slot.active and slot.xmin is not null
""")

# Of other roles' sessions this role sees neither state nor snapshot, unless it has pg_read_all_stats.
_HIDDEN = text("""
select count(*) from pg_stat_activity session
where session.datname = current_database() and session.usesysid <> (
          select oid from pg_roles where rolname = session_user)
  and not pg_has_role(session_user, session.usesysid, 'usage')
  and not pg_has_role(session_user, 'pg_read_all_stats', 'usage')
""")

_UNTENDED = text("""
select format('%I.%I', 'outbox', relation.relname)
from pg_class relation
where relation.relnamespace = (select oid from pg_namespace where nspname = 'outbox') and relation.relkind = 'r'
  and relation.reloptions && array['autovacuum_enabled=false', 'autovacuum_enabled=off', 'autovacuum_enabled=0']
order by 1
""")

_COLUMNS = text("""
select relation.relname, attribute.attname,
       format_type(case when type.typtype = 'd' then type.typbasetype else type.oid end, null), type.typcategory,
       has_table_privilege(relation.oid, 'select')
from pg_class relation
join pg_namespace namespace on namespace.oid = relation.relnamespace and namespace.nspname = 'integration'
join pg_attribute attribute on attribute.attrelid = relation.oid and attribute.attnum > 0 and not attribute.attisdropped
join pg_type type on type.oid = attribute.atttypid
where relation.relkind in ('v', 'm', 'r', 'p', 'f')
order by relation.relname, attribute.attnum
""")

_FUNCTIONS = text("""
select function.proname
from pg_proc function
join pg_namespace namespace on namespace.oid = function.pronamespace and namespace.nspname = 'integration'
where function.prorettype <> 'trigger'::regtype and has_function_privilege(function.oid, 'execute')
""")

_TRIGGERS = text("""
select function.proname, trigger.tgname, trigger.tgrelid::regclass::text, trigger.tgenabled::text,
       trigger.tginitdeferred, (trigger.tgtype & 4) > 0, (trigger.tgtype & 16) > 0
from pg_proc function
join pg_namespace namespace on namespace.oid = function.pronamespace and namespace.nspname = 'integration'
left join pg_trigger trigger on trigger.tgfoid = function.oid and not trigger.tgisinternal
where function.prorettype = 'trigger'::regtype
order by 3, 2
""")

_FACTS = text("""
select count(*), count(*) filter (where kind is null or source_id is null),
       count(*) filter (where customer_id is null and not has_contact), count(*) filter (where occurred_at is null),
       count(*) - count(distinct (kind, source_id))
from (
    select fact.kind, fact.source_id, fact.customer_id, fact.occurred_at,
           coalesce(fact.payload ->> 'contact_email', fact.payload ->> 'contact_phone') is not null as has_contact
    from integration.fact fact
    where fact.occurred_at >= now() - make_interval(days => :days) or fact.occurred_at is null
    limit :count_max
) fact
""")

_SAMPLES = text("""
select sample.*
from (select distinct route.kind from outbox.route route) route
cross join lateral (
    select fact.kind, fact.source_id, fact.customer_id, fact.payload::text, fact.occurred_at
    from integration.fact fact
    where fact.kind = route.kind and fact.customer_id is not null
      and fact.occurred_at >= now() - make_interval(days => :days)
    order by fact.occurred_at desc
    limit 1
) sample
union all
(select balance.kind, 'sample', balance.customer_id::text, balance.payload::text, balance.occurred_at
 from integration.bonus_balance_event balance
 where balance.occurred_at >= now() - make_interval(days => :days)
 order by balance.occurred_at desc
 limit 1)
""")


def version(connection: Connection) -> str:
    """Return what the server is."""
    return str(connection.scalar(text("select current_setting('server_version')")))


def role(connection: Connection) -> Role:
    """Read what the login role may do."""
    name, is_superuser, is_member, is_owner = connection.execute(_ROLE).one()
    needed, excess = _table_rights(connection, NEEDED), _table_rights(connection, EXCESS)
    others: dict[str, bool] = {row[0]: row[1] for row in connection.execute(_OTHER_RIGHTS)}
    missing = [right for right, is_given in (needed | others).items() if not is_given]
    return Role(
        name,
        is_superuser=is_superuser,
        is_member=is_member,
        is_owner=is_owner,
        missing=tuple(missing),
        excess=tuple(right for right, is_given in excess.items() if is_given),
    )


def session(conninfo: str) -> Session:
    """Find out, with two connections at once, whether a session is one server process from its beginning to its end.

    Raises psycopg's OperationalError.
    """
    with closing(_plain(conninfo)) as first, closing(_plain(conninfo)) as second:
        first.execute("listen outbox_worker_doctor")
        first.execute("set outbox_worker.doctor = 'kept'")
        first.execute("select pg_advisory_lock(hashtextextended('outbox_worker.doctor', pg_backend_pid()))")
        first_pids, second_pids = _pids(first, second)
        sent = "select current_setting('outbox_worker.sent', true) is not distinct from 'yes'"
        kept = "select current_setting('outbox_worker.doctor', true) is not distinct from 'kept'"
        unlock = "select pg_advisory_unlock(hashtextextended('outbox_worker.doctor', pg_backend_pid()))"
        return Session(
            connected_pid=first.info.backend_pid,
            pids=first_pids,
            other_pids=second_pids,
            keeps_options=_ask(first, sent),
            keeps_settings=_ask(first, kept),
            keeps_locks=_ask(first, unlock),
            hears=len(set(first_pids)) == 1 and _hears(first, second),  # or it would wait in vain
        )


def max_prepared_transactions(connection: Connection) -> int:
    """Return how many transactions may be prepared at once."""
    return int(connection.scalar(text("select current_setting('max_prepared_transactions')")) or 0)


def bypasses(connection: Connection) -> tuple[str, list[tuple[str, str]]]:
    """Return session_replication_role, and where it is set so that triggers do not fire."""
    current = str(connection.scalar(text("select current_setting('session_replication_role')")))
    return current, [(row[0], row[1]) for row in connection.execute(_BYPASSES)]


def holders(connection: Connection, older_than: timedelta) -> tuple[list[Holder], int]:
    """Return who holds an old snapshot, and how many sessions cannot be seen."""
    found = [Holder(*row) for row in connection.execute(_HOLDERS, {"older_than": older_than})]
    return found, connection.scalar(_HIDDEN) or 0


def autovacuum(connection: Connection) -> tuple[bool, list[str]]:
    """Return whether it is on, and the tables of the outbox for which it is not."""
    is_on = connection.scalar(text("select current_setting('autovacuum')::boolean"))
    return bool(is_on), list(connection.scalars(_UNTENDED))


def capture_failures(connection: Connection) -> tuple[int, tuple[str, str] | None]:
    """Count the captures that are not repaired, and return event id and message of the first."""
    rows = connection.execute(
        text(
            "select count(*) over (), kind || ':' || coalesce(source_id, '?'), message from outbox.capture_failure"
            " where repaired_at is null order by capture_failure_id limit 1"
        )
    ).all()
    return (rows[0][0], (rows[0][1], rows[0][2])) if rows else (0, None)


def unidentified(connection: Connection) -> timedelta:
    """Return how long the oldest order with contact data waits to be identified."""
    query = text("""
        select clock_timestamp() - event.recorded_at
        from outbox.addressee addressee join outbox.event event on event.event_id = addressee.event_id
        where addressee.identified_at is null order by addressee.delivery_id limit 1
    """)
    return connection.scalar(query) or timedelta(0)


def routes(connection: Connection) -> list[tuple[str, str, bool]]:
    """Return kind, operation, and whether it is enabled."""
    query = text("select kind, operation, enabled from outbox.route order by kind, operation")
    return [(row[0], row[1], row[2]) for row in connection.execute(query)]


def columns(connection: Connection) -> list[Column]:
    """Return the columns of the views of schema integration."""
    return [Column(*row) for row in connection.execute(_COLUMNS)]


def functions(connection: Connection) -> list[str]:
    """Return the functions of schema integration that this role may execute."""
    return list(connection.scalars(_FUNCTIONS))


def triggers(connection: Connection) -> list[Trigger]:
    """Return the capture functions with their triggers."""
    return [Trigger(*row) for row in connection.execute(_TRIGGERS)]


def facts(connection: Connection) -> FactSample:
    """Look through facts of the last days, or some of them."""
    return FactSample(*connection.execute(_FACTS, {"days": SAMPLE_DAYS, "count_max": SAMPLE_MAX}).one())


def phones(connection: Connection) -> list[str | None]:
    """Return the phones of some customers."""
    query = text("select phone::text from integration.customer limit :count_max")
    return list(connection.scalars(query, {"count_max": SAMPLE_MAX}))


def samples(connection: Connection) -> list[Sample]:
    """Return the latest fact of each kind that occurred within the last days."""
    return [Sample(*row) for row in connection.execute(_SAMPLES, {"days": SAMPLE_DAYS})]


def _table_rights(connection: Connection, rights: Mapping[str, Sequence[str]]) -> dict[str, bool]:
    pairs = [(privilege, name) for privilege, names in rights.items() for name in names]
    parameters = {"privileges": [pair[0] for pair in pairs], "names": [pair[1] for pair in pairs]}
    return {row[0]: row[1] for row in connection.execute(_RIGHTS, parameters)}


def _plain(conninfo: str) -> psycopg.Connection[Any]:
    """Connect without SQLAlchemy: in autocommit every statement is a transaction of its own."""
    name, sent = "outbox-worker doctor", "-c outbox_worker.sent=yes"
    return psycopg.connect(conninfo, autocommit=True, connect_timeout=5, application_name=name, options=sent)


def _pids(first: psycopg.Connection[Any], second: psycopg.Connection[Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Have both hold their processes and let them go in both orders, so that a pooler hands each one the other's.

    After one order it does if it hands out what was idle longest, after the other if what was idle last.
    """
    seen: tuple[list[int], list[int]] = ([_pid(first)], [_pid(second)])
    for one, other in ((first, second), (second, first)):
        for connection in (one, other):
            connection.execute("begin")
            connection.execute("select 1")
        one.execute("commit")
        other.execute("commit")
        seen[0].append(_pid(first))
        seen[1].append(_pid(second))
    return tuple(seen[0]), tuple(seen[1])


def _pid(connection: psycopg.Connection[Any]) -> int:
    return int(connection.execute("select pg_backend_pid()").fetchall()[0][0])


def _ask(connection: psycopg.Connection[Any], query: LiteralString) -> bool:
    return bool(connection.execute(query).fetchall()[0][0])


def _hears(listener: psycopg.Connection[Any], speaker: psycopg.Connection[Any]) -> bool:
    speaker.execute("notify outbox_worker_doctor")
    return bool(list(listener.notifies(timeout=HEARD_S_MAX, stop_after=1)))
