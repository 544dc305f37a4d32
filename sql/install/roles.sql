-- The two roles of the outbox. Both are group roles that nobody logs in as.
--   outbox_owner   owns schemas outbox and integration; the capture functions run with its rights
--   outbox_worker  what the daemon needs; grant it to the role that the daemon logs in as
-- Roles belong to the whole server, so another database may have made them, or be making them at this moment.
do $$
declare
    role_name text;
begin
    foreach role_name in array array['outbox_owner', 'outbox_worker'] loop
        if not exists (select from pg_catalog.pg_roles where rolname = role_name) then
            begin
                execute pg_catalog.format('create role %I nologin', role_name);
            exception when duplicate_object or unique_violation then
                null;  -- another installation made it first
            end;
        end if;
    end loop;
end
$$;
