-- The database side as version 1 of it was, the reference accounting system and its mapping too: what upgrades begin with.
-- Installs, or re-installs, schema outbox. Safe to run again: tables stay, functions are replaced.
--   psql --single-transaction --set ON_ERROR_STOP=1 --file sql/install.sql
-- `outbox-worker schema install` runs the same files in the same order, in one transaction.
--
-- Who may run it: a superuser, or a role with CREATEROLE and CREATE on the database; the latter becomes a member of
-- outbox_owner and outbox_worker. Everything belongs to outbox_owner, whoever installs.
--
-- Whom it disturbs: nobody. The first time there is nobody to disturb. Again, it takes no lock that a sale could wait for
-- (a test proves it, so write what is added here in the same way), and a lock that it does not get itself within two
-- seconds ends it, with nothing changed.
set local lock_timeout = '2s';
set local search_path = pg_catalog, pg_temp;

do $$
begin
    if current_setting('server_version_num')::integer < 150000 then
        raise feature_not_supported using message = format(
            'outbox-worker needs PostgreSQL 15 or later; this is %s', current_setting('server_version'));
    end if;
    if current_setting('server_encoding') <> 'UTF8' then
        raise feature_not_supported using message = format(
            'outbox-worker needs a database in UTF8, for what InBoost answers must fit in; this one is in %s',
            current_setting('server_encoding'));
    end if;
    perform pg_advisory_xact_lock(122550254464889);  -- one installation at a time; the doorbell's key and one
    perform set_config('outbox.installer', current_user, true);
end
$$;
-- install/roles.sql
-- The two roles of the outbox. Both are group roles that nobody logs in as.
--   outbox_owner   owns schemas outbox and integration; the capture functions run with its rights
--   outbox_worker  what the daemon needs; grant it to the role that the daemon logs in as
-- Roles belong to the whole server, so another database may have made them, or be making them at this moment.
-- Who installs must be able to become the owner: a superuser is, another is made a member.
do $$
declare
    become constant text := case when current_setting('server_version_num')::integer < 160000 then 'MEMBER' else 'SET' end;
    role_name text;
begin
    foreach role_name in array array['outbox_owner', 'outbox_worker'] loop
        if not exists (select from pg_catalog.pg_roles where rolname = role_name) then
            begin
                execute format('create role %I nologin', role_name);
            exception when duplicate_object or unique_violation then
                null;  -- another installation made it first
            end;
        end if;
        if not pg_has_role(current_user, role_name, become) then
            execute format('grant %I to current_user', role_name);
        end if;
    end loop;
end
$$;

-- install/schema.sql
-- Schema outbox: facts (event), duties (delivery), what is on its way (claim), what was tried (attempt).
create schema if not exists outbox authorization outbox_owner;
revoke all on schema outbox from public;
comment on schema outbox is 'Transactional outbox of outbox-worker. Accounting users need no right here.';

set local role outbox_owner;
-- install/destination.sql
-- Destination: where deliveries go, `api` or a hook, and whether anything may go there now.
-- Written by the relays (rest, failures, pause) and by people (pause, resume); read by every relay in every round, so that
-- what one worker learns of a destination binds all of them.
create table if not exists outbox.destination (
    destination   text primary key,
    paused_at     timestamptz,
    pause_reason  text,
    failure_count integer not null default 0 check (failure_count >= 0),  -- in a row; back to 0 with any answer
    rest_until    timestamptz not null default '-infinity',               -- nothing is sent before
    probe_until   timestamptz not null default '-infinity',               -- a worker probes it, once it has failed often
    constraint a_pause_has_a_reason check ((paused_at is null) = (pause_reason is null))
);

insert into outbox.destination (destination)
values ('api'), ('accrual_hook'), ('redemption_hook'), ('purchase_hook'), ('expiry_hook')
on conflict do nothing;

