"""Who is to be told that bonuses will expire: lots become phones, each person once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from outbox_worker.rules.phones import normalise


@dataclass(frozen=True, slots=True)
class Lot:
    """A lot of bonuses of which something is left; `phone` is as accounting has it."""

    bonus_lot_id: str
    expires_on: date
    phone: str | None


@dataclass(frozen=True, slots=True)
class Horizon:
    """The lots meant: those that expire from `today` on and before `expires_before`."""

    today: date
    expires_before: date

    @classmethod
    def from_days(cls, today: date, days: int) -> Horizon:
        """Return the horizon that takes in what expires today, and up to so many days later."""
        return cls(today, today + timedelta(days=days + 1))


@dataclass(frozen=True, slots=True)
class Notice:
    """Lots and, in E.164, the phones of those who have them, in the order of expiry."""

    lots: Sequence[Lot]
    phones: Sequence[str]
    unusable_lots: Sequence[Lot]  # of customers whose phone is none; they are told when it was mended

    def only(self, bonus_lot_ids: Collection[str], region: str) -> Notice:
        """Return the notice of some of its lots."""
        kept = [lot for lot in self.lots if lot.bonus_lot_id in bonus_lot_ids]
        return replace(notice(kept, region), unusable_lots=self.unusable_lots)


def notice(lots: Sequence[Lot], region: str) -> Notice:
    """Make the notice of lots. Customers with one phone, however each writes it, are one person for InBoost."""
    usable: list[Lot] = []
    unusable: list[Lot] = []
    phones: dict[str, None] = {}
    for lot in lots:
        phone = normalise(lot.phone, region)
        if phone is None:
            unusable.append(lot)
        else:
            usable.append(lot)
            phones[phone] = None
    return Notice(usable, list(phones), unusable)
