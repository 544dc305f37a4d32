-- A person says that a contact is another customer's than the rest of its cluster: it leaves with what only it has, and is
-- a primary again; what it shares with those who stay, stays with them. Was it the primary, the oldest of them follows it.
-- Nothing remembers this: whoever gives a detail of both again joins them again.
-- Raises no_data_found for a contact that is not there or deleted, object_not_in_prerequisite_state for one that has
-- nobody or nothing to leave with.
create or replace function identity.unlink(contact_id bigint) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    leaving identity.contact;
    heir bigint;
    keeps_email boolean;
    keeps_phone boolean;
begin
    perform identity.lock_all();
    select c.* into leaving from identity.contact c where c.contact_id = unlink.contact_id and c.deleted_at is null;
    if leaving.contact_id is null then
        raise no_data_found using message = format('there is no living contact %s', unlink.contact_id);
    end if;
    select coalesce(min(c.contact_id) filter (where c.linked_id is null),
                    (array_agg(c.contact_id order by c.created_at, c.contact_id))[1]),
           not coalesce(bool_or(c.email_key = leaving.email_key), false) and leaving.email is not null,
           not coalesce(bool_or(c.phone_key = leaving.phone_key), false) and leaving.phone_number is not null
    into heir, keeps_email, keeps_phone
    from identity.contact c
    where c.primary_id = leaving.primary_id and c.contact_id <> leaving.contact_id and c.deleted_at is null;
    if heir is null then
        raise object_not_in_prerequisite_state using message = format('contact %s is alone', unlink.contact_id);
    elsif not (keeps_email or keeps_phone) then
        raise object_not_in_prerequisite_state using
            message = format('contact %s has nothing that others of its cluster have not as well', unlink.contact_id),
            hint = 'Unlink those that share it, or erase the customer.';
    end if;
    update identity.contact c
    set linked_id = nullif(heir, c.contact_id), updated_at = clock_timestamp(),
        link_precedence = case c.contact_id when heir then 'primary' else 'secondary' end
    where leaving.linked_id is null and c.primary_id = leaving.primary_id and c.contact_id <> leaving.contact_id;
    update identity.contact c
    set linked_id = null, link_precedence = 'primary', updated_at = clock_timestamp(),
        email = case when keeps_email then c.email end, phone_number = case when keeps_phone then c.phone_number end,
        phone_normal = case when keeps_phone then c.phone_normal end
    where c.contact_id = leaving.contact_id;
end
$$;
