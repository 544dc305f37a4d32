"""The tables of schema outbox as SQLAlchemy has them. What each column means stands in `sql/install/`.

The relay's own statements are written out in `statements` and need none of this.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    literal_column,
)
from sqlalchemy.types import UserDefinedType

_metadata = MetaData(schema="outbox")


class JsonText(UserDefinedType[str]):
    """A column of type json, given as text: SQLAlchemy's own type would parse it, and numbers would lose their scale.

    To read one, cast it to Text.
    """

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "json"


def _instant(name: str) -> Column[Any]:
    return Column(name, DateTime(timezone=True))


event = Table(
    "event",
    _metadata,
    Column("event_id", Text, primary_key=True),
    Column("sequence", BigInteger),
    Column("kind", Text),
    Column("source_id", Text),
    Column("customer_id", Text),
    _instant("occurred_at"),
    _instant("recorded_at"),
    Column("historic", Boolean),
    Column("payload", JsonText),
)
delivery = Table(
    "delivery",
    _metadata,
    Column("lane", BigInteger, primary_key=True),
    Column("delivery_id", BigInteger, primary_key=True),
    Column("event_id", Text),
    Column("operation", Text),
    Column("destination", Text),
    Column("state", Text),
    _instant("due_at"),
    Column("attempt_count", Integer),
    Column("try_count", Integer),
    Column("miss_count", Integer),
    Column("reason", Text),
)
addressee = Table(
    "addressee",
    _metadata,
    Column("event_id", Text, primary_key=True),
    Column("operation", Text, primary_key=True),
    Column("lane", BigInteger),
    Column("delivery_id", BigInteger),
    Column("customer_id", Text),
    _instant("identified_at"),
    Column("contact_id", BigInteger),
    Column("phone", Text),
    Column("chosen_as", Text),
    _instant("chosen_at"),
)
claim = Table(
    "claim",
    _metadata,
    Column("lane", BigInteger, primary_key=True),
    Column("delivery_id", BigInteger),
    Column("worker", Uuid),
    _instant("claimed_at"),
)
attempt = Table(
    "attempt",
    _metadata,
    Column("event_id", Text, primary_key=True),
    Column("operation", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("purpose", Text),
    Column("worker", Uuid),
    _instant("begun_at"),
    Column("took_us", Integer),
    Column("outcome", Text),
    Column("evidence", Text),
    Column("status", SmallInteger),
    Column("verdict", Text),
    Column("reason", Text),
    Column("digest", LargeBinary),
    Column("excerpt", Text),
)
act = Table(
    "act",
    _metadata,
    Column("act_id", BigInteger, primary_key=True),
    _instant("acted_at"),
    Column("act", Text),
    Column("event_id", Text),
    Column("operation", Text),
    Column("destination", Text),
    Column("round", Text),
    Column("actor", Text),
    Column("recorder", Text),
    Column("reason", Text),
    Column("detail", JsonText),
)
duplicate = Table(
    "duplicate",
    _metadata,
    Column("event_id", Text),
    _instant("refused_at"),
    Column("historic", Boolean),
    Column("recorder", Text),
)
destination = Table(
    "destination",
    _metadata,
    Column("destination", Text, primary_key=True),
    _instant("paused_at"),
    Column("pause_reason", Text),
    Column("failure_count", Integer),
    _instant("rest_until"),
    Column("rate_max", Float),
)
route = Table(
    "route",
    _metadata,
    Column("kind", Text, primary_key=True),
    Column("operation", Text, primary_key=True),
    Column("destination", Text),
    Column("historic", Boolean),
    Column("enabled", Boolean),
)
capture_failure = Table(
    "capture_failure",
    _metadata,
    Column("capture_failure_id", BigInteger, primary_key=True),
    Column("kind", Text),
    Column("source_id", Text),
    _instant("failed_at"),
    Column("message", Text),
    _instant("repaired_at"),
)
contact = Table(
    "contact",
    MetaData(schema="identity"),
    Column("contact_id", BigInteger, primary_key=True),
    Column("phone_number", Text),
    Column("email", Text),
    Column("linked_id", BigInteger),
    _instant("created_at"),
    _instant("deleted_at"),
    Column("phone_normal", Text),
    Column("email_key", Text),
    Column("phone_key", Text),
    Column("primary_id", BigInteger),
)
# PostgreSQL's infinity has no place in a datetime.
rest_until = func.nullif(destination.c.rest_until, literal_column("'-infinity'::timestamptz")).label("rest_until")


def lane_of(destination: Any, customer_id: Any) -> Any:
    """The lane of a customer at a destination, by the function that the door uses."""
    return func.outbox.lane_of(destination, customer_id)
