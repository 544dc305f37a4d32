-- Looks two values up, in one statement and so in one snapshot: the cluster of each, and the answer, if all that is given is
-- known and belongs to one cluster. It takes no lock. Called by identity.identify.
create or replace function identity.look(
    email_key text, phone_key text, out of_email bigint, out of_phone bigint, out answer json
)
language plpgsql stable
as $$
#variable_conflict use_column
begin
    select found.of_email, found.of_phone,
           case when (look.email_key is null or found.of_email is not null)
                 and (look.phone_key is null or found.of_phone is not null)
                 and coalesce(found.of_email, found.of_phone) = coalesce(found.of_phone, found.of_email)
                then identity.cluster(coalesce(found.of_email, found.of_phone)) end
    into look.of_email, look.of_phone, look.answer
    from (
        select (select c.primary_id from identity.contact c
                where c.email_key = look.email_key and c.deleted_at is null limit 1) as of_email,
               (select c.primary_id from identity.contact c
                where c.phone_key = look.phone_key and c.deleted_at is null limit 1) as of_phone
        offset 0  -- so that each is looked up once, and not wherever it is mentioned
    ) found;
end
$$;
