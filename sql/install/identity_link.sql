-- A person says that two contacts are the same customer's: their clusters are joined. Returns the answer for what they are
-- now. Raises no_data_found for a contact that is not there or deleted.
create or replace function identity.link(one bigint, other bigint) returns json
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    primaries bigint[];
begin
    perform identity.lock_all();
    select array_agg(c.primary_id) into primaries
    from identity.contact c where c.contact_id in (one, other) and c.deleted_at is null;
    if one = other or cardinality(primaries) is distinct from 2 then
        raise no_data_found using message = format('contacts %s and %s are not two living contacts', one, other);
    end if;
    if primaries[1] <> primaries[2] then
        perform identity.join_clusters(primaries[1], primaries[2]);
    end if;
    return (select identity.cluster(c.primary_id) from identity.contact c where c.contact_id = one);
end
$$;
