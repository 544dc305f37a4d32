-- Wakes the relay, which sleeps: an unconditional NOTIFY would serialise every commit of the accounting system, so record_event
-- calls this only where it did not get the doorbell's lock.
-- A relay that is about to sleep takes that lock exclusively, looks for work once more, and keeps the lock while it
-- sleeps. So a writer that gets the lock shared knows that a relay is awake, or will look after this writer has committed:
-- the writer keeps its share until then, and no relay falls asleep meanwhile. A writer that does not get it rings.
-- Nobody ever waits for this lock. The key is the word `outbox` in ASCII.
-- Where the bell would make the sale itself fail, at its commit, where nothing can be caught any more, it stays silent, and
-- the relay looks by itself:
--   * where transactions can be prepared (max_prepared_transactions > 0), for one that has notified cannot be prepared;
--   * where the server's queue of notifications fills up, because somebody listens to something and never reads.
create or replace function outbox.ring_doorbell() returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('max_prepared_transactions') = '0' and pg_notification_queue_usage() < 0.5 then
        perform pg_notify('outbox', '');
    end if;
end
$$;
