-- Given: a value without the white space around it, or null where there is none. 160 and those after it are the spaces and
-- the invisible characters that come along when something is copied from a page.
-- Careless programs write a missing value as the word null or undefined; taken for a value, it would make one person of
-- all strangers who left the field empty.
create or replace function identity.given(value text) returns text
language plpgsql immutable parallel safe
as $$
declare
    trimmed constant text :=
        btrim(value, E' \t\n\r\f\x0b' || chr(160) || chr(8203) || chr(8239) || chr(12288) || chr(65279));
begin
    return case when lower(trimmed) not in ('', 'null', 'undefined') then trimmed end;
end
$$;
