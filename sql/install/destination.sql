-- Destination: where deliveries go, `api` or a hook, and whether anything may go there now.
-- Written by the relays (rest, failures, pause) and by people (pause, resume); read by every relay in every round, so that
-- what one worker learns of a destination binds all of them.
-- The rate is what the worker that connected last has in its configuration. What it allows and nobody asks for is saved up
-- for `rate_span` and no longer, so in any time t at most rate_max * (t + rate_span) requests are claimed.
create table if not exists outbox.destination (
    destination   text primary key,
    paused_at     timestamptz,
    pause_reason  text,
    failure_count integer not null default 0 check (failure_count >= 0),  -- in a row; back to 0 with any answer
    rest_until    timestamptz not null default '-infinity',               -- nothing is sent before
    probe_until   timestamptz not null default '-infinity',               -- a worker probes it, once it has failed often
    rate_max      float8 check (rate_max > 0),                            -- requests a second, of all workers; null: any
    rate_from     timestamptz not null default '-infinity',               -- what the rate allowed up to here is spent
    rate_span     interval generated always as (greatest(interval '50 ms', interval '1 s' / rate_max)) stored,
    constraint a_pause_has_a_reason check ((paused_at is null) = (pause_reason is null))
);

insert into outbox.destination (destination)
values ('api'), ('accrual_hook'), ('redemption_hook'), ('purchase_hook'), ('expiry_hook')
on conflict do nothing;
