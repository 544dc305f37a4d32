-- Email key: what e-mail addresses are compared by, without regard to case. Letters beyond ASCII are lowered as the
-- database's own locale has it.
create or replace function identity.email_key(email text) returns text
language sql immutable parallel safe
return pg_catalog.lower(email);
