"""What a database holds, as text: everything that an installation makes, and what it might have left elsewhere."""

from __future__ import annotations

from tests.sql.till import Session

SCHEMAS = ("outbox", "identity", "integration", "accounting")

# Rights that nobody changed are written out, for a grant that was taken back leaves the same rights in other words.
STATEMENTS = {
    "schema": "select nspname, nspowner::regrole::text, {acl} from pg_namespace, lateral"
    " (select coalesce(nspacl, acldefault('n', nspowner)) as rights) r where nspname = any (%(schemas)s)",
    "relation": "select oid::regclass::text, relkind, relowner::regrole::text, reloptions, relrowsecurity, {acl}"
    " from pg_class, lateral (select coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::\"char\","
    " relowner)) as rights) r where relnamespace = any (%(spaces)s) and relkind <> 'i'",
    "column": "select attrelid::regclass::text, attname, format_type(atttypid, atttypmod), attnotnull, attidentity,"
    " attcollation::regcollation::text, attacl::text, pg_get_expr(adbin, adrelid) from pg_attribute"
    " join pg_class c on c.oid = attrelid left join pg_attrdef on adrelid = attrelid and adnum = attnum"
    " where relnamespace = any (%(spaces)s) and relkind in ('r', 'v') and attnum > 0 and not attisdropped",
    "constraint": "select conname, conrelid::regclass::text, contypid::regtype::text, pg_get_constraintdef(oid)"
    " from pg_constraint where connamespace = any (%(spaces)s)",
    "index": "select pg_get_indexdef(indexrelid) from pg_index join pg_class c on c.oid = indrelid"
    " where relnamespace = any (%(spaces)s)",
    "view": "select oid::regclass::text, pg_get_viewdef(oid) from pg_class"
    " where relkind = 'v' and relnamespace = any (%(spaces)s)",
    "trigger": "select pg_get_triggerdef(t.oid), tgenabled from pg_trigger t join pg_class c on c.oid = tgrelid"
    " where relnamespace = any (%(spaces)s) and not tgisinternal",
    "function": "select pg_get_functiondef(oid), proowner::regrole::text, {acl} from pg_proc, lateral"
    " (select coalesce(proacl, acldefault('f', proowner)) as rights) r where pronamespace = any (%(spaces)s)",
    "domain": "select oid::regtype::text, typbasetype::regtype::text, typowner::regrole::text from pg_type"
    " where typtype = 'd' and typnamespace = any (%(spaces)s)",
    "default privilege": "select defaclrole::regrole::text, defaclnamespace::regnamespace::text, defaclacl::text"
    " from pg_default_acl",
    "event trigger": "select evtname from pg_event_trigger",
    "extension": "select extname from pg_extension",
    "other schema": "select nspname from pg_namespace where nspname !~ '^pg_' and nspname <> all (%(schemas)s)",
}
ACL = "array(select a::text from unnest(rights) a order by 1)"
CONTENTS = ("route", "destination")


def catalogue(session: Session, *schemas: str) -> list[str]:
    """Return a line for each thing, in order."""
    named = list(schemas or SCHEMAS)
    present = [oid for (oid,) in session.execute("select oid from pg_namespace where nspname = any (%s)", [named])]
    lines = []
    for what, statement in STATEMENTS.items():
        rows = session.execute(statement.replace("{acl}", ACL), {"schemas": named, "spaces": present})
        lines += [f"{what}: {row}" for row in rows]
    if "outbox" in named and session.execute("select to_regclass('outbox.route')").fetchone() != (None,):
        for table in CONTENTS:
            lines += [f"{table}: {row}" for row in session.execute(f"select r::text from outbox.{table} r")]
    return sorted(lines)


def identities(session: Session) -> list[tuple[str, int, int]]:
    """Return the tables and indexes with their numbers and files, which stay when a thing stays."""
    rows = session.execute(
        "select oid::regclass::text, oid, relfilenode from pg_class"
        " where relnamespace::regnamespace::text = any (%s) and relkind in ('r', 'i', 'S') order by 1",
        [list(SCHEMAS)],
    )
    return [(name, oid, file) for name, oid, file in rows]
