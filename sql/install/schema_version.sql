-- The version of schema outbox. The worker compares it with its own and refuses to start on a mismatch.
-- It grows with each change of a table that is there already, for which sql/upgrade then has a file; that file says the new
-- number too, and so lets the rest of the installation pass here.
do $$
declare
    ours constant integer := 2;
    theirs integer;
begin
    if to_regprocedure('outbox.schema_version()') is null then
        return;
    end if;
    theirs := outbox.schema_version();
    if theirs <> ours then
        raise object_not_in_prerequisite_state using message = format(
            'the database has version %s of schema outbox, and these files install version %s', theirs, ours),
            hint = case when theirs < ours then 'Run `outbox-worker schema upgrade`, or the files of sql/upgrade by psql.'
                        else 'Install the newer outbox-worker.' end;
    end if;
end
$$;
create or replace function outbox.schema_version() returns integer language sql immutable parallel safe return 2;
