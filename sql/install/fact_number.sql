-- Fact number: a name for facts that have none of their own, such as a change of a balance. A mapping draws one for each.
-- It is here and not in the mapping, because a mapping is taken out and loaded again while the events stay: numbers that
-- began anew would be those of other facts, and what bears them would be taken for known.
create sequence if not exists outbox.fact_number;
