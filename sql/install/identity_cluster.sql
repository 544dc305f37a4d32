-- The answer for a cluster, by its primary: ready made if it is large. STABLE, so that it sees what its caller sees, and a
-- statement that finds a cluster and describes it does both in one snapshot.
create or replace function identity.cluster(primary_id bigint) returns json
language plpgsql stable
as $$
declare
    answer json;
begin
    select l.answer into answer from identity.large_cluster l where l.primary_id = cluster.primary_id;
    if answer is null then
        answer := (identity.compose(cluster.primary_id)).answer;
    end if;
    return answer;
end
$$;
