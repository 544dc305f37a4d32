-- What an upgrade leaves, because sales would wait for it: databases of version 1 say three rules of event and delivery by
-- CHECKs, which each capture pays for. All works as it is. At a quiet moment, as who installed:
--   psql --single-transaction --set ON_ERROR_STOP=1 --file sql/upgrade/later.sql
-- Sales wait while it waits for those that are open, half a second at most; then it gives up and changes nothing.
set local lock_timeout = '500ms';
set local role outbox_owner;
alter table outbox.event drop constraint if exists the_id_names_the_fact;
alter table outbox.delivery
    drop constraint if exists tries_are_attempts,
    drop constraint if exists stopping_has_a_reason;
create or replace trigger stopping_has_a_reason after update on outbox.delivery for each row
    when (new.reason is null and new.state not in ('pending', 'in_doubt')) execute function outbox.refuse_change();
create or replace trigger tries_are_attempts after update on outbox.delivery for each row
    when (new.try_count > new.attempt_count) execute function outbox.refuse_change();
reset role;
