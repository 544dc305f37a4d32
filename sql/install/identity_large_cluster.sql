-- Large cluster: what is answered for a cluster of more than a hundred contacts, ready to be sent. To put ten thousand
-- contacts together takes a hundred times as long as to read them here.
-- Written by identity.keep in the transaction that changes the cluster, while nobody else changes it; so it is never out
-- of date. Read by identity.cluster.
-- Unlogged, for it is a copy, and a change of the cluster writes the whole of it: the write-ahead log is accounting's. After
-- a crash the table is empty, and answers are slow until the cluster changes. Not compressed, for reading is what counts.
create unlogged table if not exists identity.large_cluster (
    primary_id bigint primary key,
    answer     json not null
);

do $$
begin
    if exists (
        select from pg_attribute
        where attrelid = 'identity.large_cluster'::regclass and attname = 'answer' and attstorage <> 'e'
    ) then
        alter table identity.large_cluster alter column answer set storage external;
    end if;
end
$$;
