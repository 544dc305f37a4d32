-- The version of schema outbox. The worker compares it with its own and refuses to start on a mismatch.
create or replace function outbox.schema_version() returns integer language sql immutable parallel safe return 1;
