-- After contacts were updated, by whomever: a cluster whose primary is deleted gets its oldest living secondary for its
-- primary, in the same transaction (the deleted one is linked to it, so that all of a person is found together), and answers that were kept ready are brought up to date.
-- Its own update fires it once more, and then there is nothing left to mend.
create or replace function identity.mend() returns trigger
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
declare
    orphaned bigint;
    heir bigint;
begin
    for orphaned in
        select n.contact_id from after_it n join before_it o using (contact_id)
        where n.deleted_at is not null and o.deleted_at is null
    loop
        select c.contact_id into heir from identity.contact c
        where c.primary_id = orphaned and c.deleted_at is null order by c.created_at, c.contact_id limit 1;
        continue when heir is null;
        update identity.contact c
        set linked_id = nullif(heir, c.contact_id), updated_at = clock_timestamp(),
            link_precedence = case c.contact_id when heir then 'primary' else 'secondary' end
        where c.primary_id = orphaned;
    end loop;
    perform identity.keep(it.primary_id)
    from (select primary_id from before_it union select primary_id from after_it) it;
    return null;
end
$$;

do $$
begin
    if not exists (select from pg_trigger where tgrelid = 'identity.contact'::regclass and tgname = 'mend') then
        create trigger mend after update on identity.contact
            referencing old table as before_it new table as after_it
            for each statement execute function identity.mend();
    end if;
end
$$;
