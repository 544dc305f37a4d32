-- Schema identity: one person, many contact details. Nothing of the outbox needs it; the rules are in identity_identify.sql.
create schema if not exists identity authorization outbox_owner;
revoke all on schema identity from public;
comment on schema identity is 'Which contact details belong to one person. Everybody comes in through identity.identify.';
