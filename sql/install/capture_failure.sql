-- Capture failure: a fact that could not be recorded when it happened. The sale went on; reconciliation records the fact later.
-- Written by record_capture_failure, read by the worker's metrics, `status` and reconciliation.
create table if not exists outbox.capture_failure (
    capture_failure_id bigint primary key generated always as identity,
    kind               text not null,
    source_id          text,
    failed_at          timestamptz not null default clock_timestamp(),
    sqlstate           text not null,
    message            text not null,
    repaired_at        timestamptz
);

do $$
begin
    if to_regclass('outbox.capture_failure_open') is null then
        create index capture_failure_open on outbox.capture_failure (failed_at) where repaired_at is null;
    end if;
end
$$;