-- install/route.sql
-- Route: which operations an event of a kind has, and where each goes.
-- Read by record_event for every event; `enabled` is set by the worker from its configuration when it starts.
-- Historic purchases have no webhook: it would start today's campaigns for last month's purchases.
create table if not exists outbox.route (
    kind        text not null,
    operation   text not null,
    destination text not null references outbox.destination,
    historic    boolean not null,               -- whether historic events take this route too
    enabled     boolean not null default true,
    primary key (kind, operation)
);

insert into outbox.route (kind, operation, destination, historic)
values
    ('bonus_balance',    'set_bonus_balance',  'api',             true),
    ('bonus_accrual',    'accrual_webhook',    'accrual_hook',    false),
    ('bonus_redemption', 'redemption_webhook', 'redemption_hook', false),
    ('purchase',         'purchase_webhook',   'purchase_hook',   false),
    ('purchase',         'add_purchase',       'api',             true),
    ('bonus_expiry',     'expiry_webhook',     'expiry_hook',     false)
on conflict do nothing;

-- install/instant.sql
-- Instant: when something happened, as every program that reads it can hold it.
-- Accounting has infinities, years before Christ and mistyped years of five digits in its columns, and no other language
-- has: one such event in the outbox would stop the worker that reads it. So it is refused here, kept as a capture failure,
-- and a person sees it. A domain and not a CHECK of the table, for those are parsed anew by every insert.
do $$
begin
    if to_regtype('outbox.instant') is null then
        create domain outbox.instant as timestamptz
            constraint an_instant_has_a_year_of_four_digits
            check (value >= '0001-01-03 00:00+00' and value < '9999-12-30 00:00+00');
    end if;
end
$$;

-- install/event.sql
-- Event: a fact, recorded in the transaction that made it true. Immutable, append-only, written only by record_event.
-- The event id is the fact's own name, kind and source id, so the same fact recorded again meets this primary key.
-- It is a readable text and not a hash because neighbours in time are then neighbours in the index: a random key would
-- touch another page with each sale, and the accounting database would pay for that in write-ahead log.
-- The payload is json, not jsonb: it is stored and sent as it was recorded, with the scale of every number.
-- A vacuum that gives pages back locks out those who insert, so it gives none back.
create table if not exists outbox.event (
    event_id    text collate "C" primary key,
    sequence    bigint not null generated always as identity,  -- order of recording, for readers of the log; has holes
    kind        text not null,
    source_id   text not null,                                 -- names the fact in the accounting system, for all time
    customer_id text,
    occurred_at outbox.instant not null,
    recorded_at timestamptz not null default clock_timestamp(),
    historic    boolean not null,
    payload     json not null,
    constraint the_id_names_the_fact check (event_id = kind || ':' || source_id)
) with (vacuum_truncate = off);

-- Pages are filled in order of time, so a block range index finds a window of days and costs a writer next to nothing.
do $$
begin
    if to_regclass('outbox.event_recorded_at') is null then
        create index event_recorded_at on outbox.event using brin (recorded_at) with (autosummarize = on);
    end if;
end
$$;

-- install/fact_number.sql
-- Fact number: a name for facts that have none of their own, such as a change of a balance. A mapping draws one for each.
-- It is here and not in the mapping, because a mapping is taken out and loaded again while the events stay: numbers that
-- began anew would be those of other facts, and what bears them would be taken for known.
create sequence if not exists outbox.fact_number;

-- install/delivery_state.sql
-- Delivery state: where a delivery stands; the drawing is in delivery.sql.
-- A domain and not a CHECK of the table, for those are parsed anew by every insert, and each sale makes several.
do $$
begin
    if to_regtype('outbox.delivery_state') is null then
        create domain outbox.delivery_state as text
            constraint a_delivery_state_is_one_of_five
            check (value in ('pending', 'in_doubt', 'held', 'dead', 'waiting'));
    end if;
end
$$;

-- install/delivery.sql
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
    primary key (lane, delivery_id),
    constraint tries_are_attempts check (try_count <= attempt_count),
    constraint stopping_has_a_reason check (reason is not null or state in ('pending', 'in_doubt'))
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

