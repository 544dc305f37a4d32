-- Takes a person out of what the customer sync keeps: the link to the client of InBoost, the directory of phones, clients
-- that could not be stored. `phones` are E.164. Returns how many rows went.
-- Nothing of it protects from duplicates: events keep their ids, and a link that is made anew finds the history known. What
-- accounting or InBoost still have comes back with the next sync, so they are to forget first.
create or replace function outbox.erase_clients(phones text[]) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    erased_count bigint;
begin
    with links as (
        delete from outbox.client where phone = any (erase_clients.phones) returning 1
    ), entries as (
        delete from outbox.customer_phone where phone = any (erase_clients.phones) returning 1
    ), documents as (
        delete from outbox.unstored_client u
        where u.phone = any (erase_clients.phones) or exists (
            select from unnest(erase_clients.phones) it (phone)
            where strpos(regexp_replace(u.document::text, '\D', '', 'g'), right(it.phone, 9)) > 0)
        returning 1
    )
    select count(*) into erased_count
    from (table links union all table entries union all table documents) gone;
    return erased_count;
end
$$;
