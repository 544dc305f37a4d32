-- Delivery: the duty to bring one event to one operation. The row is here as long as the duty is, and no longer:
-- a table that holds only what is still to be done stays small whatever has been delivered.
--
--             record_event
--                  │
--                  ▼       claim row, request, try later
--        ┌───── pending ◀──────────────────────────────┐
--        │         │ claimed (a row in outbox.claim)    │
--        │         ├───────── accepted ──▶ row deleted; its receipt is the attempt that acknowledged
--        │         ├── nobody knows ──▶ in_doubt ── looked up ──▶ row deleted, or pending again
--        │         ├── nobody knows, nobody to ask ──▶ held       a person confirms or resends
--        │         ├── refused ──▶ dead                           a person requeues or discards
--        └─────────┴── client unknown ──▶ waiting                 the customer sync releases
--
-- Written by record_event (insert) and by the relay and people (all else). It has no foreign key to event: both rows are
-- inserted by one function in one transaction, and the check would cost every sale a lock and a look-up.
create table if not exists outbox.delivery (
    lane          bigint not null,   -- one customer at one destination: outbox.lane_of(destination, customer_id)
    delivery_id   bigint not null generated always as identity,
    event_id      text collate "C" not null,
    operation     text not null,
    destination   text not null,
    state         text not null default 'pending'
                  check (state in ('pending', 'in_doubt', 'held', 'dead', 'waiting')),
    due_at        timestamptz not null default clock_timestamp(),
    attempt_count integer not null default 0,  -- attempts concluded; the next has this plus one
    try_count     integer not null default 0,  -- of these, the ones that count against the retry timetable
    miss_count    integer not null default 0,  -- look-ups that did not find it
    reason        text,
    primary key (lane, delivery_id),
    constraint tries_are_attempts check (try_count between 0 and attempt_count),
    constraint stopping_has_a_reason check (state in ('pending', 'in_doubt') or reason is not null)
);
alter table outbox.delivery owner to outbox_owner;

-- What the relay looks through for new work, in order of arrival at each
-- destination, so that one that is slow or paused holds up no other. On the common way a delivery is inserted and deleted,
-- never updated, so this index costs no update its shortcut.
create index if not exists delivery_open on outbox.delivery (destination, delivery_id)
    where state in ('pending', 'in_doubt');

-- Rows come and go fast here: vacuum by their number, not by their share.
alter table outbox.delivery set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 1
);