-- install/claim_id.sql
-- Claim id: the fence. Every claim draws one, and whoever takes a claim over draws another for it.
create sequence if not exists outbox.claim_id;

-- install/claim.sql
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
    claimed_at  timestamptz not null default clock_timestamp()
) with (
    vacuum_truncate = off, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 1
);

-- install/attempt.sql
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

-- install/act.sql
-- Act: what a person did about an event or a destination, who it was, and why. Append-only, written by the operator
-- commands in the transaction that makes the change, read by `events show`.
-- `actor` is who says so; `recorder` is the database role that the server knows it to be.
-- An act `confirm` is the receipt of a delivery that a person knows to have reached InBoost.
create table if not exists outbox.act (
    act_id      bigint primary key generated always as identity,
    acted_at    timestamptz not null default clock_timestamp(),
    act         text not null
                check (act in ('confirm', 'resend', 'requeue', 'discard', 'release', 'record', 'pause', 'resume')),
    event_id    text collate "C",
    operation   text,
    destination text,
    actor       text not null check (actor <> ''),
    recorder    text not null default session_user,
    reason      text not null check (reason <> ''),
    detail      json,               -- what was true before: the state, its reason, how many attempts
    constraint an_act_has_its_object check (
        case when act in ('pause', 'resume') then event_id is null and operation is null and destination is not null
             when act = 'record' then event_id is not null and operation is null and destination is null
             else event_id is not null and operation is not null and destination is not null end)
);

do $$
begin
    if to_regclass('outbox.act_event_id') is null then
        create index act_event_id on outbox.act (event_id) where event_id is not null;
    end if;
end
$$;

-- install/duplicate.sql
-- Duplicate: a fact that was recorded again and refused because it was known. Append-only, written by record_event.
create table if not exists outbox.duplicate (
    duplicate_id bigint primary key generated always as identity,
    event_id     text collate "C" not null,
    refused_at   timestamptz not null default clock_timestamp(),
    historic     boolean,           -- whether the refused recording was part of a history transfer; null: not known
    recorder     text not null default session_user
);

do $$
begin
    if to_regclass('outbox.duplicate_refused_at') is null then
        create index duplicate_refused_at on outbox.duplicate using brin (refused_at);
    end if;
end
$$;

-- install/capture_failure.sql
-- Capture failure: a fact that could not be recorded when it happened. The sale went on; reconciliation records the fact later.
-- Written by record_capture_failure, read by the worker's metrics, `status` and reconciliation.
create table if not exists outbox.capture_failure (
    capture_failure_id bigint primary key generated always as identity,
    kind               text not null,
    source_id          text,
    failed_at          timestamptz not null default clock_timestamp(),
    sqlstate           text not null,
    message            text not null,
    repaired_at        timestamptz
);

do $$
begin
    if to_regclass('outbox.capture_failure_open') is null then
        create index capture_failure_open on outbox.capture_failure (failed_at) where repaired_at is null;
    end if;
end
$$;

-- install/lane_of.sql
-- The lane of a customer at a destination. Two lanes that meet in one hash are merely kept in order together.
create or replace function outbox.lane_of(destination text, customer_id text) returns bigint
language sql immutable parallel safe
return pg_catalog.hashtextextended(destination || ' ' || coalesce(customer_id, ''), 0);

-- install/ring_doorbell.sql
-- Wakes the relay when it sleeps, and only then: an unconditional NOTIFY would serialise every commit of the accounting system.
-- A relay that is about to sleep takes the doorbell's lock exclusively, looks for work once more, and keeps the lock while it
-- sleeps. So a writer that gets the lock shared knows that a relay is awake, or will look after this writer has committed:
-- the writer keeps its share until then, and no relay falls asleep meanwhile. A writer that does not get it rings.
-- Nobody ever waits for this lock. The key is the word `outbox` in ASCII.
-- Where the bell would make the sale itself fail, at its commit, where nothing can be caught any more, it stays silent, and
-- the relay looks by itself:
--   * where transactions can be prepared (max_prepared_transactions > 0), for one that has notified cannot be prepared;
--   * where the server's queue of notifications fills up, because somebody listens to something and never reads.
-- Called by record_event only, and with its rights and its search path.
create or replace function outbox.ring_doorbell() returns void
language plpgsql volatile
as $$
begin
    if not pg_try_advisory_xact_lock_shared(122550254464888)
       and current_setting('max_prepared_transactions') = '0' and pg_notification_queue_usage() < 0.5 then
        perform pg_notify('outbox', '');
    end if;
