-- Round: work that comes every so often, one row each, shared by all workers. Nobody leads: whoever finds a round due takes
-- its session lock (database/rounds.py), and runs it while the session lasts.
-- Written by the workers (enabled, begun, ended) and by people (pause, resume); read by the workers, `rounds list`, `status`
-- and the metrics.
create table if not exists outbox.round (
    round         text primary key,
    enabled_at    timestamptz,      -- since when a worker's settings have it run; null: they switch it off
    done_for      timestamptz,      -- the latest time of its timetable that it has been done for
    began_at      timestamptz,      -- of the latest run
    succeeded_at  timestamptz,      -- when a run was last brought to its end
    try_count     integer not null default 0 check (try_count >= 0),  -- runs begun since, in a row
    done_count    bigint not null default 0,    -- runs so far, by their outcome, for counters that never go back
    failed_count  bigint not null default 0,
    crashed_count bigint not null default 0,
    paused_at     timestamptz,
    pause_reason  text,
    watermark     timestamptz,      -- how far housekeeping has looked through the events
    constraint a_paused_round_has_a_reason check ((paused_at is null) = (pause_reason is null))
);

insert into outbox.round (round)
values ('client_creation'), ('customer_sync'), ('expiry_notice'), ('housekeeping'), ('reconciliation')
on conflict do nothing;
