-- Known: what identify answers to those of many questions that bring nothing new, in one snapshot and without any lock; the
-- others get null, and are for identity.identify. A service that is asked much asks for all who wait at once: one statement
-- for many costs a fraction of many. Arguments are those of identity.identify, one array for each.
create or replace function identity.known(emails text[], phones text[], phone_normals text[])
returns table (place bigint, answer json)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
begin
    return query
    select a.place, (identity.look(a.email_key, a.phone_key)).answer from identity.asked(emails, phones, phone_normals) a;
end
$$;
