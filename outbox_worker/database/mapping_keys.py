"""The types that accounting's ids have: our tables keep them as text, its indexes want them as they are."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from outbox_worker.errors import SchemaMismatch

_TYPES = text("""
select relation.relname, format_type(attribute.atttypid, null)
from pg_attribute attribute join pg_class relation on relation.oid = attribute.attrelid
where relation.relnamespace = to_regnamespace('integration') and attribute.attname = 'customer_id'
  and relation.relname in ('customer', 'purchase_event', 'bonus_balance_event') and not attribute.attisdropped
""")


@dataclass(frozen=True, slots=True)
class MappingKeys:
    """The types of `customer_id` in the views of a mapping, as SQL writes them."""

    customer: str
    purchase: str
    balance: str


def read(connection: Connection) -> MappingKeys:
    """Return the types. Raises SchemaMismatch where a view is missing."""
    found: dict[str, str] = {row[0]: row[1] for row in connection.execute(_TYPES)}
    try:
        return MappingKeys(found["customer"], found["purchase_event"], found["bonus_balance_event"])
    except KeyError as missing:
        raise SchemaMismatch(
            f"schema integration lacks view {missing.args[0]}, or its column customer_id; "
            "sql/accounting/reference_mapping.sql shows it, and `outbox-worker doctor` looks at the whole mapping"
        ) from None
