-- Schema outbox: facts (event), duties (delivery), what is on its way (claim), what was tried (attempt).
create schema if not exists outbox authorization outbox_owner;
revoke all on schema outbox from public;
comment on schema outbox is 'Transactional outbox of outbox-worker. Accounting users need no right here.';
