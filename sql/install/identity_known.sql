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
    select asked.place, (identity.look(asked.email_key, asked.phone_key)).answer
    from (
        select q.place, identity.email_key(identity.given(q.email)) as email_key,
               case when identity.given(q.phone) is not null
                    then coalesce(identity.given(q.phone_normal), identity.given(q.phone)) end as phone_key
        from unnest(emails, phones, phone_normals) with ordinality q (email, phone, phone_normal, place)
        offset 0  -- so that each key is worked out once
    ) asked;
end
$$;
