-- What a capture trigger calls in its exception handler: the sale goes on, the failure is kept, reconciliation repairs it.
-- Never raises: if even the note cannot be written, the server's log has it as a warning.
-- A conflict means that the fact is known: somebody else recorded it after this transaction's snapshot was taken.
create or replace function outbox.record_capture_failure(kind text, source_id text, sqlstate text, message text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if record_capture_failure.sqlstate in ('40001', '23505') then
        insert into outbox.duplicate (event_id)
        values (record_capture_failure.kind || ':' || coalesce(record_capture_failure.source_id, ''));
    else
        insert into outbox.capture_failure (kind, source_id, sqlstate, message)
        values (record_capture_failure.kind, record_capture_failure.source_id, record_capture_failure.sqlstate,
                left(record_capture_failure.message, 2000));
    end if;
exception when others then
    raise warning 'outbox: % % was not captured (%: %), and the failure could not be noted: %',
        record_capture_failure.kind, record_capture_failure.source_id, record_capture_failure.sqlstate,
        record_capture_failure.message, sqlerrm;
end
$$;
alter function outbox.record_capture_failure(text, text, text, text) owner to outbox_owner;
