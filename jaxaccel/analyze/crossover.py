"""From which size on does the GPU win? Where the winner changes, in a bracket, and which size tells more.

Pure: sizes and who surely wins there come in, brackets and the next sizes come out. Whoever measures asks
again with what was found, until nothing is left to ask. All that is known is in the records: it can stop
anywhere, and go on.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from jaxaccel.analyze.compare import EQUIVALENT
from jaxaccel.analyze.crossing import FEWEST_PASSES, FEWEST_SIZES, Crossing, fit
from jaxaccel.records import Verdict

SURE = (Verdict.cpu, Verdict.gpu)
# A size has so many significant bits: its neighbours are 0.8 to 1.6% away, and odd ones, which fit no vector
# register, stay rare.
SIZE_BITS = 7
# Sizes of a line are so far apart, and two, three or four such steps from its crossing at most: a curve is
# nearly straight over so little, and the devices are far enough apart at its ends.
STEP = 2 ** (1 / 3)
REACHES = (2.0, 3.0, 4.0)
CLOSEST = 0.2  # steps: sizes of few bits are hardly nearer to each other
TOGETHER = STEP**3  # changes of sides that are no farther apart are of one crossing, or of none
BESIDE = 1.3  # one pass says nothing that several passes of a size so near do not say better


@dataclass(frozen=True, kw_only=True)
class Point:
    """What is known at a size. `log_ratio` is log(CPU time / GPU time): above 0 the GPU is faster.

    by_pass: the same of each pass, where rounds of both took turns.
    """

    size: int
    verdict: Verdict
    log_ratio: float
    by_pass: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Bracket:
    """Between `low`, the largest size where `below` surely wins, and `high`, the smallest where `above` does.

    `ties` are the sizes between them where nobody surely wins. at: where a line through the sizes around has
    the crossing, if the ends are those of its interval, and not sizes that are sure by themselves.
    """

    low: int
    high: int
    below: Verdict
    above: Verdict
    ties: tuple[int, ...] = ()
    at: float | None = None

    @property
    def width(self) -> float:
        """How far apart the ends are: 0.05 is 5%."""
        return self.high / self.low - 1


def ladder(low: int, high: int, steps_per_octave: float = 1.0) -> tuple[int, ...]:
    """Sizes from `low` to `high`, about a factor of 2^(1 / steps_per_octave) apart, both ends there.

    **Raises** ValueError where they are not in order, or not positive.
    """
    if not 1 <= low <= high:
        raise ValueError(f"`low` must be from 1 to `high`, got {low} and {high}")
    steps = math.ceil(math.log2(high / low) * steps_per_octave - 1e-9)
    between = (rounded(low * (high / low) ** (step / steps)) for step in range(1, steps))
    return tuple(dict.fromkeys([low, *(size for size in between if low < size < high), high]))


def leaning(points: Sequence[Point]) -> list[Point]:
    """The points with the device that their ratio is for as their verdict: where to look, not what to say.

    Where nobody is ahead by what makes a difference, nobody is: noise alone would change sides at every size.
    """

    def side(point: Point) -> Verdict:
        if point.verdict is Verdict.equivalent or abs(point.log_ratio) < math.log(EQUIVALENT):
            return Verdict.equivalent
        return Verdict.gpu if point.log_ratio > 0 else Verdict.cpu

    return [replace(point, verdict=side(point)) for point in points]


def rounded(size: float) -> int:
    """The nearest size of SIZE_BITS significant bits."""
    step: int = 1 << max(0, math.frexp(size)[1] - SIZE_BITS)
    return max(1, round(size / step) * step)


def brackets(points: Sequence[Point]) -> tuple[Bracket, ...]:
    """Where the winner changes, from small to large; none where one device, or nobody, wins throughout."""
    found, last = list[Bracket](), None
    ties: list[int] = []
    for point in sorted(points, key=lambda point: point.size):
        if point.verdict not in SURE:
            ties.append(point.size)
            continue
        if last and last.verdict is not point.verdict:
            found.append(
                Bracket(
                    low=last.size,
                    high=point.size,
                    below=last.verdict,
                    above=point.verdict,
                    ties=tuple(tie for tie in ties if tie > last.size),
                )
            )
        last, ties = point, []
    return tuple(found)


def next_sizes(points: Sequence[Point], within: float) -> tuple[int, ...]:
    """The sizes that would tell most: one in each gap of a bracket that is wider than `within` (0.05 is 5%).

    A bracket without ties is halved. Of one with ties, the gaps between its ends and the ties are: the ties
    themselves are as near as can be told. Where the advantage of a side shrinks toward nothing and grows
    again, the winner may change twice between two sizes: that gap is halved too.
    """
    known = {point.size for point in points}
    gaps = [gap for bracket in brackets(points) for gap in _gaps(bracket)] + _dips(points)
    halves = [_middle(low, high) for low, high in gaps if high / low - 1 > within]
    return tuple(size for size in dict.fromkeys(halves) if size is not None and size not in known)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a search found out about one question, from `low` to `high`.

    throughout: who surely wins where anybody does, if that is one device; undecided else. sure: at how many
    of the `sizes` that were measured that is.
    """

    question: str
    low: int
    high: int
    brackets: tuple[Bracket, ...]
    throughout: Verdict
    sure: int
    sizes: int


