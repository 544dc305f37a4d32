-- Schema identity: one person, many contact details. The outbox asks it whose an order with contact data is
-- (await_identity.sql); it knows nothing of the outbox. The rules are in identity_identify.sql.
create schema if not exists identity authorization outbox_owner;
revoke all on schema identity from public;
comment on schema identity is 'Which contact details belong to one person. Everybody comes in through identity.identify.';
