"""Where a search for crossovers looks, and how closely."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxaccel.records.checks import (
    MONTH_S,
    MOST_SIZE,
    require_positive,
    require_text,
    require_texts,
    require_whole,
)


@dataclass(frozen=True, kw_only=True)
class CrossoverConfig:
    """Where to look for the sizes at which the winner changes, and how closely: see conf/crossover/."""

    over: str
    low: int
    high: int
    per_octave: float
    within: float
    budget_s: float
    questions: Sequence[str]

    def __post_init__(self) -> None:
        require_text("crossover.over", self.over)
        if not 1 <= self.low < self.high:
            raise ValueError(
                f"`crossover.low` must be from 1 to below `crossover.high`, got {self.low} and {self.high}"
            )
        require_whole("crossover.high", self.high, MOST_SIZE)
        for name, most in (("per_octave", 100), ("within", 10), ("budget_s", MONTH_S)):
            require_positive(f"crossover.{name}", getattr(self, name), most)
        require_texts("crossover.questions", self.questions)
