-- Backlog: how many deliveries are in which state, and since when the oldest that is due waits. Counts them all, for people;
-- status and metrics, which ask again and again, count a bounded number (outbox_worker/database/backlog.py).
create or replace view outbox.backlog as
select d.destination, d.operation, d.state, count(*) as delivery_count,
       min(d.due_at) filter (where d.state in ('pending', 'in_doubt')) as oldest_due_at
from outbox.delivery d
group by d.destination, d.operation, d.state;
