-- Sync run: how far a customer sync has read and what it has done, one row for each run. Written by the sync in the
-- transactions that do it, so it is right whatever is interrupted; read by the next run, by `customers` and by metrics.
-- A run without an end is gone on with: at its cursor, or where that has expired or is null, at its watermark `since`.
-- Only the end of a run moves the watermark, for InBoost does not promise an order of its pages.
create table if not exists outbox.sync_run (
    sync_run_id    bigint primary key generated always as identity,
    begun_at       timestamptz not null default clock_timestamp(),
    ended_at       timestamptz,
    since          timestamptz,                -- clients updated since then are read; null: all
    cursor         text,                       -- of the page to be read next; null: the first
    asked_at       timestamptz,                -- by InBoost's clock: when the first page was asked for
    newest_at      timestamptz,                -- the newest update that was seen
    watermark      timestamptz,                -- since when the next run reads; known at the end
    problem        text,                       -- why it has stopped, until it goes on
    customer_count bigint not null default 0,  -- of accounting, when it began
    page_count     bigint not null default 0,
    read_count     bigint not null default 0,
    created_count  bigint not null default 0,
    changed_count  bigint not null default 0,
    linked_count   bigint not null default 0,
    history_count  bigint not null default 0,  -- purchases recorded as history
    balance_count  bigint not null default 0,
    released_count bigint not null default 0,  -- deliveries that had waited for their client
    expired_count  bigint not null default 0   -- those of them that had waited too long
);
