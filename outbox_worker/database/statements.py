"""The statements of the relay, whole: what each locks and why it is right stands beside it.

Those of a turn ($1, $2 …) take arrays and JSON as text: one type and one plan for all sizes.
"""

from __future__ import annotations

# The common end: accepted. The claim is the fence; without it nothing is deleted and nothing is journaled.
# What belongs to a lane is found by its place in the arrays: a join of two short lists would compare each with each.
ACKNOWLEDGE = """
with ended as (
    delete from outbox.claim
    where lane = any ($1::bigint[]) and claim_id = any ($2::bigint[])
    returning lane, delivery_id, number, purpose, worker, claimed_at, array_position($1::bigint[], lane) as place
), delivered as (
    delete from outbox.delivery delivery using ended
    where delivery.lane = ended.lane and delivery.delivery_id = ended.delivery_id
    returning delivery.event_id, delivery.operation, ended.number, ended.purpose, ended.worker, ended.claimed_at,
              ended.place
), journal as (
    insert into outbox.attempt
        (event_id, operation, number, purpose, worker, begun_at, took_us, outcome, evidence, status, verdict, digest,
         excerpt)
    select event_id, operation, number, purpose, worker, claimed_at, ($3::integer[])[place], 'accepted',
           'answered', ($4::smallint[])[place], 'acknowledge',
           substring($5::bytea from place * 32 - 31 for 32), (array(select json_array_elements_text($6::json)))[place]
    from delivered
)
select lane from ended
"""

# Every other end. `state` is what becomes of the delivery; null: its duty is done and the row goes.
# What follows a delivery that waits for its client waits with it, so that no look passes over it again and again.
CONCLUDE = """
with said as materialized (
    select * from json_to_recordset($3::json) as said (
        lane bigint, took_us integer, outcome text, evidence text, status smallint, verdict text, state text,
        due_in_s float8, counts integer, miss_count integer, reason text, digest text, excerpt text)
), ended as (
    delete from outbox.claim
    where lane = any ($1::bigint[]) and claim_id = any ($2::bigint[])
    returning lane, delivery_id, number, purpose, worker, claimed_at
), over as materialized (
    select ended.delivery_id, ended.number, ended.purpose, ended.worker, ended.claimed_at, said.*
    from ended join said on said.lane = ended.lane
), moved as (
    update outbox.delivery delivery
    set state = over.state, due_at = clock_timestamp() + make_interval(secs => over.due_in_s),
        attempt_count = over.number, try_count = delivery.try_count + over.counts, miss_count = over.miss_count,
        reason = over.reason
    from over
    where delivery.lane = over.lane and delivery.delivery_id = over.delivery_id and over.state is not null
    returning delivery.event_id, delivery.operation, over.lane
), followers as (
    update outbox.delivery delivery
    set state = 'waiting', reason = 'behind a delivery that waits for the client'
    from over
    where delivery.lane = over.lane and delivery.delivery_id > over.delivery_id and delivery.state = 'pending'
      and over.state = 'waiting'
), gone as (
    delete from outbox.delivery delivery using over
    where delivery.lane = over.lane and delivery.delivery_id = over.delivery_id and over.state is null
    returning delivery.event_id, delivery.operation, over.lane
), journal as (
    insert into outbox.attempt
        (event_id, operation, number, purpose, worker, begun_at, took_us, outcome, evidence, status, verdict, reason,
         digest, excerpt)
    select it.event_id, it.operation, over.number, over.purpose, over.worker, over.claimed_at, over.took_us,
           over.outcome, over.evidence, over.status, over.verdict, over.reason, decode(over.digest, 'hex'), over.excerpt
    from (select * from moved union all select * from gone) it join over on over.lane = it.lane
)
select lane from ended
"""

