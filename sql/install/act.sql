-- Act: what a person did about an event, a destination, a round or contacts, who it was, and why. Append-only, written by the operator
-- commands in the transaction that makes the change, read by `events show`.
-- `actor` is who says so; `recorder` is the database role that the server knows it to be.
-- The customer sync writes acts too: what it releases, and what it lets expire, nobody has asked for.
-- An act `confirm` is the receipt of a delivery that a person knows to have reached InBoost.
create table if not exists outbox.act (
    act_id      bigint primary key generated always as identity,
    acted_at    timestamptz not null default clock_timestamp(),
    act         text not null
                check (act in ('confirm', 'resend', 'requeue', 'discard', 'release', 'record', 'pause', 'resume', 'run',
                               'expire', 'resolve', 'link', 'unlink', 'erase')),
    event_id    text collate "C",
    operation   text,
    destination text,
    round       text,
    actor       text not null check (actor <> ''),
    recorder    text not null default session_user,
    reason      text not null check (reason <> ''),
    detail      json,               -- what was true before: the state, its reason, how many attempts
    constraint an_act_has_its_object check (
        case when act in ('pause', 'resume')
                  then num_nonnulls(event_id, operation) = 0 and num_nonnulls(destination, round) = 1
             when act = 'run' then num_nonnulls(event_id, operation, destination) = 0 and round is not null
             when act in ('resolve', 'link', 'unlink', 'erase') then num_nonnulls(event_id, operation, destination, round) = 0
             when act = 'record' then event_id is not null and num_nonnulls(operation, destination, round) = 0
             else num_nonnulls(event_id, operation, destination) = 3 and round is null end)
);

do $$
begin
    if to_regclass('outbox.act_event_id') is null then
        create index act_event_id on outbox.act (event_id) where event_id is not null;
    end if;
end
$$;
