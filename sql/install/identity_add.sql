-- Add: brings in those of many that are additions, in one transaction and by one insert, and returns what identify answers to
-- them. The others (what needs a join, and what somebody else is at) get no row, and are for identity.identify. A service that
-- is told much adds for all who wait at once: one commit for many, and a quarter of the work. Arguments are those of
-- identity.identify, one array for each; of those that share a value the first is added.
--
-- Why it is right: it takes identify's locks (identity_identify.sql), each before the look that relies on it. Why it never ends
-- in a deadlock, though it takes those of many: it waits for none of them. What it cannot have at once it leaves out, and who
-- waits for it waits for a commit that nothing holds up.
create or replace function identity.add(emails text[], phones text[], phone_normals text[])
returns table (place bigint, answer json)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    places bigint[];
    contacts bigint[];
    primaries bigint[];
    held bigint[];
begin
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted')
       or not pg_try_advisory_xact_lock_shared(452655935092) then
        return;
    end if;
    -- Nobody else adds one of these values meanwhile, nor does another of these.
    places := array(
        select t.place
        from (
            select a.place, a.email_key, a.phone_key,
                   row_number() over (partition by a.email_key order by a.place) as email_turn,
                   row_number() over (partition by a.phone_key order by a.place) as phone_turn
            from identity.asked(emails, phones, phone_normals) a
            offset 0  -- so that locks are taken of none but the first
        ) t
        where (t.email_key is null or t.email_turn = 1) and (t.phone_key is null or t.phone_turn = 1)
          and pg_try_advisory_xact_lock(hashtextextended('e ' || t.email_key, 0)) is not false
          and pg_try_advisory_xact_lock(hashtextextended('p ' || t.phone_key, 0)) is not false);
    -- What has something new is no join; all that is known of it is in one cluster.
    select array_agg(f.place), array_agg(f.contact_id), array_agg(coalesce(f.of_email, f.of_phone, f.contact_id))
    into places, contacts, primaries
    from (
        select a.place, a.email_key, a.phone_key, nextval('identity.contact_contact_id_seq') as contact_id,
               (select c.primary_id from identity.contact c
                where c.email_key = a.email_key and c.deleted_at is null limit 1) as of_email,
               (select c.primary_id from identity.contact c
                where c.phone_key = a.phone_key and c.deleted_at is null limit 1) as of_phone
        from identity.asked(emails, phones, phone_normals) a where a.place = any (places)
        offset 0
    ) f
    where f.email_key is not null and f.of_email is null or f.phone_key is not null and f.of_phone is null;
    -- Nobody else adds to one of these clusters meanwhile.
    held := array(
        select c.contact_id from identity.contact c where c.contact_id = any (primaries) for no key update skip locked);
    insert into identity.contact (contact_id, phone_number, phone_normal, email, linked_id, link_precedence)
    overriding system value
    select n.contact_id, a.phone, a.phone_normal, a.email, nullif(n.primary_id, n.contact_id),
           case n.primary_id when n.contact_id then 'primary' else 'secondary' end
    from unnest(places, contacts, primaries) n (place, contact_id, primary_id)
    join identity.asked(emails, phones, phone_normals) a using (place)
    where n.primary_id = n.contact_id or n.primary_id = any (held);
    return query
    select n.place, identity.keep(n.primary_id)
    from unnest(places, contacts, primaries) n (place, contact_id, primary_id)
    where n.primary_id = n.contact_id or n.primary_id = any (held);
end
$$;
