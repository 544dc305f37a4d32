-- A person wants to be forgotten: all contacts of the cluster are deleted and emptied, those deleted before among them.
-- Returns how many. What the outbox has of them is outbox.erase_events' to take out, in the same transaction.
create or replace function identity.erase(primary_id bigint) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    erased_count bigint;
begin
    perform identity.lock_all();
    update identity.contact c
    set email = null, phone_number = null, phone_normal = null, updated_at = clock_timestamp(),
        deleted_at = coalesce(c.deleted_at, clock_timestamp())
    where c.primary_id = erase.primary_id;
    get diagnostics erased_count = row_count;
    return erased_count;
end
$$;
