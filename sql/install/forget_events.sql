-- Forgets old events: of each its name is left, and nothing of its story. Called by housekeeping, for a slice of time in
-- small batches; returns how many it has forgotten, and is called again until that is 0.
-- The name must stay: it is what makes the same fact, recorded again by a trigger, a history transfer, a reconciliation or a
-- restore, a duplicate and not a new event; and this way the door needs no second look. What is left has a payload of null
-- and no customer, a hundred bytes. A change of a balance has a name that never comes again, so its event goes whole; but the
-- last one of each customer stays, for it says what InBoost was told; later ones are found by the customer's id, with which
-- the names of balances begin.
-- An event with an open delivery is left alone, whatever its state.
-- The youngest that can be forgotten are 120 days old: history of three months is transferred, and a month is the margin.
-- Locks: the rows of these events. Only who records one of these old facts again at this moment could wait, for milliseconds.
create or replace function outbox.forget_events(since timestamptz, before timestamptz, batch_max integer) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    old_ids text[];
begin
    if forget_events.before > clock_timestamp() - interval '120 days' then
        raise invalid_parameter_value using message = 'events younger than 120 days are not forgotten';
    end if;
    old_ids := array(
        select e.event_id
        from outbox.event e
        where e.recorded_at >= forget_events.since and e.recorded_at < forget_events.before
          and e.payload::text <> 'null'
          and not exists (select from outbox.delivery d where d.event_id = e.event_id)
          and (e.kind <> 'bonus_balance' or exists (
              select from outbox.event later
              where later.event_id > ('bonus_balance:' || e.customer_id || '-') collate "C"
                and later.event_id < ('bonus_balance:' || e.customer_id || '.') collate "C"
                and later.customer_id = e.customer_id and later.sequence > e.sequence))
        limit forget_events.batch_max
    );
    delete from outbox.attempt a where a.event_id = any (old_ids);
    delete from outbox.act a where a.event_id = any (old_ids);
    delete from outbox.addressee a where a.event_id = any (old_ids);
    delete from outbox.event e where e.event_id = any (old_ids) and e.kind = 'bonus_balance';
    update outbox.event e set payload = 'null', customer_id = null
    where e.event_id = any (old_ids);
    return cardinality(old_ids);
end
$$;
