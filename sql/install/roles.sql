-- The roles of the outbox. All are group roles that nobody logs in as.
--   outbox_owner    owns schemas outbox, identity and integration; the capture functions run with its rights
--   outbox_worker   what the daemon needs; grant it to the role that the daemon logs in as
--   outbox_identify what `outbox-worker web` needs: to call identity.identify
-- Roles belong to the whole server, so another database may have made them, or be making them at this moment.
-- Who installs must be able to become the owner: a superuser is, another is made a member.
do $$
declare
    become constant text := case when current_setting('server_version_num')::integer < 160000 then 'MEMBER' else 'SET' end;
    role_name text;
begin
    foreach role_name in array array['outbox_owner', 'outbox_worker', 'outbox_identify'] loop
        if not exists (select from pg_catalog.pg_roles where rolname = role_name) then
            begin
                execute format('create role %I nologin', role_name);
            exception when duplicate_object or unique_violation then
                null;  -- another installation made it first
            end;
        end if;
        if not pg_has_role(current_user, role_name, become) then
            execute format('grant %I to current_user', role_name);
        end if;
    end loop;
end
$$;
