-- Wakes the worker's identification when it sleeps, and only then. It is ring_doorbell with a bell of its own, because the
-- relay is awake when much is delivered and identification is not; what is said there holds here. The key is the
-- doorbell's and four.
-- Called by await_identity only, and with its rights and its search path.
create or replace function outbox.ring_identification() returns void
language plpgsql volatile
as $$
begin
    if not pg_try_advisory_xact_lock_shared(122550254464892)
       and current_setting('max_prepared_transactions') = '0' and pg_notification_queue_usage() < 0.5 then
        perform pg_notify('outbox_identification', '');
    end if;
end
$$;
