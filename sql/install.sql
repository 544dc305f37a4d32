-- Installs, or re-installs, schemas outbox and identity. Safe to run again: tables stay, functions are replaced.
--   psql --single-transaction --set ON_ERROR_STOP=1 --file sql/install.sql
-- `outbox-worker schema install` runs the same files in the same order, in one transaction.
--
-- Who may run it: a superuser, or a role with CREATEROLE and CREATE on the database; the latter becomes a member of
-- outbox_owner and outbox_worker. Everything belongs to outbox_owner, whoever installs.
--
-- Whom it disturbs: nobody. The first time there is nobody to disturb. Again, it takes no lock that a sale could wait for
-- (a test proves it, so write what is added here in the same way), and a lock that it does not get itself within two
-- seconds ends it, with nothing changed.
set local lock_timeout = '2s';
set local search_path = pg_catalog, pg_temp;

do $$
begin
    if current_setting('server_version_num')::integer < 150000 then
        raise feature_not_supported using message = format(
            'outbox-worker needs PostgreSQL 15 or later; this is %s', current_setting('server_version'));
    end if;
    if current_setting('server_encoding') <> 'UTF8' then
        raise feature_not_supported using message = format(
            'outbox-worker needs a database in UTF8, for what InBoost answers must fit in; this one is in %s',
            current_setting('server_encoding'));
    end if;
    perform pg_advisory_xact_lock(122550254464889);  -- one installation at a time; the doorbell's key and one
    perform set_config('outbox.installer', current_user, true);
end
$$;
\ir install/roles.sql
\ir install/schema.sql
\ir install/identity_schema.sql
set local role outbox_owner;
\ir install/schema_version.sql
\ir install/destination.sql
\ir install/route.sql
\ir install/instant.sql
\ir install/event.sql
\ir install/fact_number.sql
\ir install/delivery_state.sql
\ir install/refuse_change.sql
\ir install/delivery.sql
\ir install/addressee.sql
\ir install/claim_id.sql
\ir install/claim.sql
\ir install/attempt.sql
\ir install/act.sql
\ir install/round.sql
\ir install/round_run.sql
\ir install/told_lot.sql
\ir install/duplicate.sql
\ir install/capture_failure.sql
\ir install/lane_of.sql
\ir install/ring_doorbell.sql
\ir install/ring_identification.sql
\ir install/await_identity.sql
\ir install/record_event.sql
\ir install/record_capture_failure.sql
\ir install/erase_events.sql
\ir install/backlog.sql
\ir install/client.sql
\ir install/unstored_client.sql
\ir install/customer_phone.sql
\ir install/erase_clients.sql
\ir install/sync_run.sql
\ir install/forget_events.sql
\ir install/forget_journals.sql
\ir install/identity_given.sql
\ir install/identity_email_key.sql
\ir install/identity_contact.sql
\ir install/identity_large_cluster.sql
\ir install/identity_compose.sql
\ir install/identity_cluster.sql
\ir install/identity_keep.sql
\ir install/identity_look.sql
\ir install/identity_asked.sql
\ir install/identity_known.sql
\ir install/identity_add.sql
\ir install/identity_lock_all.sql
\ir install/identity_join_clusters.sql
\ir install/identity_identify.sql
\ir install/identity_hold_still.sql
\ir install/identity_mend.sql
\ir install/identity_link.sql
\ir install/identity_unlink.sql
\ir install/identity_erase.sql
\ir install/rights.sql
do $$ begin perform set_config('role', current_setting('outbox.installer'), true); end $$;
