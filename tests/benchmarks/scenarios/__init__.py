"""What is measured: each scenario in a module of its own, which measures one contender once and returns figures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from tests.benchmarks.contenders import Contender
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
    """What is demanded of ours, and what was measured."""

    text: str
    measured: str
    met: bool


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
