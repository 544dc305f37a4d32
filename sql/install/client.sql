-- Client: which customer of accounting a client of InBoost is. One client for each customer and one customer for each client.
-- Written by the customer sync, read by it, by `customers show` and by metrics.
-- `digest` is that of what InBoost said of the client when it was last stored: a client that comes with the same digest
-- costs no write, and accounting is not even looked at.
-- What the link still owes is null: the customer's purchases of the last months, the balance, and the deliveries that
-- waited for the client. Whoever is interrupted leaves it null, and the next run goes on there.
create table if not exists outbox.client (
    customer_id     text collate "C" primary key,
    client_id       text collate "C" unique,           -- InBoost's; null: it gives none
    phone           text collate "C" not null unique,  -- E.164, as InBoost has it
    digest          bytea not null,
    updated_at      timestamptz,                       -- by InBoost's clock; null: it did not say
    remark          text,                              -- what of it was not stored, and why
    linked_at       timestamptz not null default clock_timestamp(),
    stored_at       timestamptz not null default clock_timestamp(),
    history_sent_at timestamptz,
    balance_sent_at timestamptz,
    released_at     timestamptz
);

do $$
begin
    if to_regclass('outbox.client_unsettled') is null then
        create index client_unsettled on outbox.client (customer_id)
            where history_sent_at is null or balance_sent_at is null or released_at is null;
    end if;
end
$$;
