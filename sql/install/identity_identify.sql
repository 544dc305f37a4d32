-- Identify: whose contact details are these? One call, one answer, as the service gives it:
--   {"contact": {"primaryContactId": 1, "emails": [...], "phoneNumbers": [...], "secondaryContactIds": [...]}}
--
-- `phone_normal` is the phone in E.164, which SQL cannot work out; outbox-worker does, with its configured region. Without
-- it the function works as well, and compares the phone as given: one written as +380501234567 meets those that came in
-- another spelling with their normal form.
--
--   nothing known                        a new primary
--   one value known, the other new       a new secondary of that cluster
--   both known, in one cluster           nothing is written
--   both known, in two clusters          they are joined: the older primary stays
--
-- Why it is right under any interleaving, and never ends in a deadlock. Locks in this order, none after a later one:
--   1. what brings nothing new is answered by one statement, from one snapshot, with no lock at all;
--   2. an addition takes identity's lock shared: no cluster is joined, parted or erased meanwhile;
--   3. then locks on its two values, in order of their keys: nobody else adds one of them meanwhile;
--   4. then looks again, for what others committed while it waited, and takes the row of the primary before it inserts:
--      additions to one cluster go one after another, and each answers with all before it;
--   5. a join takes identity's lock exclusively, holding nothing else (an addition that turns out to be a join gives its
--      locks back first: those of a subtransaction that fails are released), and looks again.
-- identity.add takes the same locks for many at once; it waits for none of them, and so stands in no circle of those that do.
-- To look again means to see what was committed meanwhile, so whatever is written needs READ COMMITTED. One call in a
-- transaction of its own: a second in the same transaction comes with the locks of the first, and two such can meet in a
-- deadlock.
-- Plans go by index whatever the statistics say: a session may have planned when the table was empty.
create or replace function identity.identify(email text, phone text, phone_normal text default null) returns json
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    given_email constant text := identity.given(identify.email);
    given_phone constant text := identity.given(identify.phone);
    given_normal constant text := case when given_phone is not null then identity.given(identify.phone_normal) end;
    email_key constant text := identity.email_key(given_email);
    phone_key constant text := coalesce(given_normal, given_phone);
    email_lock constant bigint := hashtextextended('e ' || email_key, 0);
    phone_lock constant bigint := hashtextextended('p ' || phone_key, 0);
    found record;
    is_join boolean;
    cluster_id bigint;
begin
    if email_key is null and phone_key is null then
        raise invalid_parameter_value using
            message = 'neither an e-mail address nor a phone number was given', hint = 'Give at least one of them.';
    end if;
    found := identity.look(email_key, phone_key);
    if found.answer is not null then
        return found.answer;
    end if;
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise invalid_transaction_state using
            message = 'something new can be identified only in a transaction that is READ COMMITTED';
    end if;

    is_join := found.of_email <> found.of_phone;
    if is_join is not true then
        begin
            perform pg_advisory_xact_lock_shared(452655935092);
            perform pg_advisory_xact_lock(least(email_lock, phone_lock));
            perform pg_advisory_xact_lock(greatest(email_lock, phone_lock));
            found := identity.look(email_key, phone_key);
            if found.of_email <> found.of_phone then
                raise exception using errcode = 'OWJOI';
            end if;
        exception when sqlstate 'OWJOI' then
            is_join := true;
        end;
    end if;
    if is_join then
        perform identity.lock_all();
        found := identity.look(email_key, phone_key);
    end if;
    if found.answer is not null then
        return found.answer;
    end if;

    if found.of_email <> found.of_phone then
        cluster_id := identity.join_clusters(found.of_email, found.of_phone);
        return identity.cluster(cluster_id);
    end if;
    cluster_id := coalesce(found.of_email, found.of_phone);
    if cluster_id is not null then
        perform from identity.contact c where c.contact_id = cluster_id for no key update;
    end if;
    insert into identity.contact (phone_number, phone_normal, email, linked_id, link_precedence)
    values (given_phone, given_normal, given_email, cluster_id,
            case when cluster_id is null then 'primary' else 'secondary' end)
    returning primary_id into cluster_id;
    return identity.keep(cluster_id);
end
$$;
