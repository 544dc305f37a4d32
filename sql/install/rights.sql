-- Rights: PUBLIC has none. The worker may not insert events or deliveries except through record_event, and may not rewrite
-- the journal.
revoke all on all tables in schema outbox from public;
revoke all on all functions in schema outbox from public;
grant usage on schema outbox to outbox_worker;
grant select on all tables in schema outbox to outbox_worker;
grant update, delete on outbox.delivery to outbox_worker;
grant insert, update, delete on outbox.claim to outbox_worker;
grant update on outbox.addressee to outbox_worker;
grant usage on sequence outbox.claim_id to outbox_worker;
grant insert on outbox.attempt to outbox_worker;
grant insert on outbox.act to outbox_worker;
grant update on outbox.destination to outbox_worker;
grant insert, update, delete on outbox.client, outbox.unstored_client, outbox.customer_phone to outbox_worker;
grant insert, update on outbox.sync_run to outbox_worker;
grant update on outbox.round to outbox_worker;
grant insert, update on outbox.round_run to outbox_worker;
grant insert on outbox.told_lot to outbox_worker;
grant execute on function outbox.forget_events(timestamptz, timestamptz, integer),
    outbox.forget_journals(timestamptz, integer) to outbox_worker;
grant update (enabled) on outbox.route to outbox_worker;
grant update (repaired_at) on outbox.capture_failure to outbox_worker;
grant execute on function outbox.record_event(text, text, text, json, timestamptz, boolean) to outbox_worker;
grant execute on function outbox.lane_of(text, text), outbox.schema_version() to outbox_worker;

-- Identify. Who serves it may ask, and nothing else.
revoke all on all tables in schema identity from public;
revoke all on all functions in schema identity from public;
grant usage on schema identity to outbox_worker, outbox_identify;
grant usage on schema outbox to outbox_identify;
grant execute on function outbox.schema_version() to outbox_identify;
grant execute on function identity.identify(text, text, text), identity.known(text[], text[], text[]),
    identity.add(text[], text[], text[]) to outbox_worker, outbox_identify;
grant select on identity.contact to outbox_worker;
grant execute on function identity.given(text), identity.email_key(text) to outbox_worker;
grant execute on function outbox.erase_events(text[], text[], text[]), outbox.erase_clients(text[]) to outbox_worker;
grant execute on function identity.link(bigint, bigint), identity.unlink(bigint), identity.erase(bigint) to outbox_worker;
