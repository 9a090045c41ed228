"""From which size on does the GPU win? Where the winner changes, in a bracket, and which size tells more.

Pure: sizes and who surely wins there come in, brackets and the next sizes come out. Whoever measures asks
again with what was found, until nothing is left to ask. All that is known is in the records: it can stop
anywhere, and go on.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from jaxaccel.analyze.compare import EQUIVALENT
from jaxaccel.records import Verdict

SURE = (Verdict.cpu, Verdict.gpu)
# A size has so many significant bits: its neighbours are 0.8 to 1.6% away, and odd ones, which fit no vector
# register, stay rare.
SIZE_BITS = 7


@dataclass(frozen=True, kw_only=True)
class Point:
    """What is known at a size. `log_ratio` is log(CPU time / GPU time): above 0 the GPU is faster."""

    size: int
    verdict: Verdict
    log_ratio: float


@dataclass(frozen=True, kw_only=True)
class Bracket:
    """Between `low`, the largest size where `below` surely wins, and `high`, the smallest where `above` does.

    `ties` are the sizes between them where nobody surely wins.
    """

    low: int
    high: int
    below: Verdict
    above: Verdict
    ties: tuple[int, ...] = ()

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


def plan(
    points: Mapping[str, Sequence[Point]], passes: Mapping[int, int], *, full: int, within: float
) -> dict[int, int]:
    """What to measure next, of a size so many passes; nothing where nothing more can be told.

    `points` are what is known by question, `passes` what was made of each size. First one pass of sizes that
    close in on where the ratios change sides; then all `full` passes of what is undecided around there; then
    of sizes between what is sure.
    """
    looked = _new(passes, (next_sizes(leaning(known), within) for known in points.values()))
    if looked:
        return dict.fromkeys(looked, 1)
    unsure = {size for known in points.values() for size in _unsure(known, passes, full)}
    if unsure:
        return dict.fromkeys(sorted(unsure), full)
    return dict.fromkeys(_new(passes, (next_sizes(known, within) for known in points.values())), full)


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


def conclude(question: str, points: Sequence[Point]) -> Answer:
    """What the points of a question say.

    **Raises** ValueError where there are none.
    """
    if not points:
        raise ValueError(f"`points` of {question} must have at least one")
    found = brackets(points)
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


def _new(passes: Mapping[int, int], found: Iterable[Sequence[int]]) -> list[int]:
    return sorted({size for sizes in found for size in sizes} - passes.keys())


def _unsure(points: Sequence[Point], passes: Mapping[int, int], full: int) -> list[int]:
    """On either side of where the ratios change sides, the nearest size that more passes may make sure."""
    found = list[int]()
    ordered = sorted(points, key=lambda point: point.size)
    for bracket in brackets(leaning(points)):
        below = [point for point in reversed(ordered) if point.size <= bracket.low]
        above = [point for point in ordered if point.size >= bracket.high]
        for side in (below, above):
            for point in side:
                if point.verdict in SURE:
                    break
                if passes[point.size] < full:
                    found.append(point.size)
                    break
    return found


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
