-- Addressee: to whom a delivery goes whose event has contact data (`contact_email`, `contact_phone` in its payload); one row
-- for each such delivery. Others have none: they go to the customer whose phone accounting named.
--
--     await_identity --> to be identified --> a phone is chosen: the delivery goes on, with this phone and no other
--                                |     ^        |
--                                |     +--------+  InBoost does not know the client: chosen anew when there is something new
--                                v
--                        no phone is known: the delivery waits until its contact's cluster has one
--
-- Inserted by await_identity at the sale, changed by the worker's identification only (runtime/identification.py); read by
-- the claim, by `events show` and `contacts show`.
-- The phone is written down before anything leaves and stays what it is while anybody could have acted on it: a phone that
-- was looked up anew for each attempt could name another client than the one in doubt, and the purchase would be there twice.
create table if not exists outbox.addressee (
    event_id      text collate "C" not null,
    operation     text not null,
    lane          bigint not null,     -- of the delivery, for as long as there is one
    delivery_id   bigint not null,
    customer_id   text,                -- as the event has it
    identified_at timestamptz,
    contact_id    bigint,              -- what the order was made with; its cluster is the person
    phone         text collate "C",    -- E.164; null: none is chosen
    chosen_as     text check (chosen_as in ('client', 'linked', 'customer', 'ordered', 'contact', 'never')),
    chosen_at     timestamptz,
    primary key (event_id, operation),
    constraint a_phone_was_chosen check ((phone is null) = (coalesce(chosen_as, 'never') = 'never')),
    constraint who_is_chosen_is_identified check (identified_at is not null or chosen_as is null)
) with (vacuum_truncate = off);
comment on column outbox.addressee.chosen_as is
    'client: that of the customer; linked: a client among the phones of the contact; customer: accounting''s phone; '
    'ordered: where the last order of a customer with this contact went; contact: the primary''s phone, or the oldest there is; never: the delivery ended before';

do $$
begin
    if to_regclass('outbox.addressee_unidentified') is null then
        create index addressee_unidentified on outbox.addressee (delivery_id) where identified_at is null;
    end if;
    if to_regclass('outbox.addressee_without_phone') is null then
        create index addressee_without_phone on outbox.addressee (delivery_id)
            where identified_at is not null and phone is null and chosen_as is null;
    end if;
    if to_regclass('outbox.addressee_contact') is null then
        create index addressee_contact on outbox.addressee (contact_id) where contact_id is not null;
    end if;
end
$$;
