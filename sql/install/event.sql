-- Event: a fact, recorded in the transaction that made it true. Immutable, append-only, written only by record_event.
-- The event id is the fact's own name, kind and source id, so the same fact recorded again meets this primary key. No CHECK
-- says so, for those of a table are parsed anew by every insert: record_event makes the id, and nobody else may insert.
-- It is a readable text and not a hash because neighbours in time are then neighbours in the index: a random key would
-- touch another page with each sale, and the accounting database would pay for that in write-ahead log.
-- The payload is json, not jsonb: it is stored and sent as it was recorded, with the scale of every number.
-- A vacuum that gives pages back locks out those who insert, so it gives none back.
create table if not exists outbox.event (
    event_id    text collate "C" primary key,
    sequence    bigint not null generated always as identity,  -- order of recording, for readers of the log; has holes
    kind        text not null,
    source_id   text not null,                                 -- names the fact in the accounting system, for all time
    customer_id text,
    occurred_at outbox.instant not null,
    recorded_at timestamptz not null default clock_timestamp(),
    historic    boolean not null,
    payload     json not null
) with (vacuum_truncate = off);

-- Pages are filled in order of time, so a block range index finds a window of days and costs a writer next to nothing.
do $$
begin
    if to_regclass('outbox.event_recorded_at') is null then
        create index event_recorded_at on outbox.event using brin (recorded_at) with (autosummarize = on);
    end if;
end
$$;
