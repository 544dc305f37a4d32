-- Attempt: the journal of every request, one row each, written when the attempt is concluded. Append-only.
-- The row whose verdict is `acknowledge` is the receipt of its delivery.
create table if not exists outbox.attempt (
    event_id  text collate "C" not null,
    operation text not null,
    number    integer not null check (number >= 1),
    purpose   text not null check (purpose in ('send', 'inquire')),
    worker    uuid not null,        -- who claimed it, and perhaps sent it
    begun_at  timestamptz not null,
    took_us   integer,              -- null: nothing was sent, or the worker that sent it is gone
    outcome   text not null,
    evidence  text,
    status    smallint,
    verdict   text not null,
    reason    text,
    digest    bytea,                -- SHA-256 of the body that was sent
    excerpt   text,                 -- the beginning of the answer
    primary key (event_id, operation, number)
);