def crossings(points: Sequence[Point]) -> tuple[Bracket, ...]:
    """Where the winner changes: by a line through the sizes around, or by sizes that are sure by themselves.

    The latter where the line is bent, and where it does not agree with every size that is sure.
    """
    found = list(brackets(points))
    sizes = [point.size for point in points]
    for change in changes(points):
        crossing = located(points, change)
        if crossing is None:
            continue
        below, above = SURE if crossing.rising else SURE[::-1]
        low = max(math.floor(crossing.low), min(sizes))
        high = min(math.ceil(crossing.high), max(sizes))
        alike = [other for other in found if other.low <= high and low <= other.high]
        if (crossing.bent and alike) or low >= high or any(other.below is not below for other in alike):
            continue
        fitted = Bracket(
            low=low,
            high=high,
            below=below,
            above=above,
            ties=tuple(size for size in sizes if low < size < high),
            at=crossing.at,
        )
        instead = sorted(
            [*(other for other in found if other not in alike), fitted], key=lambda bracket: bracket.low
        )
        if _agree(instead, points):
            found = instead
    return tuple(found)


def _agree(found: Sequence[Bracket], points: Sequence[Point]) -> bool:
    """Whether brackets follow each other, and what is sure outside of them is so: some is at either end."""
    if any(one.above is not after.below or one.high > after.low for one, after in pairwise(found)):
        return False
    winners = [found[0].below, *(bracket.above for bracket in found)]
    ends = [0.0, *(end for bracket in found for end in (bracket.low, bracket.high)), math.inf]
    outside = [
        {point.verdict for point in points if low <= point.size <= high and point.verdict in SURE}
        for low, high in zip(ends[::2], ends[1::2], strict=True)
    ]
    if not (outside[0] and outside[-1]):  # a line alone might be that of two equal devices
        return False
    return all(seen <= {winner} for seen, winner in zip(outside, winners, strict=True))


def changes(points: Sequence[Point]) -> tuple[Bracket, ...]:
    """Where the ratios change sides, sure or not; several times within a few sizes is once, or not at all."""
    found = list[Bracket]()
    for change in brackets(leaning(skeleton(points))):
        if found and change.low / found[-1].high < TOGETHER:
            found[-1] = replace(found[-1], high=change.high, above=change.above)
        else:
            found.append(change)
    return tuple(change for change in found if change.below is not change.above)


def skeleton(points: Sequence[Point]) -> list[Point]:
    """The points without those of one pass that are beside a size that has several."""
    full = [point.size for point in points if len(point.by_pass) >= FEWEST_PASSES]
    return [
        point
        for point in points
        if point.size in full or not any(1 / BESIDE < point.size / size < BESIDE for size in full)
    ]


def located(points: Sequence[Point], change: Bracket) -> Crossing | None:
    """Where a line has the crossing of a change: by the narrowest reach that gives an interval.

    Where the passes agree better than the line fits, a closer one, if there are sizes for it.
    """
    for reach in REACHES:
        found, _ = line(points, change, reach)
        while found and found.bent and reach > CLOSEST:
            reach /= 2
            closer, _ = line(points, change, reach)
            if closer is None:
                break
            found = closer
        if found:
            return found
    return None


