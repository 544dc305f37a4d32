"""The reference mapping's views of facts as events: what a trigger asks of them is found by the key of its table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

LOOK_UPS = {
    "purchase_event": (
        "source_id",
        ["purchase_pkey", "purchase_line_pkey", "bonus_entry_purchase_id", "customer_pkey"],
    ),
    "bonus_entry_event": ("source_id", ["bonus_entry_pkey", "bonus_account_pkey", "customer_pkey"]),
    "bonus_balance_event": ("customer_id", ["bonus_account_pkey", "customer_pkey"]),
}


@pytest.mark.parametrize("view", LOOK_UPS)
def test_one_fact_is_looked_up_by_index(connect: Callable[..., psycopg.Connection[Any]], view: str) -> None:
    key, indexes = LOOK_UPS[view]
    # Tables this small are read whole otherwise; what is asked is whether the index can be used at all.
    connection = connect(options="-c enable_seqscan=off -c enable_bitmapscan=off")
    rows = connection.execute(f"explain (costs off) select * from integration.{view} where {key} = 1").fetchall()
    plan = "\n".join(line for (line,) in rows)
    assert "Seq Scan" not in plan, plan
    assert all(f"using {index} " in plan for index in indexes), plan


def test_facts_are_counted_without_making_their_payloads(connect: Callable[..., psycopg.Connection[Any]]) -> None:
    rows = connect().execute("explain (verbose, costs off) select count(*) from integration.fact").fetchall()
    assert not any("json_" in line or "purchase_line" in line for (line,) in rows)
