"""Where a line through the log-ratios of a few neighbouring sizes crosses zero, with an interval. Pure.

Passes differ by more than the sizes around a crossing do: one size alone would take very many to be sure.
A line through several sizes shares what they know. Its crossing is uncertain in two ways: passes lie higher
or lower as a whole, and sizes lie off the line. Both are in the interval, which is Fieller's (Some problems
in interval estimation, J. R. Stat. Soc. B 16, 1954), with the degrees of freedom of Welch and Satterthwaite.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

FEWEST_SIZES, FEWEST_PASSES = 3, 3
CONFIDENCE = 0.95
FARTHEST = 3.0  # from the middle of the sizes, as a logarithm: an end beyond a factor of 20 says nothing
# Sizes lie farther off the line than passes differ, at 95%: F of 2 and 4 degrees of freedom.
MISFIT = 6.9


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """At which size the ratio is 1, and the interval of that; `rising`: the GPU wins above.

    bent: the sizes lie off a straight line by more than the passes explain: look closer.
    """

    at: float
    low: float
    high: float
    rising: bool
    bent: bool

    @property
    def width(self) -> float:
        """How far apart the ends are: 0.05 is 5%."""
        return self.high / self.low - 1


def fit(known: Mapping[int, Sequence[float]]) -> Crossing | None:
    """The crossing of a line through log-ratios: of each size one a pass, the same passes for all.

    None where the line is too flat for its crossing to have an interval.

    **Raises** ValueError for fewer than three sizes or passes, or passes of unequal number.
    """
    counts = {len(ratios) for ratios in known.values()}
    if len(known) < FEWEST_SIZES or len(counts) != 1 or min(counts) < FEWEST_PASSES:
        raise ValueError(f"`known` must be of three sizes and passes or more, got {known!r}")
    x = np.log(np.array(list(known), dtype=float))
    y = np.array(list(known.values()), dtype=float)  # (sizes, passes)
    sizes, passes = y.shape
    middle, spread = float(x.mean()), float(((x - x.mean()) ** 2).sum())
    height, means = float(y.mean()), y.mean(axis=1)
    slope = float((x - middle) @ means) / spread
    off = means - height - slope * (x - middle)
    by_size = float(off @ off) / (sizes - 2)
    by_pass = float(y.mean(axis=0).var(ddof=1)) / passes
    parts = [(by_size / sizes, sizes - 2), (by_pass, passes - 1)]
    total = sum(part for part, _ in parts)
    freedom = total**2 / sum(part**2 / df for part, df in parts) if total else math.inf
    square = float(stdtrit(min(freedom, 1e9), (1 + CONFIDENCE) / 2)) ** 2
    # (height + slope d)² = t² (total + d² by_size / spread), for d from the middle
    a = slope**2 - square * by_size / spread
    b, c = 2 * height * slope, height**2 - square * total
    if a <= 0:
        return None
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    ends = [(-b - root) / (2 * a), (-b + root) / (2 * a)]
    if max(map(abs, ends)) > FARTHEST:
        return None
    return Crossing(
        at=math.exp(middle - height / slope),
        low=math.exp(middle + ends[0]),
        high=math.exp(middle + ends[1]),
        rising=slope > 0,
        bent=by_size / sizes > MISFIT * by_pass,
    )
