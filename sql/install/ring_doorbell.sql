-- Wakes the relay when it sleeps, and only then: an unconditional NOTIFY would serialise every commit of the accounting system.
-- A relay that is about to sleep takes the doorbell's lock exclusively, looks for work once more, and keeps the lock while it
-- sleeps. So a writer that gets the lock shared knows that a relay is awake, or will look after this writer has committed:
-- the writer keeps its share until then, and no relay falls asleep meanwhile. A writer that does not get it rings.
-- Nobody ever waits for this lock. The key is the word `outbox` in ASCII.
-- Where transactions can be prepared (max_prepared_transactions > 0) the bell stays silent, because a transaction that has
-- notified cannot be prepared: the accounting system would see an error of our making. The relay then looks by itself.
create or replace function outbox.ring_doorbell() returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if not pg_try_advisory_xact_lock_shared(122550254464888)
       and current_setting('max_prepared_transactions') = '0' then
        perform pg_notify('outbox', '');
    end if;
end
$$;
alter function outbox.ring_doorbell() owner to outbox_owner;
