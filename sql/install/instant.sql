-- Instant: when something happened, as every program that reads it can hold it.
-- Accounting has infinities, years before Christ and mistyped years of five digits in its columns, and no other language
-- has: one such event in the outbox would stop the worker that reads it. So it is refused here, kept as a capture failure,
-- and a person sees it. A domain and not a CHECK of the table, for those are parsed anew by every insert.
do $$
begin
    if to_regtype('outbox.instant') is null then
        create domain outbox.instant as timestamptz
            constraint an_instant_has_a_year_of_four_digits
            check (value >= '0001-01-03 00:00+00' and value < '9999-12-30 00:00+00');
    end if;
end
$$;
