-- What a capture function calls in its exception handler: the sale goes on, the failure is kept, reconciliation repairs it.
-- Under REPEATABLE READ a fact that is known, but too new for this transaction's snapshot, comes as serialization failure.
-- It is a duplicate, and no failure. No query of this transaction can see whether it is so; the primary key of the event
-- can, for a unique check looks beyond the snapshot: so the event is inserted, and taken back if that works.
-- May raise (the outbox may be what is broken), so the mapping has a last handler of its own.
create or replace function outbox.record_capture_failure(kind text, source_id text, sqlstate text, message text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    known_id constant text := record_capture_failure.kind || ':' || record_capture_failure.source_id;
begin
    if record_capture_failure.sqlstate = '40001' then
        begin
            insert into outbox.event (event_id, kind, source_id, occurred_at, historic, payload)
            values (known_id, record_capture_failure.kind, record_capture_failure.source_id,
                    now(), false, 'null');
            raise exception 'the fact was not known';
        exception
            when unique_violation then
                insert into outbox.duplicate (event_id) values (known_id);
                return;
            when others then
                null;
        end;
    end if;
    insert into outbox.capture_failure (kind, source_id, sqlstate, message)
    values (coalesce(record_capture_failure.kind, ''), record_capture_failure.source_id,
            record_capture_failure.sqlstate, left(record_capture_failure.message, 2000));
end
$$;