# What was under way when a failing destination was laid to rest fails too, and says nothing new: the failure that
# counts is that of the next probe. A rest that the destination asked for is always heeded.
NOTE_DESTINATIONS = """
update outbox.destination destination
set failure_count = case when said.well then 0 when now.is_resting then destination.failure_count
                         else destination.failure_count + 1 end,
    probe_until = '-infinity',
    rest_until = greatest(
        destination.rest_until,
        case when said.rest_s > 0 then now.instant + make_interval(secs => said.rest_s) end,
        case when said.backoff_s > 0 and not now.is_resting
             then now.instant + make_interval(secs => said.backoff_s) end),
    paused_at = case when said.pause_reason is null then destination.paused_at
                     else coalesce(destination.paused_at, now.instant) end,
    pause_reason = coalesce(destination.pause_reason, said.pause_reason)
from json_to_recordset($1::json)
    as said (destination text, well boolean, rest_s float8, backoff_s float8, pause_reason text)
cross join lateral (
    select it.destination, clock_timestamp() as instant,
           it.failure_count >= $2::integer and it.rest_until > clock_timestamp() as is_resting
    from outbox.destination it where it.destination = said.destination
) now
where destination.destination = now.destination
"""

# A head is claimed if it is due, its destination is open, nothing before it in its lane is unsettled, nobody else is at
# it (skip locked: a row being concluded or claimed elsewhere), and the lane has no claim (its primary key).
# That it has none is asked before the delivery is locked. A conclusion takes the claim first and the delivery after it;
# who held the delivery and then met the claim would wait for the one who waits for the delivery, and of eight workers
# most did. A claim that is being concluded is still there for this statement, so nobody waits for it.
# A destination that has failed again and again is open to the one who sets `probe_until`, until the probe is concluded
# or its time is up: so of all workers one has one request there.
# A destination with a rate is open to the one who asks for no more than the rate allows now, and what was claimed is
# then spent. Its row stays locked until the turn commits, so that no other worker spends the same; who finds it locked
# passes over it. What it allows is computed of the row itself, not in a subquery: what another worker has spent since
# this statement began is then seen when the row is locked.
# The open states come as a parameter, so that the planner cannot prove that the index of open deliveries would do: on
# an empty table it is as cheap as the primary key, and the plan would outlive the emptiness.
# Whom an order with contact data goes to was written down before it became pending. The text of the payload tells which
# events have contact data, so that others cost no look-up.
# Beside the heads that the relay names it takes what a look finds, as far as there is room: so what is new need not be
# found by one turn and claimed by the next. Of a lane only the head passes; `union` lets it in once if it is both named
# and found, for a claim that is returned twice would be sent twice.
CLAIM = """
with due as materialized (
    select * from unnest($1::bigint[], $2::bigint[]) as known (lane, delivery_id)
    union
    select fresh.lane, fresh.delivery_id
    from unnest($11::text[], $12::bigint[], $13::integer[]) as look (destination, after, count_max)
    cross join lateral (
        select it.lane, it.delivery_id from outbox.delivery it
        where it.destination = look.destination and it.delivery_id > look.after
          and it.state in ('pending', 'in_doubt') and it.operation = any ($14::text[])
        order by it.delivery_id
        limit look.count_max
    ) fresh
), probing as (
    update outbox.destination destination
    set probe_until = clock_timestamp() + make_interval(secs => $5::float8),
        rate_from = case when destination.rate_max is null then destination.rate_from
                         else greatest(destination.rate_from, clock_timestamp() - destination.rate_span)
                              + make_interval(secs => 1 / destination.rate_max) end
    where destination.destination = any ($6::text[]) and destination.paused_at is null
      and destination.rest_until <= clock_timestamp() and destination.probe_until <= clock_timestamp()
      and destination.failure_count >= $7::integer
      and (destination.rate_max is null or destination.rate_from + destination.rate_span <= clock_timestamp())
    returning destination.destination
), rated as materialized (
    select destination.destination, destination.rate_max,
           greatest(destination.rate_from, clock_timestamp() - destination.rate_span) as up_to
    from unnest($9::text[], $10::integer[]) as asked (destination, number)
    join outbox.destination destination on destination.destination = asked.destination
    where destination.paused_at is null and destination.rest_until <= clock_timestamp()
      and destination.failure_count < $7::integer
      and asked.number <= 0.001 + destination.rate_max * extract(
          epoch from clock_timestamp() - greatest(destination.rate_from, clock_timestamp() - destination.rate_span))
    for update of destination skip locked
), open as (
    select array(
        select destination.destination from outbox.destination destination
        where destination.paused_at is null and destination.rest_until <= clock_timestamp()
          and destination.failure_count < $7::integer and destination.rate_max is null
        union all
        select probing.destination from probing
        union all
        select rated.destination from rated) as destinations
), head as materialized (
    select delivery.*
    from open
    cross join due
    cross join lateral (
        select * from outbox.delivery it
        where it.lane = due.lane and it.delivery_id = due.delivery_id
          and it.state = any ($8::text[]) and it.due_at <= clock_timestamp()
          and it.destination = any (open.destinations)
          and not exists (select from outbox.claim taken where taken.lane = due.lane)
          and not exists (
              select from outbox.delivery earlier
              where earlier.lane = due.lane and earlier.delivery_id < due.delivery_id
                and earlier.state = any ($3::text[]))
        for update skip locked
    ) delivery
), claimed as (
    insert into outbox.claim (lane, delivery_id, number, purpose, worker)
    select lane, delivery_id, attempt_count + 1, case state when 'pending' then 'send' else 'inquire' end, $4::uuid
    from head
    on conflict (lane) do nothing
    returning lane, claim_id
), listed as materialized (
    select array_agg(lane) as lanes, array_agg(claim_id) as claim_ids from claimed
), spent as (
    update outbox.destination destination
    set rate_from = rated.up_to + make_interval(secs => of_it.number / rated.rate_max)
    from rated
    cross join lateral (
        select count(*) as number from listed join head on head.lane = any (listed.lanes)
        where head.destination = rated.destination) of_it
    where destination.destination = rated.destination and of_it.number > 0
)
select listed.claim_ids[array_position(listed.lanes, head.lane)], head.lane, head.delivery_id, head.attempt_count + 1,
       case head.state when 'pending' then 'send' else 'inquire' end, head.event_id, head.operation, head.destination,
       event.payload::text, event.occurred_at, event.recorded_at, head.try_count, head.miss_count,
       case when strpos(event.payload::text, '"contact_') > 0 then (
           select addressee.phone from outbox.addressee addressee
           where addressee.event_id = head.event_id and addressee.operation = head.operation) end
from listed
join head on head.lane = any (listed.lanes)
join outbox.event event on event.event_id = head.event_id
"""

