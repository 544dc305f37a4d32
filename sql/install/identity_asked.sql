-- Asked: what many ask at once, one row for each in the order given, with what it is compared by. A value that is missing, or
-- counts for nothing, is null. Read by identity.known and identity.add; arguments are those of identity.identify, one array
-- for each. The planner puts it into the statement that reads it.
create or replace function identity.asked(emails text[], phones text[], phone_normals text[])
returns table (place bigint, email text, phone text, phone_normal text, email_key text, phone_key text)
language sql immutable parallel safe
as $$
    select g.place, g.email, g.phone, g.phone_normal, identity.email_key(g.email), coalesce(g.phone_normal, g.phone)
    from (
        select q.place, identity.given(q.email) as email, identity.given(q.phone) as phone,
               case when identity.given(q.phone) is not null then identity.given(q.phone_normal) end as phone_normal
        from unnest(emails, phones, phone_normals) with ordinality q (email, phone, phone_normal, place)
        offset 0  -- so that each is worked out once
    ) g
$$;
