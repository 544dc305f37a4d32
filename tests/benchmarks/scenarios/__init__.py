"""What is measured: each scenario in a module of its own, which measures one contender once and returns figures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from tests.benchmarks.contenders import OURS, PEERS, Contender
from tests.benchmarks.world import World


@dataclass(frozen=True, slots=True)
class Figure:
    """One column of a scenario's table: where it stands, what it is, how many digits are shown."""

    key: str
    title: str
    digits: int = 0
    more_is_better: bool = False


@dataclass(frozen=True, slots=True)
class Goal:
    """What is demanded of ours, what was measured, and what the best peer has where one is compared with."""

    text: str
    measured: str
    met: bool
    peer: str = ""


class Subject(Protocol):
    """What is measured: a contender, or something that a scenario makes of one."""

    name: str


Medians = Mapping[str, Mapping[str, float]]  # of each contender's figures


class Scenario(ABC):
    """One situation to put every contender into."""

    name: ClassVar[str]
    title: ClassVar[str]
    figures: ClassVar[Sequence[Figure]]

    def lineup(self, contenders: Sequence[Contender]) -> Iterable[Subject]:
        """Return what is measured, one after another: the contenders, if the scenario makes nothing else of them."""
        return contenders

    @abstractmethod
    def measure(self, world: World, subject: Any) -> dict[str, float]:
        """Run it once with one of the line-up. Raises RuntimeError when that does not do what it should."""

    def goals(self, medians: Medians, ratios: Medians) -> Iterator[Goal]:
        """Say what is demanded of ours; `ratios` are ours to each peer's, medians over the repetitions."""
        yield from ()


def beside_best(
    medians: Medians, figure: Figure, text: str, *, times: float = 1.0, among: Collection[str] = PEERS
) -> Iterator[Goal]:
    """Demand that ours is at least (where more is better), or at most, so many times the best peer's."""
    peers = {name: row[figure.key] for name, row in medians.items() if name in among}
    if OURS not in medians or not peers:
        return
    best = (max if figure.more_is_better else min)(peers, key=lambda name: peers[name])
    ours, limit = medians[OURS][figure.key], peers[best] * times
    yield Goal(
        text,
        f"{ours:,.{figure.digits}f}",
        ours >= limit if figure.more_is_better else ours <= limit,
        f"{best}: {peers[best]:,.{figure.digits}f}",
    )


def at_most(medians: Medians, figure: Figure, text: str, limit: float) -> Iterator[Goal]:
    """Demand that ours is no more than a limit."""
    if OURS in medians:
        ours = medians[OURS][figure.key]
        yield Goal(text, f"{ours:,.{figure.digits}f}", ours <= limit)


def at_least(medians: Medians, figure: Figure, text: str, limit: float) -> Iterator[Goal]:
    """Demand that ours is no less than a limit."""
    if OURS in medians:
        ours = medians[OURS][figure.key]
        yield Goal(text, f"{ours:,.{figure.digits}f}", ours >= limit)