end
$$;

-- install/record_event.sql
-- The one door: triggers, history transfer, reconciliation and people all record facts here.
-- Returns true if the fact was new, false if it was known (and is then noted in outbox.duplicate).
-- Locks: the primary key entry of this one event, until the transaction ends. Only somebody who records the same fact at the
-- same moment could wait for it, and accounting's own row lock on that fact comes before.
-- Under REPEATABLE READ a known event that is too new for the snapshot raises serialization_failure instead of being passed
-- over; record_capture_failure turns that into a duplicate.
create or replace function outbox.record_event(
    kind text, source_id text, customer_id text, payload json, occurred_at timestamptz, historic boolean default false
) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    new_id constant text := record_event.kind || ':' || record_event.source_id;
begin
    insert into outbox.event (event_id, kind, source_id, customer_id, occurred_at, historic, payload)
    values (new_id, record_event.kind, record_event.source_id, record_event.customer_id, record_event.occurred_at,
            record_event.historic, record_event.payload)
    on conflict do nothing;
    if not found then
        insert into outbox.duplicate (event_id, historic) values (new_id, record_event.historic);
        return false;
    end if;
    insert into outbox.delivery (lane, event_id, operation, destination)
    select outbox.lane_of(r.destination, record_event.customer_id), new_id, r.operation, r.destination
    from outbox.route r
    where r.kind = record_event.kind and r.enabled and (r.historic or not record_event.historic);
    perform outbox.ring_doorbell();
    return true;
end
$$;

