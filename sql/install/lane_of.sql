-- The lane of a customer at a destination. Two lanes that meet in one hash are merely kept in order together.
create or replace function outbox.lane_of(destination text, customer_id text) returns bigint
language sql immutable parallel safe
return pg_catalog.hashtextextended(destination || ' ' || coalesce(customer_id, ''), 0);
