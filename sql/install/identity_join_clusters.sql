-- Joins two clusters: the older primary stays, and all contacts of the other cluster point directly to it. Returns the
-- primary that stays. Who calls it holds identity's lock exclusively.
create or replace function identity.join_clusters(one bigint, other bigint) returns bigint
language plpgsql volatile
as $$
declare
    older bigint;
begin
    select c.contact_id into strict older from identity.contact c
    where c.contact_id in (one, other) order by c.created_at, c.contact_id limit 1;
    -- The trigger brings both answers up to date.
    update identity.contact c set linked_id = older, link_precedence = 'secondary', updated_at = clock_timestamp()
    where c.primary_id = case older when one then other else one end and c.contact_id <> older;
    return older;
end
$$;
