-- The one door: triggers, history transfer, reconciliation and people all record facts here.
-- Returns true if the fact was new, false if it was known (and is then noted in outbox.duplicate).
-- Locks: the primary key entry of this one event, until the transaction ends. Only somebody who records the same fact at the
-- same moment could wait for it, and accounting's own row lock on that fact comes before.
-- Under REPEATABLE READ a known event that is too new for the snapshot raises serialization_failure instead of being passed
-- over; record_capture_failure turns that into a duplicate.
-- Every sale comes through here, so it pins no search path: to set one and take it back costs a sale several microseconds.
-- Instead each name is written in full, operators and types too, and what it calls pins its own; a test looks after it.
create or replace function outbox.record_event(
    kind text, source_id text, customer_id text, payload json, occurred_at timestamptz, historic boolean default false
) returns boolean
language plpgsql volatile security definer
as $$
#variable_conflict use_column
declare
    new_id constant pg_catalog.text :=
        record_event.kind operator(pg_catalog.||) ':' operator(pg_catalog.||) record_event.source_id;
begin
    insert into outbox.event (event_id, kind, source_id, customer_id, occurred_at, historic, payload)
    values (new_id, record_event.kind, record_event.source_id, record_event.customer_id, record_event.occurred_at,
            record_event.historic, record_event.payload)
    on conflict do nothing;
    if not found then
        insert into outbox.duplicate (event_id, historic) values (new_id, record_event.historic);
        return false;
    end if;
    -- Contact data: whose the event is must be found out first. Only the text is searched where there are none.
    if pg_catalog.strpos(record_event.payload::pg_catalog.text, '"contact_') operator(pg_catalog.=) 0
       or not outbox.await_identity(new_id, record_event.kind, record_event.customer_id, record_event.payload,
                                    record_event.historic) then
        insert into outbox.delivery (lane, event_id, operation, destination)
        select outbox.lane_of(r.destination, record_event.customer_id), new_id, r.operation, r.destination
        from outbox.route r
        where r.kind operator(pg_catalog.=) record_event.kind and r.enabled
          and (r.historic or not record_event.historic);
    end if;
    -- Nobody is awake: see ring_doorbell.
    if not pg_catalog.pg_try_advisory_xact_lock_shared(122550254464888) then
        perform outbox.ring_doorbell();
    end if;
    return true;
end
$$;