# What could not be claimed because an earlier delivery of its lane waits is made to wait with it. The one before is
# locked (shared, and passed over if somebody is at it): a person who settles it at this moment releases its followers,
# and one that was made to wait a moment later would wait for ever.
FOLLOW = """
update outbox.delivery delivery
set state = 'waiting', reason = 'behind a delivery that is ' || earlier.state
from unnest($1::bigint[], $2::bigint[]) as due (lane, delivery_id)
cross join lateral (
    select blocker.state from outbox.delivery blocker
    where blocker.lane = due.lane and blocker.delivery_id < due.delivery_id and blocker.state = any ($3::text[])
    order by blocker.delivery_id
    limit 1
    for share skip locked
) earlier
where delivery.lane = due.lane and delivery.delivery_id = due.delivery_id and delivery.state = 'pending'
"""

LOOK = """
select look.destination, delivery.delivery_id, delivery.lane, delivery.due_in_s
from unnest($1::text[], $2::bigint[], $3::integer[]) as look (destination, after, count_max)
cross join lateral (
    select delivery.delivery_id, delivery.lane,
           greatest(0, extract(epoch from delivery.due_at - clock_timestamp()))::float8 as due_in_s
    from outbox.delivery delivery
    where delivery.destination = look.destination and delivery.delivery_id > look.after
      and delivery.state in ('pending', 'in_doubt') and delivery.operation = any ($4::text[])
    order by delivery.delivery_id
    limit look.count_max
) delivery
"""

REREAD = """
select delivery.delivery_id, delivery.lane, delivery.due_in_s
from unnest($1::bigint[]) as short (lane)
cross join lateral (
    select delivery.delivery_id, delivery.lane,
           greatest(0, extract(epoch from delivery.due_at - clock_timestamp()))::float8 as due_in_s
    from outbox.delivery delivery
    where delivery.lane = short.lane and delivery.state in ('pending', 'in_doubt') and delivery.operation = any
    ($2::text[]) order by delivery.delivery_id
    limit $3::integer
) delivery
"""

