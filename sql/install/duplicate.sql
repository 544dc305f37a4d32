-- Duplicate: a fact that was recorded again and refused because it was known. Append-only, written by record_event.
create table if not exists outbox.duplicate (
    event_id   text collate "C" not null,
    refused_at timestamptz not null default clock_timestamp(),
    historic   boolean,             -- whether the refused recording was part of a history transfer; null: not known
    recorder   text not null default session_user
);
alter table outbox.duplicate owner to outbox_owner;
create index if not exists duplicate_refused_at on outbox.duplicate using brin (refused_at);
