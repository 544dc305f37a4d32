"""The plain way: what accounting records reaches InBoost."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from tests.scenarios.judgement import assert_settled
from tests.scenarios.world import World


def bodies(world: World, operation: str) -> list[dict[str, Any]]:
    """Read what InBoost was told, every number with its scale."""
    effects = world.inboost.state.ledger.effects.after(0)
    return [json.loads(bytes(it.body), parse_float=str, parse_int=str) for it in effects if it.operation == operation]


def test_a_sale_reaches_each_of_its_operations_with_exact_bodies(world: World) -> None:
    customer = world.shop.customer("050 123-45-67")
    world.shop.accrue(customer, "100.00")
    purchase = world.shop.buy(customer, "1234.50", accrued="12.30", redeemed="100.00")
    world.start()
    assert_settled(world)
    (code_given, given), (code_redeemed, redeemed), (code_accrued, accrued) = world.rows(
        "select code, bonus_entry_id from accounting.bonus_entry order by bonus_entry_id"
    )
    [(purchased_at,)] = world.rows("select to_json(purchased_at)::text from accounting.purchase")
    phone = "+380501234567"
    line = {"sku": "A-1", "name": "Чай «Карпатський»", "quantity": "2.000", "price": "617.25", "amount": "1234.50"}
    other = {"sku": "B-2", "name": 'Coffee "strong"', "quantity": "0.250", "price": "0.00", "amount": "0.00"}
    assert bodies(world, "add_purchase") == [
        {
            "eventId": f"purchase:{purchase}",
            "purchaseId": str(purchase),
            "purchasedAt": json.loads(purchased_at),
            "total": "1234.50",
            "currency": "UAH",
            "bonusAccrued": "12.30",
            "bonusRedeemed": "100.00",
            "lines": [line, other],
        }
    ]
    [webhook] = bodies(world, "purchase_webhook")
    assert webhook.items() >= {"event": "purchase", "eventId": f"purchase:{purchase}", "phone": phone}.items()
    assert webhook.items() >= {"purchaseId": str(purchase), "total": "1234.50", "currency": "UAH"}.items()
    [redemption] = bodies(world, "redemption_webhook")
    assert redemption.items() >= {"eventId": f"bonus_redemption:{redeemed}", "code": code_redeemed}.items()
    assert redemption.items() >= {"amount": "100.00", "balance": "12.30", "phone": phone}.items()
    first, second = bodies(world, "accrual_webhook")
    assert (first["eventId"], first["code"], first["balance"]) == (f"bonus_accrual:{given}", code_given, "100.00")
    assert (second["eventId"], second["code"], second["balance"]) == (f"bonus_accrual:{accrued}", code_accrued, "12.30")
    assert [it["balance"] for it in bodies(world, "set_bonus_balance")] == ["100.00", "0.00", "12.30"]


def test_what_one_customer_does_arrives_in_its_order(world: World) -> None:
    customers = world.shop.customers(5)
    for number in range(100):
        world.shop.buy(customers[number % 5], f"{number + 1}.00", accrued="1.00")
    world.start()
    assert_settled(world)
    totals = [Decimal(it["total"]) for it in bodies(world, "purchase_webhook")]
    for customer in range(5):
        assert [total for total in totals if (total - 1) % 5 == customer] == [n + 1 for n in range(customer, 100, 5)]
    assert world.inboost.sandbox.summary()["overlap"]["count_max"] == 1


def test_a_purchase_of_nobody_goes_nowhere(world: World) -> None:
    world.do("insert into accounting.purchase (customer_id, total) values (null, 5.00)")
    world.shop.buy(world.shop.customer())
    world.start()
    assert_settled(world)
    assert world.effect_count() == 2
