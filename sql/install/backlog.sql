-- Backlog: how many deliveries are in which state, and since when the oldest that is due waits. For status and metrics.
create or replace view outbox.backlog as
select d.destination, d.operation, d.state, count(*) as delivery_count,
       min(d.due_at) filter (where d.state in ('pending', 'in_doubt')) as oldest_due_at
from outbox.delivery d
group by d.destination, d.operation, d.state;
