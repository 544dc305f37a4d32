-- From version 1 to 2: destinations get a rate, claims tell when they were taken over, acts may be about more.
-- `outbox-worker schema upgrade` runs what is newer than the database and then install.sql, in one transaction. By psql:
--   psql --single-transaction --set ON_ERROR_STOP=1 --file sql/upgrade/002_rates_rounds_and_taken_claims.sql --file sql/install.sql
-- Whom it disturbs: no sale. It locks tables of the relay and of the operator commands only, and gives up after two seconds.
-- What would make sales wait is left for a quiet moment: later.sql.
set local lock_timeout = '2s';
set local search_path = pg_catalog, pg_temp;
do $$
begin
    perform pg_advisory_xact_lock(122550254464889);  -- as install.sql
    if outbox.schema_version() <> 1 then
        raise object_not_in_prerequisite_state using message = format(
            'this file upgrades version 1 of schema outbox, and the database has version %s', outbox.schema_version());
    end if;
    perform set_config('outbox.installer', current_user, true);
end
$$;
set local role outbox_owner;

alter table outbox.destination
    add column rate_max  float8 check (rate_max > 0),
    add column rate_from timestamptz not null default '-infinity',
    add column rate_span interval generated always as (greatest(interval '50 ms', interval '1 s' / rate_max)) stored;

alter table outbox.claim add column taken_at timestamptz;

alter table outbox.route set (autovacuum_analyze_threshold = 0, autovacuum_analyze_scale_factor = 0);

alter table outbox.act
    add column round text,
    drop constraint act_act_check,
    drop constraint an_act_has_its_object,
    add constraint act_act_check check (
        act in ('confirm', 'resend', 'requeue', 'discard', 'release', 'record', 'pause', 'resume', 'run', 'expire', 'resolve',
                'link', 'unlink', 'erase')),
    add constraint an_act_has_its_object check (
        case when act in ('pause', 'resume')
                  then num_nonnulls(event_id, operation) = 0 and num_nonnulls(destination, round) = 1
             when act = 'run' then num_nonnulls(event_id, operation, destination) = 0 and round is not null
             when act in ('resolve', 'link', 'unlink', 'erase') then num_nonnulls(event_id, operation, destination, round) = 0
             when act = 'record' then event_id is not null and num_nonnulls(operation, destination, round) = 0
             else num_nonnulls(event_id, operation, destination) = 3 and round is null end);

create or replace function outbox.schema_version() returns integer language sql immutable parallel safe return 2;
do $$ begin perform set_config('role', current_setting('outbox.installer'), true); end $$;