-- install/record_capture_failure.sql
-- What a capture function calls in its exception handler: the sale goes on, the failure is kept, reconciliation repairs it.
-- Under REPEATABLE READ a fact that is known, but too new for this transaction's snapshot, comes as serialization failure.
-- It is a duplicate, and no failure. No query of this transaction can see whether it is so; the primary key of the event
-- can, for a unique check looks beyond the snapshot: so the event is inserted, and taken back if that works.
-- May raise (the outbox may be what is broken), so the mapping has a last handler of its own.
create or replace function outbox.record_capture_failure(kind text, source_id text, sqlstate text, message text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    known_id constant text := record_capture_failure.kind || ':' || record_capture_failure.source_id;
begin
    if record_capture_failure.sqlstate = '40001' then
        begin
            insert into outbox.event (event_id, kind, source_id, occurred_at, historic, payload)
            values (known_id, record_capture_failure.kind, record_capture_failure.source_id,
                    now(), false, 'null');
            raise exception 'the fact was not known';
        exception
            when unique_violation then
                insert into outbox.duplicate (event_id) values (known_id);
                return;
            when others then
                null;
        end;
    end if;
    insert into outbox.capture_failure (kind, source_id, sqlstate, message)
    values (coalesce(record_capture_failure.kind, ''), record_capture_failure.source_id,
            record_capture_failure.sqlstate, left(record_capture_failure.message, 2000));
end
$$;

-- install/backlog.sql
-- Backlog: how many deliveries are in which state, and since when the oldest that is due waits. For status and metrics.
create or replace view outbox.backlog as
select d.destination, d.operation, d.state, count(*) as delivery_count,
       min(d.due_at) filter (where d.state in ('pending', 'in_doubt')) as oldest_due_at
from outbox.delivery d
group by d.destination, d.operation, d.state;

-- install/schema_version.sql
-- The version of schema outbox. The worker compares it with its own and refuses to start on a mismatch.
create or replace function outbox.schema_version() returns integer language sql immutable parallel safe return 1;

-- install/rights.sql
-- Rights: PUBLIC has none. The worker may not insert events or deliveries except through record_event, and may not rewrite
-- the journal.
revoke all on all tables in schema outbox from public;
revoke all on all functions in schema outbox from public;
grant usage on schema outbox to outbox_worker;
grant select on all tables in schema outbox to outbox_worker;
grant update, delete on outbox.delivery to outbox_worker;
grant insert, update, delete on outbox.claim to outbox_worker;
grant usage on sequence outbox.claim_id to outbox_worker;
grant insert on outbox.attempt to outbox_worker;
grant insert on outbox.act to outbox_worker;
grant update on outbox.destination to outbox_worker;
grant update (enabled) on outbox.route to outbox_worker;
grant update (repaired_at) on outbox.capture_failure to outbox_worker;
grant execute on function outbox.record_event(text, text, text, json, timestamptz, boolean) to outbox_worker;
grant execute on function outbox.lane_of(text, text), outbox.schema_version() to outbox_worker;

do $$ begin perform set_config('role', current_setting('outbox.installer'), true); end $$;

-- The reference accounting system: a small shop with a bonus programme, as the demo and the tests have it.
-- It knows nothing of the outbox. reference_mapping.sql connects the two, and is what an adopter copies.
set local lock_timeout = '2s';

create schema if not exists accounting;

create table if not exists accounting.customer (
    customer_id bigint primary key generated always as identity,
    phone       text,                   -- as somebody typed it
    email       text,
    first_name  text,
    last_name   text,
    birth_date  date,
    source      text,                   -- of acquisition
    specialty   text,
    changed_at  timestamptz not null default now()
);

create table if not exists accounting.purchase (
    purchase_id  bigint primary key generated always as identity,
    customer_id  bigint references accounting.customer,  -- null: nobody said who bought
    purchased_at timestamptz not null default now(),
    total        numeric(12, 2) not null,
    currency     text not null default 'UAH'
);
create index if not exists purchase_customer_id on accounting.purchase (customer_id, purchased_at);

create table if not exists accounting.purchase_line (
    purchase_id bigint not null references accounting.purchase,
    line_number integer not null,
    sku         text not null,
    name        text not null,
    quantity    numeric(12, 3) not null,
    price       numeric(12, 2) not null,
    amount      numeric(12, 2) not null,
    primary key (purchase_id, line_number)
);

create table if not exists accounting.bonus_account (
    customer_id bigint primary key references accounting.customer,
    balance     numeric(12, 2) not null default 0,
    changed_at  timestamptz not null default now()
);

create table if not exists accounting.bonus_entry (
    bonus_entry_id bigint primary key generated always as identity,
    customer_id    bigint not null references accounting.bonus_account,
    purchase_id    bigint references accounting.purchase,
    kind           text not null check (kind in ('accrual', 'redemption')),
    code           text not null unique,
    amount         numeric(12, 2) not null check (amount > 0),
    entered_at     timestamptz not null default now(),
    expires_on     date,                -- of an accrual; null: never
    constraint a_redemption_does_not_expire check (kind = 'accrual' or expires_on is null)
);
create index if not exists bonus_entry_customer_id on accounting.bonus_entry (customer_id, expires_on);
create index if not exists bonus_entry_purchase_id on accounting.bonus_entry (purchase_id);

-- The accounting system's own logic: an entry moves the balance.
create or replace function accounting.move_balance() returns trigger language plpgsql as $$
begin
    update accounting.bonus_account a
    set balance = a.balance + case new.kind when 'accrual' then new.amount else -new.amount end,
        changed_at = now()
    where a.customer_id = new.customer_id;
    return null;
end
$$;
create or replace trigger move_balance after insert on accounting.bonus_entry
    for each row execute function accounting.move_balance();

-- The mapping of the reference accounting system: what outbox-worker knows of accounting, it knows through schema
-- integration. Copy this file and put your own tables into it; sql/README.md has the rules.
--   psql --single-transaction --set ON_ERROR_STOP=1 --file sql/accounting/reference_mapping.sql
--
--   views      customer, purchase, bonus_balance, bonus_lot     what the worker reads
--              purchase_event, bonus_entry_event,               how a fact becomes an event: said here and nowhere else,
--              bonus_balance_event, fact                        for the triggers and for what is recorded later
--   functions  add_customer, change_customer                    what the worker may change
--   triggers   capture_...                                      what makes facts into events
--
-- Who may run it: a superuser, or who installed schema outbox and owns the accounting tables.
-- Whom it disturbs: to make a trigger, it waits for those who write to the table, and others behind it wait too, for two
-- seconds at most; then it gives up. To run it again takes no lock on an accounting table, for a trigger that is there is
-- left as it is; but a view is replaced only when nobody is in the middle of a capture, with the same wait.
set local lock_timeout = '2s';
set local search_path = pg_catalog, pg_temp;

create schema if not exists integration authorization outbox_owner;

-- No more than the mapping reads and changes.
grant usage on schema accounting to outbox_owner;
grant select on accounting.customer, accounting.purchase, accounting.purchase_line, accounting.bonus_account,
    accounting.bonus_entry to outbox_owner;
grant insert, update on accounting.customer to outbox_owner;

do $$ begin perform set_config('outbox.installer', current_user, true); end $$;
set local role outbox_owner;
revoke all on schema integration from public;
grant usage on schema integration to outbox_worker;

create or replace view integration.customer as
select c.customer_id, c.phone, c.email, c.first_name, c.last_name, c.birth_date, c.source, c.specialty, c.changed_at
from accounting.customer c;

create or replace view integration.purchase as
select p.purchase_id, p.customer_id, c.phone, p.purchased_at, p.total, p.currency,
       coalesce(b.accrued, 0.00) as bonus_accrued, coalesce(b.redeemed, 0.00) as bonus_redeemed,
       coalesce(l.lines, '[]') as lines
from accounting.purchase p
join accounting.customer c on c.customer_id = p.customer_id
left join lateral (
    select sum(e.amount) filter (where e.kind = 'accrual') as accrued,
           sum(e.amount) filter (where e.kind = 'redemption') as redeemed
    from accounting.bonus_entry e where e.purchase_id = p.purchase_id
) b on true
left join lateral (
    select json_agg(json_build_object('sku', x.sku, 'name', x.name, 'quantity', x.quantity, 'price', x.price,
                                      'amount', x.amount) order by x.line_number) as lines
    from accounting.purchase_line x where x.purchase_id = p.purchase_id
) l on true;

create or replace view integration.bonus_balance as
select a.customer_id, c.phone, a.balance, a.changed_at
from accounting.bonus_account a join accounting.customer c on c.customer_id = a.customer_id;

-- What is left of each accrual when every redemption takes from the lots that are there, the first to expire first.
-- Lots that expire no later than this one, taken together, are a store that fills and empties; what would take it below
-- nothing is taken from later lots. Its level now is the sum of all steps, less the lowest that the sum ever was (if that
-- was below nothing). What this lot adds to the level of the store is what is left of the lot.
create or replace view integration.bonus_lot as
select lot.bonus_entry_id as bonus_lot_id, lot.customer_id, c.phone, lot.expires_on,
       store.level_with - store.level_without as remaining
from accounting.bonus_entry lot
join accounting.customer c on c.customer_id = lot.customer_id
cross join lateral (
    select sum(step.step_with) - least(min(step.sum_with), 0.00) as level_with,
           sum(step.step_without) - least(min(step.sum_without), 0.00) as level_without
    from (
        select entry.step_with, sum(entry.step_with) over booked as sum_with,
               entry.step_without, sum(entry.step_without) over booked as sum_without
        from (
            select e.bonus_entry_id,
                   case when e.kind = 'redemption' then -e.amount
                        when (coalesce(e.expires_on, 'infinity'), e.bonus_entry_id)
                          <= (coalesce(lot.expires_on, 'infinity'), lot.bonus_entry_id) then e.amount
                        else 0.00 end as step_with,
                   case when e.kind = 'redemption' then -e.amount
                        when (coalesce(e.expires_on, 'infinity'), e.bonus_entry_id)
                           < (coalesce(lot.expires_on, 'infinity'), lot.bonus_entry_id) then e.amount
                        else 0.00 end as step_without
            from accounting.bonus_entry e where e.customer_id = lot.customer_id
        ) entry
        window booked as (order by entry.bonus_entry_id)
    ) step
) store
where lot.kind = 'accrual';

-- The facts as events: what the capture functions record, one by its key, and what reconciliation looks for among the
-- events, all of a window of time. The key stays what it is in the accounting table, so that its index finds it.
create or replace view integration.purchase_event as
select 'purchase' as kind, p.purchase_id as source_id, p.customer_id,
       json_build_object('purchase_id', p.purchase_id::text, 'purchased_at', p.purchased_at, 'phone', p.phone,
                         'total', p.total, 'currency', p.currency, 'bonus_accrued', p.bonus_accrued,
                         'bonus_redeemed', p.bonus_redeemed, 'lines', p.lines) as payload,
       p.purchased_at as occurred_at
from integration.purchase p;

-- The balance is the one that there is now: at the commit of the entry, the one that it led to.
create or replace view integration.bonus_entry_event as
select 'bonus_' || e.kind as kind, e.bonus_entry_id as source_id, e.customer_id,
       json_build_object('phone', b.phone, 'code', e.code, 'amount', e.amount, 'balance', b.balance) as payload,
       e.entered_at as occurred_at
from accounting.bonus_entry e join integration.bonus_balance b on b.customer_id = e.customer_id;

-- The last change of each balance; it has no source id, for what is overwritten has no name.
create or replace view integration.bonus_balance_event as
select 'bonus_balance' as kind, b.customer_id,
       json_build_object('phone', b.phone, 'balance', b.balance, 'changed_at', b.changed_at) as payload,
       b.changed_at as occurred_at
from integration.bonus_balance b;

-- Every fact that has a name: what reconciliation and doctor hold against the events. A kind that is not here is captured
-- by its trigger alone, and nobody notices when that fails.
create or replace view integration.fact as
select e.kind, e.source_id::text as source_id, e.customer_id::text as customer_id, e.payload, e.occurred_at
from integration.purchase_event e
union all
select e.kind, e.source_id::text, e.customer_id::text, e.payload, e.occurred_at
from integration.bonus_entry_event e;

grant select on integration.customer, integration.purchase, integration.bonus_balance, integration.bonus_lot,
    integration.purchase_event, integration.bonus_entry_event, integration.bonus_balance_event, integration.fact
    to outbox_worker;

create or replace function integration.add_customer(
    phone text, first_name text, last_name text, birth_date date, source text, specialty text
) returns text
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
    insert into accounting.customer (phone, first_name, last_name, birth_date, source, specialty)
    values (add_customer.phone, add_customer.first_name, add_customer.last_name, add_customer.birth_date,
            add_customer.source, add_customer.specialty)
    returning customer_id::text
$$;

create or replace function integration.change_customer(
    customer_id text, phone text, first_name text, last_name text, birth_date date, source text, specialty text
) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
    update accounting.customer c
    set phone = change_customer.phone, first_name = change_customer.first_name, last_name = change_customer.last_name,
        birth_date = change_customer.birth_date, source = change_customer.source,
        specialty = change_customer.specialty, changed_at = now()
    where c.customer_id = change_customer.customer_id::bigint
$$;

-- The last resort of every capture function: the failure is kept, and where not even that works, the server's log has it.
-- The user's program is told nothing: where its encoding does not know the letters of the message, sending the message
-- would be an error that ends the sale.
create or replace function integration.keep_failure(kind text, source_id text, sqlstate text, message text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp set client_min_messages = error
as $$
begin
    perform outbox.record_capture_failure(
        keep_failure.kind, keep_failure.source_id, keep_failure.sqlstate, keep_failure.message);
exception when others then
    raise log 'outbox: % % was not captured (%: %), and the failure could not be kept: %',
        keep_failure.kind, keep_failure.source_id, keep_failure.sqlstate, keep_failure.message, sqlerrm;
end
$$;

-- A purchase is captured when it is complete: at commit, when its lines and its bonus entries are there.
create or replace function integration.capture_purchase() returns trigger
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set row_security = off
as $$
begin
    perform outbox.record_event(e.kind, e.source_id::text, e.customer_id::text, e.payload, e.occurred_at)
    from integration.purchase_event e where e.source_id = new.purchase_id;
    return null;
exception when others or assert_failure then
    perform integration.keep_failure('purchase', new.purchase_id::text, sqlstate, sqlerrm);
    return null;
end
$$;

-- An accrual or a redemption, at commit too, so that it can tell the balance that it led to.
create or replace function integration.capture_bonus_entry() returns trigger
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set row_security = off
as $$
begin
    perform outbox.record_event(e.kind, e.source_id::text, e.customer_id::text, e.payload, e.occurred_at)
    from integration.bonus_entry_event e where e.source_id = new.bonus_entry_id;
    return null;
exception when others or assert_failure then
    perform integration.keep_failure('bonus_' || new.kind, new.bonus_entry_id::text, sqlstate, sqlerrm);
    return null;
end
$$;

-- Each change of a balance, at once and in order: the row lock that the change holds keeps the next one behind it.
-- Balances have no history of their own to name a change by, so each change draws a number that is never drawn again.
create or replace function integration.capture_bonus_balance() returns trigger
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set row_security = off
as $$
declare
    change_id text;
begin
    change_id := new.customer_id || '-' || nextval('outbox.fact_number');
    perform outbox.record_event(e.kind, change_id, e.customer_id::text, e.payload, e.occurred_at)
    from integration.bonus_balance_event e where e.customer_id = new.customer_id;
    return null;
exception when others or assert_failure then
    perform integration.keep_failure('bonus_balance', change_id, sqlstate, sqlerrm);
    return null;
end
$$;

revoke all on all functions in schema integration from public;
grant execute on function integration.add_customer(text, text, text, date, text, text),
    integration.change_customer(text, text, text, text, date, text, text) to outbox_worker;

do $$
begin
    perform set_config('role', current_setting('outbox.installer'), true);

    if not exists (
        select from pg_trigger where tgrelid = 'accounting.purchase'::regclass and tgname = 'capture_purchase'
    ) then
        create constraint trigger capture_purchase after insert on accounting.purchase
            deferrable initially deferred for each row
            when (new.customer_id is not null) execute function integration.capture_purchase();
    end if;

    -- Who bought was said later: after the receipt, or by the next statement of a program that fills in row by row.
    if not exists (
        select from pg_trigger where tgrelid = 'accounting.purchase'::regclass and tgname = 'capture_purchase_of_customer'
    ) then
        create constraint trigger capture_purchase_of_customer after update of customer_id on accounting.purchase
            deferrable initially deferred for each row
            when (old.customer_id is null and new.customer_id is not null)
            execute function integration.capture_purchase();
    end if;

    if not exists (
        select from pg_trigger where tgrelid = 'accounting.bonus_entry'::regclass and tgname = 'capture_bonus_entry'
    ) then
        create constraint trigger capture_bonus_entry after insert on accounting.bonus_entry
            deferrable initially deferred for each row execute function integration.capture_bonus_entry();
    end if;

    if not exists (
        select from pg_trigger where tgrelid = 'accounting.bonus_account'::regclass and tgname = 'capture_bonus_balance'
    ) then
        create trigger capture_bonus_balance after update of balance on accounting.bonus_account
            for each row when (old.balance is distinct from new.balance)
            execute function integration.capture_bonus_balance();
    end if;

    if not exists (
        select from pg_trigger where tgrelid = 'accounting.bonus_account'::regclass and tgname = 'capture_first_bonus_balance'
    ) then
        create trigger capture_first_bonus_balance after insert on accounting.bonus_account
            for each row when (new.balance <> 0) execute function integration.capture_bonus_balance();
    end if;
end
$$;

