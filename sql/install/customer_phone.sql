-- Customer phone: every customer of accounting with the phone as somebody typed it, and the same in E.164.
-- SQL cannot read phones, and clients are matched by them: so the customer sync keeps this directory, brings it up to date
-- when it begins, and touches only what has changed. `phone` is null where the spelling is not certainly one valid number.
create table if not exists outbox.customer_phone (
    customer_id text collate "C" primary key,
    spelled     text,
    phone       text collate "C"
);

do $$
begin
    if to_regclass('outbox.customer_phone_phone') is null then
        create index customer_phone_phone on outbox.customer_phone (phone) where phone is not null;
    end if;
end
$$;
