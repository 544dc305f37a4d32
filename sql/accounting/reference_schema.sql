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
    purchase_id   bigint primary key generated always as identity,
    customer_id   bigint references accounting.customer,  -- null: nobody said who bought
    purchased_at  timestamptz not null default now(),
    total         numeric(12, 2) not null,
    currency      text not null default 'UAH',
    contact_email text,                 -- what the buyer gave with this order
    contact_phone text
);
-- Databases that were made before orders had contact data get the columns here.
do $$
begin
    if not exists (
        select from pg_attribute where attrelid = 'accounting.purchase'::regclass and attname = 'contact_email'
    ) then
        alter table accounting.purchase add column contact_email text, add column contact_phone text;
    end if;
end
$$;
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
