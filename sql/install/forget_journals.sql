-- Forgets what else is old: duplicates, what people did about no event in particular, captures that were repaired, runs of
-- rounds and of the customer sync (but for the last one, which holds the watermark), lots that expired. Called by housekeeping
-- until it returns 0; not more than a batch of each goes at once. As with events, what is younger than 120 days stays.
create or replace function outbox.forget_journals(before timestamptz, batch_max integer) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    forgotten integer;
begin
    if forget_journals.before > clock_timestamp() - interval '120 days' then
        raise invalid_parameter_value using message = 'journals younger than 120 days are not forgotten';
    end if;
    with duplicates as (
        delete from outbox.duplicate where ctid = any (array(
            select ctid from outbox.duplicate where refused_at < forget_journals.before limit batch_max))
        returning 1
    ), acts as (
        delete from outbox.act where ctid = any (array(
            select ctid from outbox.act where acted_at < forget_journals.before and event_id is null limit batch_max))
        returning 1
    ), failures as (
        delete from outbox.capture_failure where ctid = any (array(
            select ctid from outbox.capture_failure where repaired_at < forget_journals.before limit batch_max))
        returning 1
    ), round_runs as (
        delete from outbox.round_run where ctid = any (array(
            select ctid from outbox.round_run where ended_at < forget_journals.before limit batch_max))
        returning 1
    ), sync_runs as (
        delete from outbox.sync_run where ctid = any (array(
            select ctid from outbox.sync_run
            where ended_at < forget_journals.before
              and sync_run_id < (select max(last.sync_run_id) from outbox.sync_run last where last.ended_at is not null)
            limit batch_max))
        returning 1
    ), lots as (
        delete from outbox.told_lot where ctid = any (array(
            select ctid from outbox.told_lot where expires_on < forget_journals.before::date limit batch_max))
        returning 1
    )
    select count(*) into forgotten
    from (table duplicates union all table acts union all table failures union all table round_runs
          union all table sync_runs union all table lots) gone;
    return forgotten;
end
$$;
