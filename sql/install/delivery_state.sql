-- Delivery state: where a delivery stands; the drawing is in delivery.sql.
-- A domain and not a CHECK of the table, for those are parsed anew by every insert, and each sale makes several.
do $$
begin
    if to_regtype('outbox.delivery_state') is null then
        create domain outbox.delivery_state as text
            constraint a_delivery_state_is_one_of_five
            check (value in ('pending', 'in_doubt', 'held', 'dead', 'waiting'));
    end if;
end
$$;
