-- Claim: an attempt that has begun and is not concluded. Committed before anything leaves; deleted by the conclusion.
-- The primary key is the promise that a lane never has two requests in flight. The claim id is the fence: a conclusion that
-- does not find its claim has been overtaken and changes nothing.
-- A claim older than the request time-out belongs to a worker that is gone (or dazed): its request may have been acted
-- upon, so whoever takes it over, by giving it a new claim id, treats the delivery as in doubt.
create table if not exists outbox.claim (
    lane        bigint primary key,
    claim_id    bigint not null default nextval('outbox.claim_id'),
    delivery_id bigint not null,
    number      integer not null check (number >= 1),
    purpose     text not null check (purpose in ('send', 'inquire')),
    worker      uuid not null,      -- drawn anew each time that a worker starts
    claimed_at  timestamptz not null default clock_timestamp(),
    taken_at    timestamptz         -- taken over: perhaps sent, so its worker may not release it as never sent
) with (
    vacuum_truncate = off, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 1
);