def around(points: Sequence[Point], middle: float, reach: float) -> list[Point]:
    """The sizes with several passes that are no more than `reach` steps from one, in order."""
    farthest = 1.01 * STEP**reach
    full = (point for point in points if len(point.by_pass) >= FEWEST_PASSES)
    near = (point for point in full if 1 / farthest < point.size / middle < farthest)
    return sorted(near, key=lambda point: point.size)


def line(points: Sequence[Point], change: Bracket, reach: float) -> tuple[Crossing | None, float]:
    """A line through the sizes around its own crossing, and where that is; or None, and where to look."""
    middle, tried = _between(points, change), list[list[Point]]()
    while True:
        near = around(points, middle, reach)
        sides = [sum(point.size < middle for point in near), sum(point.size >= middle for point in near)]
        passes = frozenset.intersection(*(frozenset(point.by_pass) for point in near)) if near else ()
        if min(sides) < 1 or len(near) < FEWEST_SIZES or len(passes) < FEWEST_PASSES:
            return None, middle
        crossing = fit({p.size: [p.by_pass[i] for i in sorted(passes)] for p in near})
        if crossing is None:
            return None, middle
        ends = near[0].size / STEP, near[-1].size * STEP
        if not ends[0] <= crossing.at <= ends[1]:
            return None, min(max(crossing.at, ends[0]), ends[1])
        tried.append(near)
        if around(points, crossing.at, reach) in tried:
            both = near[0].size < crossing.at <= near[-1].size
            return (crossing if both else None), crossing.at
        middle = crossing.at


def _between(points: Sequence[Point], change: Bracket) -> float:
    """Where a line between the ends of a change crosses; not too near to either: both are noisy."""
    height = {point.size: abs(point.log_ratio) for point in points}
    low, high = height[change.low], height[change.high]
    part = min(max(low / (low + high), 0.2), 0.8) if low + high else 0.5
    return float(change.low * (change.high / change.low) ** part)


def conclude(question: str, points: Sequence[Point]) -> Answer:
    """What the points of a question say.

    **Raises** ValueError where there are none.
    """
    if not points:
        raise ValueError(f"`points` of {question} must have at least one")
    found = crossings(points)
    winners = [point.verdict for point in points if point.verdict in SURE]
    return Answer(
        question=question,
        low=min(point.size for point in points),
        high=max(point.size for point in points),
        brackets=found,
        throughout=winners[0] if len({*winners}) == 1 else Verdict.undecided,
        sure=len(winners),
        sizes=len(points),
    )


def _gaps(bracket: Bracket) -> list[tuple[int, int]]:
    if not bracket.ties:
        return [(bracket.low, bracket.high)]
    return [(bracket.low, min(bracket.ties)), (max(bracket.ties), bracket.high)]


def _dips(points: Sequence[Point]) -> list[tuple[int, int]]:
    """The gaps between two sizes of one winner in which its advantage may be gone.

    It may where it shrinks toward the gap from either side, and would be gone where the two lines meet.
    """
    found = list[tuple[int, int]]()
    ordered = sorted(points, key=lambda point: point.size)
    for before, left, right, after in zip(ordered, ordered[1:], ordered[2:], ordered[3:], strict=False):
        if left.verdict not in SURE or len({p.verdict for p in (before, left, right, after)}) > 1:
            continue
        from_left, from_right = _slope(before, left), _slope(after, right)
        gap = math.log(right.size / left.size)
        height = abs(left.log_ratio), abs(right.log_ratio)
        if from_left >= 0 or from_right >= 0:
            continue
        met = (height[0] * from_right + height[1] * from_left + gap * from_left * from_right) / (
            from_left + from_right
        )
        if met < 0:
            found.append((left.size, right.size))
    return found


def _slope(first: Point, second: Point) -> float:
    """How the advantage changes from one point to another, by the logarithm of the size."""
    return (abs(second.log_ratio) - abs(first.log_ratio)) / abs(math.log(second.size / first.size))


def _middle(low: int, high: int) -> int | None:
    """A size in the middle of a gap, by ratio; None where there is none."""
    middle = rounded(math.sqrt(low * high))
    return middle if low < middle < high else None
