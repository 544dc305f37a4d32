"""Clients of InBoost that could not be stored: kept with the reason, tried again by each run, decided by people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, text

from outbox_worker.rules.clients import Client
from outbox_worker.rules.matching import Unstored

_STORED = text("delete from outbox.unstored_client where client_key = any (:keys)")
_UNSTORED = text("""
insert into outbox.unstored_client as known (client_key, phone, kind, reason, customer_ids, digest, document)
values (:client_key, :phone, :kind, :reason, :customer_ids, :digest, cast(:document as json))
on conflict (client_key) do update
set phone = excluded.phone, kind = excluded.kind, reason = excluded.reason, customer_ids = excluded.customer_ids,
    digest = excluded.digest, document = excluded.document,
    decision = case when known.digest = excluded.digest then known.decision end,
    decided_customer_id = case when known.digest = excluded.digest then known.decided_customer_id end,
    decided_at = case when known.digest = excluded.digest then known.decided_at end
where (known.phone, known.kind, known.reason, known.customer_ids, known.digest)
      is distinct from (excluded.phone, excluded.kind, excluded.reason, excluded.customer_ids, excluded.digest)
""")

# What is no object stays what it is, and what a person lets be is tried again when it changes.
_RETRYABLE = text("""
select unstored.unstored_client_id, unstored.document::text
from outbox.unstored_client unstored
where unstored.unstored_client_id > :after and unstored.kind <> 'unreadable'
  and unstored.decision is distinct from 'ignore'
order by unstored.unstored_client_id
limit :count_max
""")


def keep(connection: Connection, clients: Sequence[Client], unstored: Mapping[int, Unstored]) -> None:
    """Keep clients that cannot be stored. Where nothing of it is new, nothing is written."""
    rows = [_unstored_row(clients[position], it) for position, it in unstored.items()]
    if rows:
        connection.execute(_UNSTORED, rows)


def keep_unreadable(connection: Connection, items: Sequence[tuple[bytes, str]]) -> None:
    """Keep the digest and the beginning of items of a page that are no clients."""
    rows: list[dict[str, Any]] = [
        {
            "client_key": f"digest:{digest.hex()}",
            "phone": None,
            "kind": "unreadable",
            "reason": "an item of InBoost's list is no JSON object",
            "customer_ids": [],
            "digest": digest,
            "document": msgspec.json.encode({"excerpt": excerpt.replace("\0", "")}).decode(),
        }
        for digest, excerpt in items
    ]
    if rows:
        connection.execute(_UNSTORED, rows)


def retryable(connection: Connection, after: int, count_max: int) -> tuple[int, list[Client]]:
    """Return kept clients to be tried again, and the number after which the next ones are; (0, []) at the end."""
    rows = connection.execute(_RETRYABLE, {"after": after, "count_max": count_max}).all()
    return (rows[-1][0] if rows else 0), [msgspec.json.decode(row[1], type=Client) for row in rows]


def forget(connection: Connection, clients: Sequence[Client]) -> None:
    """Forget what is stored now. One that had no id before was kept by its phone."""
    keys = {key for it in clients for key in (it.key, f"phone:{it.phone}")}
    connection.execute(_STORED, {"keys": sorted(keys)})


def _unstored_row(client: Client, it: Unstored) -> dict[str, Any]:
    return {
        "client_key": client.key,
        "phone": client.phone,
        "kind": it.kind,
        "reason": it.reason,
        "customer_ids": list(it.customer_ids),
        "digest": client.digest,
        "document": msgspec.json.encode(client).decode(),
    }
