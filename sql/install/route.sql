-- Route: which operations an event of a kind has, and where each goes.
-- Read by record_event for every event; `enabled` is set by the worker from its configuration when it starts.
-- Historic purchases have no webhook: it would start today's campaigns for last month's purchases.
create table if not exists outbox.route (
    kind        text not null,
    operation   text not null,
    destination text not null references outbox.destination,
    historic    boolean not null,               -- whether historic events take this route too
    enabled     boolean not null default true,
    primary key (kind, operation)
) with (autovacuum_analyze_threshold = 0, autovacuum_analyze_scale_factor = 0);

insert into outbox.route (kind, operation, destination, historic)
values
    ('bonus_balance',    'set_bonus_balance',  'api',             true),
    ('bonus_accrual',    'accrual_webhook',    'accrual_hook',    false),
    ('bonus_redemption', 'redemption_webhook', 'redemption_hook', false),
    ('purchase',         'purchase_webhook',   'purchase_hook',   false),
    ('purchase',         'add_purchase',       'api',             true),
    ('bonus_expiry',     'expiry_webhook',     'expiry_hook',     false)
on conflict do nothing;

-- Of a table that was never analysed the planner thinks that it has ten pages, and every sale would go through its index and a
-- bitmap to read the one that there is. The settings above do the same for a database that was restored.
analyze outbox.route;
