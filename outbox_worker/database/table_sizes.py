"""How large the tables of the outbox are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import Connection

# Planned rows are vacuum's estimate, -1 where it has never been there.
_SIZES = """
select it.relname, pg_total_relation_size(it.oid), greatest(it.reltuples, 0)::bigint
from pg_class it
where it.relnamespace = 'outbox'::regnamespace and it.relkind = 'r'
order by pg_total_relation_size(it.oid) desc, it.relname
"""


@dataclass(frozen=True, slots=True)
class TableSize:
    """A table of ours: what it takes on disk with its indexes, and about how many rows it has."""

    table: str
    size_bytes: int
    row_estimate: int


def read(connection: Connection[Any]) -> list[TableSize]:
    """Return the sizes of our tables, the largest first."""
    return [TableSize(*row) for row in connection.execute(_SIZES)]
