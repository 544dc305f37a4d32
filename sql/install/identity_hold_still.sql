-- Before contacts are updated or deleted, by whomever: identity's lock is taken exclusively, and before any row's, so that
-- nobody adds to a cluster that is being changed, and nobody waits in a circle. Additions only insert, and fire nothing.
create or replace function identity.hold_still() returns trigger
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform identity.lock_all();
    return null;
end
$$;

do $$
begin
    if not exists (
        select from pg_trigger where tgrelid = 'identity.contact'::regclass and tgname = 'hold_still'
    ) then
        create trigger hold_still before update or delete on identity.contact
            for each statement execute function identity.hold_still();
    end if;
end
$$;
