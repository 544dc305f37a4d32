-- Claim id: the fence. Every claim draws one, and whoever takes a claim over draws another for it.
create sequence if not exists outbox.claim_id;
