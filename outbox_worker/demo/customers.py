"""The customers of the demo: one valid Ukrainian mobile number each, spelled as people spell them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

_CODES = ("50", "63", "66", "67", "68", "73", "93", "95", "96", "97", "98", "99")
_SPELLINGS = (
    "+380{code}{a}{b}{c}",
    "0{code} {a} {b} {c}",
    "(0{code}) {a}-{b}-{c}",
    "+380 {code} {a} {b} {c}",
    "0{code}-{a}-{b}-{c}",
    "380{code}{a}{b}{c}",
    "+38 (0{code}) {a} {b} {c}",
)
_FIRST_NAMES = ("Олена", "Іван", "Марія", "Тарас", "Наталія", "Андрій", "Софія", "Богдан", "Ganna", "Юрій")
_LAST_NAMES = ("Шевченко", "Коваленко", "Бондар", "Ткаченко", "Мельник", "Кравець", "O'Neill", "Ґава", "Лисенко")


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer; `phone` is E.164, as InBoost has it, `spelled_phone` is what somebody typed into accounting."""

    name: str  # in the purchases
    phone: str
    spelled_phone: str
    first_name: str
    last_name: str


def invent(names: Iterable[str], seed: int) -> dict[str, Customer]:
    """Give each name a customer of its own; the same seed gives the same."""
    chance = Random(seed)  # noqa: S311  # guards nothing
    distinct = list(dict.fromkeys(names))
    # Drawn without replacement, so no two are alike whatever the code; none begins with 0 or consists of one digit.
    numbers = chance.sample(range(1_234_567, 9_876_543), len(distinct))
    return {name: _customer(name, str(number), chance) for name, number in zip(distinct, numbers, strict=True)}


def _customer(name: str, number: str, chance: Random) -> Customer:
    code = chance.choice(_CODES)
    words = {"code": code, "a": number[:3], "b": number[3:5], "c": number[5:]}
    return Customer(
        name,
        f"+380{code}{number}",
        chance.choice(_SPELLINGS).format(**words),
        chance.choice(_FIRST_NAMES),
        chance.choice(_LAST_NAMES),
    )
