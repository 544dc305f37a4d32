-- Records the deliveries of an event that has contact data: they wait until the worker has identified whose it is, for a sale
-- never waits for identity's locks. Returns false, and does nothing, where no contact data was really given.
-- An event with a customer waits in the customer's lanes, and what comes after it there does not overtake it; one without
-- waits in lanes of its own, for nobody knows yet whose order it belongs to.
-- Called by record_event only, and with its rights.
create or replace function outbox.await_identity(
    event_id text, kind text, customer_id text, payload json, historic boolean
) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if num_nonnulls(identity.given(await_identity.payload ->> 'contact_email'),
                    identity.given(await_identity.payload ->> 'contact_phone')) = 0 then
        return false;
    end if;
    with recorded as (
        insert into outbox.delivery (lane, event_id, operation, destination, state, reason)
        select outbox.lane_of(r.destination, coalesce(await_identity.customer_id, await_identity.event_id)),
               await_identity.event_id, r.operation, r.destination, 'waiting', 'to be identified'
        from outbox.route r
        where r.kind = await_identity.kind and r.enabled and (r.historic or not await_identity.historic)
        returning event_id, operation, lane, delivery_id
    )
    insert into outbox.addressee (event_id, operation, lane, delivery_id, customer_id)
    select it.event_id, it.operation, it.lane, it.delivery_id, await_identity.customer_id from recorded it;
    perform outbox.ring_identification();
    return true;
end
$$;
