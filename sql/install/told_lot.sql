-- Told lot: a lot of bonuses whose customer was told that it will expire, and by which event. Written by the expiry notice in
-- the transaction that records the event, read by the next notice, so that nobody is told twice of one lot: not when the
-- horizon is changed, not after a day that was missed, not when two workers make the notice at once.
create table if not exists outbox.told_lot (
    bonus_lot_id text collate "C" primary key,
    event_id     text collate "C" not null,
    expires_on   date not null,
    told_at      timestamptz not null default clock_timestamp()
);
