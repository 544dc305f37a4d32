-- Refuses to change a row of outbox.delivery: the trigger that calls it is named after the rule that would be broken, and its
-- `when` is the rule. These are no CHECKs because PostgreSQL parses and plans a table's CHECKs anew in each INSERT: the three
-- that once stood on event and delivery took a sixth of the time of a capture. A new delivery keeps the rules by itself.
create or replace function outbox.refuse_change() returns trigger
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    raise check_violation using
        message = format('delivery %s of event %s would break the rule "%s"', new.delivery_id, new.event_id, tg_name),
        schema = tg_table_schema, table = tg_table_name, constraint = tg_name;
end
$$;
