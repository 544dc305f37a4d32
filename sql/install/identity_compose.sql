-- Composes the answer for a cluster from its contacts: the primary's e-mail address and phone first, then the others in
-- order of age, each once and as it was first stored. Called by identity.cluster and identity.keep.
-- Most customers have one contact, and nothing of it needs to be sorted or compared.
create or replace function identity.compose(primary_id bigint, out answer json, out contact_count bigint)
language plpgsql stable
as $$
declare
    only_one record;
begin
    select count(*) as contact_count, min(c.email) as email, min(c.phone_number) as phone_number into only_one
    from identity.contact c where c.primary_id = compose.primary_id and c.deleted_at is null;
    if only_one.contact_count = 1 then
        contact_count := 1;
        answer := json_build_object('contact', json_build_object(
            'primaryContactId', compose.primary_id,
            'emails', array_to_json(array_remove(array[only_one.email], null)),
            'phoneNumbers', array_to_json(array_remove(array[only_one.phone_number], null)),
            'secondaryContactIds', '[]'::json));
        return;
    end if;
    with member as (
        select c.contact_id, c.email, c.email_key, c.phone_number, c.phone_key,
               row_number() over (order by c.linked_id is not null, c.created_at, c.contact_id) as place
        from identity.contact c
        where c.primary_id = compose.primary_id and c.deleted_at is null
    )
    select json_build_object('contact', json_build_object(
               'primaryContactId', compose.primary_id,
               'emails', coalesce((
                   select json_agg(e.email order by e.place)
                   from (select distinct on (m.email_key) m.email, m.place
                         from member m where m.email_key is not null order by m.email_key, m.place) e), '[]'),
               'phoneNumbers', coalesce((
                   select json_agg(p.phone_number order by p.place)
                   from (select distinct on (m.phone_key) m.phone_number, m.place
                         from member m where m.phone_key is not null order by m.phone_key, m.place) p), '[]'),
               'secondaryContactIds', coalesce(json_agg(m.contact_id order by m.place) filter (where m.place > 1), '[]'))),
           count(*)
    into compose.answer, compose.contact_count
    from member m;
end
$$;
