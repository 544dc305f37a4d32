"""Customers whose deliveries wait because InBoost does not know the client, where the worker is to add it."""

from __future__ import annotations

from sqlalchemy import Connection, text

# Whom a release has not helped is not tried again for an hour, so that an answer that contradicts itself costs little.
_CUSTOMERS = text("""
select event.customer_id, (array_agg(event.payload ->> 'phone' order by delivery.delivery_id desc))[1]
from outbox.delivery delivery
join outbox.event event on event.event_id = delivery.event_id
join outbox.attempt attempt
    on attempt.event_id = delivery.event_id and attempt.operation = delivery.operation
    and attempt.number = delivery.attempt_count
where delivery.state = 'waiting' and attempt.outcome = 'unknown_client' and event.customer_id is not null
  and not exists (
      select from outbox.act act
      where act.event_id = delivery.event_id and act.act = 'release'
        and act.acted_at > clock_timestamp() - interval '1 hour')
group by event.customer_id
order by min(delivery.delivery_id)
limit :count_max
""")
_IS_OPEN = text("""
select paused_at is null and rest_until <= clock_timestamp() from outbox.destination where destination = 'api'
""")


def waiting(connection: Connection, count_max: int) -> dict[str, str | None]:
    """Return the customers, those first that have waited longest, with the phone that their events have."""
    return {row[0]: row[1] for row in connection.execute(_CUSTOMERS, {"count_max": count_max})}


def is_open(connection: Connection) -> bool:
    """Tell whether anything may be sent to InBoost's API now."""
    return bool(connection.scalar(_IS_OPEN))
