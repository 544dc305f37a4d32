-- Has identity to itself until the transaction ends: what joins, parts or deletes goes on alone. The key is the word `ident`
-- in ASCII. Additions hold the same lock shared (identity_identify.sql). Nobody who only asks waits for it.
create or replace function identity.lock_all() returns void
language plpgsql volatile
as $$
begin
    perform pg_advisory_xact_lock(452655935092);
end
$$;
