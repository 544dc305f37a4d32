-- Unstored client: a client of InBoost that could not be stored in accounting, with the reason and all that InBoost said of
-- it, so that each run can try again: the watermark has moved past it. Gone as soon as it is stored.
-- The first three reasons are conflicts: a match that needs a person, who decides for a customer, or to let it be.
-- Written by the customer sync and by `customers conflicts resolve`; read by `customers conflicts list` and by metrics.
create table if not exists outbox.unstored_client (
    unstored_client_id  bigint primary key generated always as identity,
    client_key          text collate "C" not null unique,  -- id:..., else phone:..., else digest:...
    phone               text collate "C",
    kind                text not null
                        check (kind in ('shared_phone', 'second_client', 'taken_phone', 'no_phone', 'unreadable', 'refused')),
    reason              text not null check (reason <> ''),
    customer_ids        text[] not null,                   -- who it may be
    digest              bytea not null,
    document            json not null,                     -- the client as it was read
    found_at            timestamptz not null default clock_timestamp(),
    decision            text check (decision in ('customer', 'ignore')),
    decided_customer_id text,
    decided_at          timestamptz,
    constraint a_decision_is_whole check (
        (decision is null) = (decided_at is null) and (decision is not distinct from 'customer') = (decided_customer_id is not null))
);
