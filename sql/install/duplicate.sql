-- Duplicate: a fact that was recorded again and refused because it was known. Append-only, written by record_event.
create table if not exists outbox.duplicate (
    duplicate_id bigint primary key generated always as identity,
    event_id     text collate "C" not null,
    refused_at   timestamptz not null default clock_timestamp(),
    historic     boolean,           -- whether the refused recording was part of a history transfer; null: not known
    recorder     text not null default session_user
);

do $$
begin
    if to_regclass('outbox.duplicate_refused_at') is null then
        create index duplicate_refused_at on outbox.duplicate using brin (refused_at);
    end if;
end
$$;
