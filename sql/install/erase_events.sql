-- Takes what names a person out of the outbox: out of the events that are all about that person (`event_ids`), contact data
-- and what was heard about them, and duties that are not done; out of the lists of phones in `shared_ids`, these `phones`.
-- What keeps facts from being recorded or sent again stays: event ids, kinds, amounts, receipts. Returns how many duties
-- were dropped. Raises object_in_use when something of it is being sent at this moment; then nothing is changed.
-- The one change that an event ever sees. The keys that hold contact data are those of sql/README.md.
create or replace function outbox.erase_events(event_ids text[], shared_ids text[], phones text[]) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    dropped_count bigint;
begin
    -- A relay locks a delivery before it claims it, so none of these is claimed once they are ours.
    perform from outbox.delivery d where d.event_id = any (erase_events.event_ids)
    order by d.lane, d.delivery_id for update;
    if exists (
        select from outbox.delivery d join outbox.claim c using (lane, delivery_id)
        where d.event_id = any (erase_events.event_ids)
    ) then
        raise object_in_use using message = 'something of this customer is being sent at this moment';
    end if;
    delete from outbox.delivery d where d.event_id = any (erase_events.event_ids);
    get diagnostics dropped_count = row_count;
    delete from outbox.addressee a where a.event_id = any (erase_events.event_ids);
    update outbox.event e
    set payload = (
        select json_object_agg(it.key, case when it.key not in ('phone', 'email', 'contact_phone', 'contact_email')
                                            then it.value end order by it.place)
        from json_each(e.payload) with ordinality it (key, value, place))
    where e.event_id = any (erase_events.event_ids) and json_typeof(e.payload) = 'object';
    update outbox.event e
    set payload = (
        select json_object_agg(it.key, case it.key when 'phones' then (
                   select coalesce(json_agg(p.phone order by p.place), '[]')
                   from json_array_elements_text(it.value) with ordinality p (phone, place)
                   where p.phone <> all (erase_events.phones)) else it.value end order by it.place)
        from json_each(e.payload) with ordinality it (key, value, place))
    where e.event_id = any (erase_events.shared_ids) and json_typeof(e.payload -> 'phones') = 'array';
    update outbox.attempt a set excerpt = null, digest = null, reason = null
    where a.event_id = any (erase_events.event_ids || erase_events.shared_ids);
    return dropped_count;
end
$$;
