-- Takes everything of outbox-worker out of this database: the capture triggers (they hang on functions of schema
-- integration and go with them), the mapping, the outbox. The accounting tables stay as they were.
--   psql --single-transaction --set ON_ERROR_STOP=1 --file sql/uninstall.sql
set local lock_timeout = '2s';
drop schema if exists integration cascade;
drop schema if exists outbox cascade;
-- The rights on accounting tables that a mapping granted to the roles of the outbox.
do $$
declare
    role_name text;
begin
    foreach role_name in array array['outbox_owner', 'outbox_worker'] loop
        if exists (select from pg_catalog.pg_roles where rolname = role_name) then
            execute pg_catalog.format('drop owned by %I', role_name);
            begin
                execute pg_catalog.format('drop role %I', role_name);
            exception when dependent_objects_still_exist then
                raise notice 'role % stays: another database of this server uses it', role_name;
            end;
        end if;
    end loop;
end
$$;
