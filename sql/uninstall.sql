-- Takes everything of outbox-worker out of this database: the capture triggers (they hang on functions of schema
-- integration and go with them), the mapping, the outbox, identity. The accounting tables stay as they were.
--   psql --single-transaction --set ON_ERROR_STOP=1 --file sql/uninstall.sql
-- Who may run it: a superuser, or who installed it. The roles go too, unless another database of this server uses them.
-- It must have the accounting tables to itself for a moment, and gives up when it does not get that within two seconds.
set local lock_timeout = '2s';
set local search_path = pg_catalog, pg_temp;
drop schema if exists integration cascade;
drop schema if exists outbox cascade;
drop schema if exists identity cascade;
-- The rights on accounting tables that a mapping granted to the roles of the outbox.
do $$
declare
    role_name text;
begin
    foreach role_name in array array['outbox_owner', 'outbox_worker', 'outbox_identify'] loop
        if exists (select from pg_catalog.pg_roles where rolname = role_name) then
            execute format('drop owned by %I', role_name);
            begin
                execute format('drop role %I', role_name);
            exception when dependent_objects_still_exist then
                raise notice 'role % stays: another database of this server uses it', role_name;
            end;
        end if;
    end loop;
end
$$;
