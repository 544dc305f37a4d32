"""What the tests of identity ask and look at: requests, clusters, and what must be true of the table at all times."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from tests.sql.till import Session, value

Ask = tuple[str | None, str | None]


@dataclass(frozen=True)
class Contact:
    """An answer of the service."""

    primary: int
    emails: list[str]
    phones: list[str]
    secondaries: list[int]

    @classmethod
    def of(cls, answer: dict[str, Any]) -> Contact:
        assert list(answer) == ["contact"]
        assert list(answer["contact"]) == ["primaryContactId", "emails", "phoneNumbers", "secondaryContactIds"]
        return cls(*answer["contact"].values())


def identify(
    session: Session, email: str | None = None, phone: str | None = None, normal: str | None = None
) -> Contact:
    statement = "select identity.identify(%s::text, %s::text, %s::text)"
    return Contact.of(value(session, statement, email, phone, normal))


def add(session: Session, asks: Sequence[Ask]) -> dict[Ask, Contact]:
    """Add what can be added of these at once; return the answers to those."""
    emails, phones = [email for email, _ in asks], [phone for _, phone in asks]
    statement = "select place, answer from identity.add(%s::text[], %s::text[], %s::text[])"
    told = session.execute(statement, [emails, phones, [None] * len(asks)]).fetchall()
    return {asks[place - 1]: Contact.of(answer) for place, answer in sorted(told, key=itemgetter(0))}


def contacts(session: Session) -> list[tuple[Any, ...]]:
    """Return every row: id, e-mail, phone, linked id."""
    return session.execute(
        "select contact_id, email, phone_number, linked_id from identity.contact order by contact_id"
    ).fetchall()


def broken(session: Session) -> list[str]:
    """Name the promises that the table does not keep."""
    living = "from identity.contact c where c.deleted_at is null"
    checks = {
        "a cluster without one living primary": f"select primary_id {living} group by primary_id"
        " having count(*) filter (where linked_id is null) <> 1",
        "a secondary that points to no living primary": f"select contact_id {living} and linked_id is not null and not"
        " exists (select from identity.contact p where p.contact_id = c.linked_id and p.deleted_at is null"
        " and p.linked_id is null)",
        "a primary that is not the oldest": f"select contact_id {living} and exists (select from identity.contact p"
        " where p.contact_id = c.linked_id and (p.created_at, p.contact_id) > (c.created_at, c.contact_id))",
        "an e-mail address in two clusters": f"select email_key {living} and email_key is not null group by email_key"
        " having count(distinct primary_id) > 1",
        "a phone in two clusters": f"select phone_key {living} and phone_key is not null group by phone_key"
        " having count(distinct primary_id) > 1",
        "two rows that are the same": f"select email_key, phone_key {living} group by 1, 2 having count(*) > 1",
        "an answer that is out of date": "select primary_id from identity.large_cluster l"
        " where l.answer::text is distinct from (identity.compose(l.primary_id)).answer::text",
    }
    return [what for what, query in checks.items() if session.execute(query).fetchone()]


def components(asked: Iterable[Ask]) -> list[set[str]]:
    """Join what was asked together, as union-find does: the oracle. Values are told apart by their kind."""
    parent: dict[str, str] = {}

    def root(it: str) -> str:
        while parent.setdefault(it, it) != it:
            it = parent[it]
        return it

    for email, phone in asked:
        values = [f"{kind} {it}" for kind, it in (("e", email), ("p", phone)) if it]
        for it in values:
            parent[root(it)] = root(values[0])
    sets = defaultdict(set)
    for it in parent:
        sets[root(it)].add(it)
    return sorted(sets.values(), key=min)


def clusters(session: Session) -> list[set[str]]:
    """Return the same from the table: the values of each cluster."""
    rows = session.execute(
        "select primary_id, email_key, phone_key from identity.contact where deleted_at is null"
    ).fetchall()
    sets = defaultdict(set)
    for primary, email, phone in rows:
        sets[primary] |= {f"{kind} {it}" for kind, it in (("e", email), ("p", phone)) if it}
    return sorted(sets.values(), key=min)
