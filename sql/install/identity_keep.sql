-- Keeps the answer for a cluster ready if it is large, and returns it. Called after each change of a cluster, under a lock
-- that keeps others from changing it: the row lock on its primary, or identity's advisory lock held exclusively.
create or replace function identity.keep(primary_id bigint) returns json
language plpgsql volatile
as $$
declare
    composed record;
begin
    composed := identity.compose(keep.primary_id);
    if composed.contact_count > 100 then
        insert into identity.large_cluster as l (primary_id, answer) values (keep.primary_id, composed.answer)
        on conflict on constraint large_cluster_pkey do update set answer = excluded.answer;
    else
        delete from identity.large_cluster l where l.primary_id = keep.primary_id;
    end if;
    return composed.answer;
end
$$;