# Nothing is subtracted from infinity: before PostgreSQL 17 that is an error.
DESTINATIONS = """
select destination.destination, destination.paused_at is not null, destination.failure_count,
       greatest(0, extract(epoch from greatest(
           clock_timestamp(), destination.rest_until,
           case when destination.failure_count >= $1::integer then destination.probe_until end,
           case when destination.rate_max is not null then destination.rate_from + destination.rate_span end
       ) - clock_timestamp()))::float8,
       case when destination.rate_max is not null
            then floor(extract(epoch from destination.rate_span) * destination.rate_max + 0.001)::integer end
from outbox.destination destination
"""

# How old the oldest claim is of which this worker knows nothing. Passes over what was claimed and concluded since the
# last vacuum, so it is not for every turn.
FOREIGN_CLAIMS = """
select extract(epoch from clock_timestamp() - min(claim.claimed_at))::float8 from outbox.claim claim
where claim.lane <> all ($1::bigint[])
"""

# The claim keeps the name of its worker: ours would make it one that we may release as never sent, should the answer
# to this be lost. Where a person has removed the delivery there is nothing left to conclude, and the claim goes.
TAKE_OVER = """
with overdue as materialized (
    select claim.lane from outbox.claim claim
    where claim.claimed_at < clock_timestamp() - make_interval(secs => %s) and claim.lane <> all (%s::bigint[])
    order by claim.claimed_at
    limit %s
    for update skip locked
), taken as (
    update outbox.claim claim set claim_id = nextval('outbox.claim_id'), taken_at = clock_timestamp()
    from overdue join outbox.delivery delivery on delivery.lane = overdue.lane
    where claim.lane = overdue.lane and delivery.delivery_id = claim.delivery_id
    returning claim.*
), pointless as (
    delete from outbox.claim claim using overdue
    where claim.lane = overdue.lane and not exists (
        select from outbox.delivery delivery
        where delivery.lane = claim.lane and delivery.delivery_id = claim.delivery_id)
)
select taken.claim_id, taken.lane, taken.delivery_id, taken.number, taken.purpose, delivery.event_id,
       delivery.operation, delivery.destination, event.payload::text, event.occurred_at, event.recorded_at,
       delivery.try_count, delivery.miss_count,
       case when strpos(event.payload::text, '"contact_') > 0 then (
           select addressee.phone from outbox.addressee addressee
           where addressee.event_id = delivery.event_id and addressee.operation = delivery.operation) end,
       taken.claimed_at
from taken
join outbox.delivery delivery on delivery.lane = taken.lane and delivery.delivery_id = taken.delivery_id
join outbox.event event on event.event_id = delivery.event_id
"""

# Not what was taken over: it was sent, perhaps by us, and who took it over is about to write down the doubt.
# By claim, not by lane: the turn whose answer was lost may have concluded one delivery of a lane and claimed the next.
RELEASE = "delete from outbox.claim where worker = %s and claim_id <> all (%s::bigint[]) and taken_at is null"
END_SESSION = """
select pg_terminate_backend(pid, 2000) from pg_stat_activity where pid = %s and application_name = %s
  and pid <> pg_backend_pid()
"""
ENABLE_ROUTES = """
update outbox.route route set enabled = (route.operation = any (%s::text[]))
where route.enabled <> (route.operation = any (%s::text[]))
"""
SET_RATES = """
update outbox.destination destination set rate_max = asked.rate_max
from unnest(%s::text[], %s::float8[]) as asked (destination, rate_max)
where destination.destination = asked.destination and destination.rate_max is distinct from asked.rate_max
"""
SOMEBODY_SLEEPS = """
select exists (
    select from pg_locks lock
    where lock.locktype = 'advisory' and lock.mode = 'ExclusiveLock' and lock.granted and lock.objsubid = 1
      and lock.database = (select oid from pg_database where datname = current_database())
      and lock.classid = (%s::bigint >> 32)::oid and lock.objid = (%s::bigint & 4294967295)::oid)
"""
ARM = "select pg_try_advisory_lock($1::bigint)"
DISARM = "select pg_advisory_unlock($1::bigint)"
