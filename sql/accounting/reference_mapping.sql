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

-- A purchase of nobody is none of ours, unless the buyer left contact data: then identify will say whose it is.
create or replace view integration.purchase as
select p.purchase_id, p.customer_id, c.phone, p.purchased_at, p.total, p.currency,
       coalesce(b.accrued, 0.00) as bonus_accrued, coalesce(b.redeemed, 0.00) as bonus_redeemed,
       coalesce(l.lines, '[]') as lines, p.contact_email, p.contact_phone
from accounting.purchase p
left join accounting.customer c on c.customer_id = p.customer_id
left join lateral (
    select sum(e.amount) filter (where e.kind = 'accrual') as accrued,
           sum(e.amount) filter (where e.kind = 'redemption') as redeemed
    from accounting.bonus_entry e where e.purchase_id = p.purchase_id
) b on true
left join lateral (
    select json_agg(json_build_object('sku', x.sku, 'name', x.name, 'quantity', x.quantity, 'price', x.price,
                                      'amount', x.amount) order by x.line_number) as lines
    from accounting.purchase_line x where x.purchase_id = p.purchase_id
) l on true
where p.customer_id is not null or p.contact_email is not null or p.contact_phone is not null;

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
-- The keys of contact data stand in a payload only where there are any, so that the other purchases need no second look.
create or replace view integration.purchase_event as
select 'purchase' as kind, p.purchase_id as source_id, p.customer_id,
       case when p.contact_email is null and p.contact_phone is null
            then json_build_object('purchase_id', p.purchase_id::text, 'purchased_at', p.purchased_at, 'phone', p.phone,
                                   'total', p.total, 'currency', p.currency, 'bonus_accrued', p.bonus_accrued,
                                   'bonus_redeemed', p.bonus_redeemed, 'lines', p.lines)
            else json_build_object('purchase_id', p.purchase_id::text, 'purchased_at', p.purchased_at, 'phone', p.phone,
                                   'total', p.total, 'currency', p.currency, 'bonus_accrued', p.bonus_accrued,
                                   'bonus_redeemed', p.bonus_redeemed, 'lines', p.lines,
                                   'contact_email', p.contact_email, 'contact_phone', p.contact_phone)
            end as payload,
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

-- A value that is null stays as it is: what somebody edits at this moment is not overwritten with what it was before.
create or replace function integration.change_customer(
    customer_id text, phone text, first_name text, last_name text, birth_date date, source text, specialty text
) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
    update accounting.customer c
    set phone = coalesce(change_customer.phone, c.phone),
        first_name = coalesce(change_customer.first_name, c.first_name),
        last_name = coalesce(change_customer.last_name, c.last_name),
        birth_date = coalesce(change_customer.birth_date, c.birth_date),
        source = coalesce(change_customer.source, c.source),
        specialty = coalesce(change_customer.specialty, c.specialty),
        changed_at = now()
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
declare
    outdated record;
begin
    perform set_config('role', current_setting('outbox.installer'), true);

    -- Those of before orders had contact data.
    for outdated in
        select tgname from pg_trigger
        where tgrelid = 'accounting.purchase'::regclass and tgname in ('capture_purchase', 'capture_purchase_of_customer')
          and strpos(pg_get_triggerdef(oid), 'contact_email') = 0
    loop
        execute format('drop trigger %I on accounting.purchase', outdated.tgname);
    end loop;

    -- A purchase without a customer, whose buyer left an e-mail address or a phone, is somebody's too.
    if not exists (
        select from pg_trigger where tgrelid = 'accounting.purchase'::regclass and tgname = 'capture_purchase'
    ) then
        create constraint trigger capture_purchase after insert on accounting.purchase
            deferrable initially deferred for each row
            when (new.customer_id is not null or new.contact_email is not null or new.contact_phone is not null)
            execute function integration.capture_purchase();
    end if;

    -- Who bought was said later: after the receipt, or by the next statement of a program that fills in row by row.
    if not exists (
        select from pg_trigger where tgrelid = 'accounting.purchase'::regclass and tgname = 'capture_purchase_of_customer'
    ) then
        create constraint trigger capture_purchase_of_customer
            after update of customer_id, contact_email, contact_phone on accounting.purchase
            deferrable initially deferred for each row
            when (old.customer_id is null and old.contact_email is null and old.contact_phone is null
                  and (new.customer_id is not null or new.contact_email is not null or new.contact_phone is not null))
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
