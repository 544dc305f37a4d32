-- Round run: the journal of rounds, one row for each run. Inserted when the run begins, updated when it ends; a run that
-- its worker did not live to end is found by the next one, which holds the round's lock, and is `crashed`.
create table if not exists outbox.round_run (
    round_run_id bigint primary key generated always as identity,
    round        text not null references outbox.round,
    planned_for  timestamptz not null,
    began_at     timestamptz not null default clock_timestamp(),
    ended_at     timestamptz,
    outcome      text check (outcome in ('done', 'failed', 'stopped', 'crashed')),
    counts       jsonb not null default '{}',
    error        text,
    recorder     text not null default session_user,
    constraint an_end_has_an_outcome check ((ended_at is null) = (outcome is null)),
    constraint a_failed_run_has_an_error check ((outcome is not distinct from 'failed') = (error is not null))
);

do $$
begin
    if to_regclass('outbox.round_run_round') is null then
        create index round_run_round on outbox.round_run (round, round_run_id);
    end if;
end
$$;
