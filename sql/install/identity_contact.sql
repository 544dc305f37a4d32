-- Contact: an e-mail address, a phone number, or both, as somebody left them with an order. Contacts of one person are a
-- cluster: its oldest is the primary, the others are secondary and point directly to it.
--
--     phone_number, email   as first stored; what they are compared by stands in email_key and phone_key
--     phone_normal          the phone in E.164, where it is certainly one valid number; whoever inserts works it out, for
--                           SQL cannot; null: it is compared as given
--     primary_id            the cluster: the primary's own id, and that of its secondaries
--
-- Age goes by created_at, which is read once the locks are held, so that a secondary is never older than its primary.
-- A deleted contact counts for nothing; an erased one is deleted and has nothing in it.
-- All living contacts with one e-mail address, and all with one phone, are in the same cluster: identify sees to it, and so
-- a look-up needs but one of them. No two have both the same. The trigger functions identity.hold_still and identity.mend
-- keep it so whoever changes the table.
create table if not exists identity.contact (
    contact_id      bigint primary key generated always as identity,
    phone_number    text check (length(phone_number) between 1 and 64),
    email           text check (length(email) between 1 and 254),
    linked_id       bigint references identity.contact,
    link_precedence text not null default 'primary',
    created_at      timestamptz not null default clock_timestamp(),
    updated_at      timestamptz not null default clock_timestamp(),
    deleted_at      timestamptz,
    phone_normal    text,
    email_key       text collate "C" generated always as (identity.email_key(email)) stored,
    phone_key       text collate "C" generated always as (coalesce(phone_normal, phone_number)) stored,
    primary_id      bigint generated always as (coalesce(linked_id, contact_id)) stored,
    constraint a_secondary_is_linked_and_a_primary_is_not check (
        link_precedence = case when linked_id is null then 'primary' else 'secondary' end),
    constraint nobody_is_linked_to_itself check (linked_id <> contact_id),
    constraint a_living_contact_has_something check (deleted_at is not null or email is not null or phone_number is not null),
    constraint a_normal_form_is_one_of_a_phone check (phone_normal is null or phone_number is not null)
);

do $$
begin
    if to_regclass('identity.contact_value') is null then
        -- Finds by e-mail address without a look at the table, and is the promise that no two contacts are the same.
        create unique index contact_value on identity.contact (email_key, phone_key) include (primary_id)
            nulls not distinct where deleted_at is null;
    end if;
    if to_regclass('identity.contact_phone') is null then
        create index contact_phone on identity.contact (phone_key) include (primary_id)
            where deleted_at is null and phone_key is not null;
    end if;
    if to_regclass('identity.contact_cluster') is null then
        create index contact_cluster on identity.contact (primary_id);
    end if;
end
$$;
