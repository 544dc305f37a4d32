-- Delivery: the duty to bring one event to one operation. The row is here as long as the duty is, and no longer:
-- a table that holds only what is still to be done stays small whatever has been delivered.
--
--             record_event
--                  |
--                  v       claim row, request, try later
--        +----- pending <------------------------------+
--        |         |  claimed (a row in outbox.claim)  |
--        |         +---------- accepted --> row deleted; its receipt is the attempt that acknowledged
--        |         +-- nobody knows --> in_doubt -- looked up --> row deleted, or pending again
--        |         +-- nobody knows, nobody to ask --> held       a person confirms or resends
--        |         +-- refused --> dead                           a person requeues or discards
--        +---------+-- client unknown --> waiting                 the customer sync releases
--
-- Written by record_event (insert) and by the relay and people (all else). It has no foreign key to event: both rows are
-- inserted by one function in one transaction, and the check would cost every sale a lock and a look-up.
-- Rows come and go fast here: vacuum by their number, not by their share, and give no pages back (see event.sql). What an
-- outage of days has blown up can be made small again at a quiet hour: vacuum (truncate) outbox.delivery.
create table if not exists outbox.delivery (
    lane          bigint not null,   -- one customer at one destination: outbox.lane_of(destination, customer_id)
    delivery_id   bigint not null generated always as identity,
    event_id      text collate "C" not null,
    operation     text not null,
    destination   text not null,
    state         outbox.delivery_state not null default 'pending',
    due_at        timestamptz not null default clock_timestamp(),
    attempt_count integer not null default 0,  -- attempts concluded; the next has this plus one
    try_count     integer not null default 0,  -- of these, the ones that count against the retry timetable
    miss_count    integer not null default 0,  -- look-ups that did not find it
    reason        text,
    primary key (lane, delivery_id)
) with (
    vacuum_truncate = off, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 1
);

-- What the relay looks through for new work, in order of arrival at each
-- destination, so that one that is slow or paused holds up no other. On the common way a delivery is inserted and deleted,
-- never updated, so this index costs no update its shortcut.
do $$
begin
    if to_regclass('outbox.delivery_open') is null then
        create index delivery_open on outbox.delivery (destination, delivery_id) where state in ('pending', 'in_doubt');
    end if;
end
$$;

-- What a state and its columns promise each other. Where the table is of an older version, a CHECK says it; see
-- sql/upgrade/later.sql.
do $$
declare
    has constant name[] := array(select tgname from pg_trigger where tgrelid = 'outbox.delivery'::regclass
                                 union all select conname from pg_constraint where conrelid = 'outbox.delivery'::regclass);
begin
    if 'stopping_has_a_reason' <> all (has) then
        create trigger stopping_has_a_reason after update on outbox.delivery for each row
            when (new.reason is null and new.state not in ('pending', 'in_doubt')) execute function outbox.refuse_change();
    end if;
    if 'tries_are_attempts' <> all (has) then
        create trigger tries_are_attempts after update on outbox.delivery for each row
            when (new.try_count > new.attempt_count) execute function outbox.refuse_change();
    end if;
end
$$;
