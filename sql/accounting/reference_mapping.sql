-- The mapping of the reference accounting system: what outbox-worker knows of accounting, it knows through schema
-- integration. Copy this file and put your own tables into it.
--
--   views      customer, purchase, bonus_balance, bonus_lot     what the worker reads
--   functions  add_customer, change_customer                    what the worker may change
--   triggers   capture_…                                        what makes facts into events
--
-- Rules for a capture function:
--   * The source id names the fact for all time: never reused, never changed.
--   * Everything happens inside the one block with the exception handler: a fault in here must not reach the sale.
--   * security definer with a pinned search_path: the accounting user needs no right on schema outbox.
--   * Identifiers that are not plain lower case are quoted.
create schema if not exists integration authorization outbox_owner;
revoke all on schema integration from public;
grant usage on schema integration to outbox_worker;

grant usage on schema accounting to outbox_owner;
grant select on all tables in schema accounting to outbox_owner;
grant insert, update on accounting.customer to outbox_owner;

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

-- What is left of each accrual when the first to expire is the first to be redeemed.
create or replace view integration.bonus_lot as
select e.bonus_entry_id as bonus_lot_id, e.customer_id, c.phone, e.expires_on,
       greatest(0, least(e.amount, sum(e.amount) over earlier - r.redeemed)) as remaining
from accounting.bonus_entry e
join accounting.customer c on c.customer_id = e.customer_id
cross join lateral (
    select coalesce(sum(x.amount), 0) as redeemed
    from accounting.bonus_entry x where x.customer_id = e.customer_id and x.kind = 'redemption'
) r
where e.kind = 'accrual'
window earlier as (partition by e.customer_id order by e.expires_on nulls last, e.bonus_entry_id);

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

-- A purchase is captured when it is complete: at commit, when its lines and its bonus entries are there.
create or replace function integration.capture_purchase() returns trigger
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform outbox.record_event(
        'purchase', p.purchase_id::text, p.customer_id::text,
        json_build_object('purchase_id', p.purchase_id::text, 'purchased_at', p.purchased_at, 'phone', p.phone,
                          'total', p.total, 'currency', p.currency, 'bonus_accrued', p.bonus_accrued,
                          'bonus_redeemed', p.bonus_redeemed, 'lines', p.lines),
        p.purchased_at)
    from integration.purchase p where p.purchase_id = new.purchase_id;
    return null;
exception when others then
    perform outbox.record_capture_failure('purchase', new.purchase_id::text, sqlstate, sqlerrm);
    return null;
end
$$;

-- An accrual or a redemption, at commit too, so that it can tell the balance that it led to.
create or replace function integration.capture_bonus_entry() returns trigger
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform outbox.record_event(
        'bonus_' || new.kind, new.bonus_entry_id::text, new.customer_id::text,
        json_build_object('phone', b.phone, 'code', new.code, 'amount', new.amount, 'balance', b.balance),
        new.entered_at)
    from integration.bonus_balance b where b.customer_id = new.customer_id;
    return null;
exception when others then
    perform outbox.record_capture_failure('bonus_' || new.kind, new.bonus_entry_id::text, sqlstate, sqlerrm);
    return null;
end
$$;

-- Balances have no history of their own to name a change by, so each change draws a number that is never drawn again.
create sequence if not exists integration.bonus_balance_change;

-- Each change of a balance, at once and in order: the row lock that the change holds keeps the next one behind it.
create or replace function integration.capture_bonus_balance() returns trigger
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    change_id text;
begin
    change_id := new.customer_id || '-' || nextval('integration.bonus_balance_change');
    perform outbox.record_event(
        'bonus_balance', change_id, new.customer_id::text,
        json_build_object('phone', c.phone, 'balance', new.balance, 'changed_at', new.changed_at),
        new.changed_at)
    from integration.customer c where c.customer_id = new.customer_id;
    return null;
exception when others then
    perform outbox.record_capture_failure('bonus_balance', change_id, sqlstate, sqlerrm);
    return null;
end
$$;

do $$
declare
    object_name text;
begin
    foreach object_name in array array['customer', 'purchase', 'bonus_balance', 'bonus_lot'] loop
        execute format('alter view integration.%I owner to outbox_owner', object_name);
        execute format('grant select on integration.%I to outbox_worker', object_name);
    end loop;
    foreach object_name in array array['capture_purchase()', 'capture_bonus_entry()', 'capture_bonus_balance()',
            'add_customer(text, text, text, date, text, text)',
            'change_customer(text, text, text, text, date, text, text)'] loop
        execute format('alter function integration.%s owner to outbox_owner', object_name);
        execute format('revoke all on function integration.%s from public', object_name);
    end loop;
end
$$;
alter sequence integration.bonus_balance_change owner to outbox_owner;
grant execute on function integration.add_customer(text, text, text, date, text, text),
    integration.change_customer(text, text, text, text, date, text, text) to outbox_worker;

drop trigger if exists capture_purchase on accounting.purchase;
create constraint trigger capture_purchase after insert on accounting.purchase
    deferrable initially deferred for each row
    when (new.customer_id is not null) execute function integration.capture_purchase();

drop trigger if exists capture_bonus_entry on accounting.bonus_entry;
create constraint trigger capture_bonus_entry after insert on accounting.bonus_entry
    deferrable initially deferred for each row execute function integration.capture_bonus_entry();

create or replace trigger capture_bonus_balance after update of balance on accounting.bonus_account
    for each row when (old.balance is distinct from new.balance) execute function integration.capture_bonus_balance();
