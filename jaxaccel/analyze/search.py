"""Which size to measure next, and how often, so that the crossings are found with few passes. Pure.

First single passes, from a coarse ladder on, until the ratios change sides within a factor of √2; then all
passes of a few sizes around, through which a line says where it crosses. Where no line can, or passes are too
few for one, sizes are halved until those are found that are sure by themselves.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from jaxaccel.analyze.crossing import FEWEST_PASSES
from jaxaccel.analyze.crossover import (
    CLOSEST,
    REACHES,
    STEP,
    SURE,
    Point,
    brackets,
    changes,
    crossings,
    leaning,
    line,
    next_sizes,
    rounded,
    skeleton,
)

LOOK_WITHIN = 0.5  # of two sizes closer than this, one pass can't tell which is nearer to the crossing
FAR = 2.0  # from a crossing that a line has found, sizes are looked at by themselves
SAME = 1.04  # a size that was looked at is taken in place of one so near


def plan(points: Sequence[Point], passes: Mapping[int, int], *, full: int, within: float) -> dict[int, int]:
    """What to measure next for a question, of a size so many passes; nothing where nothing more can be told.

    `points` are what is known of it, `passes` what was made of each size.
    """
    lines = full >= FEWEST_PASSES
    looks = max(within, LOOK_WITHIN) if lines else within
    looked = _new(passes, next_sizes(leaning(skeleton(points)), looks))
    if looked:
        return dict.fromkeys(looked, 1)
    if lines:
        wanted = {*_for_lines(points, passes, full, within)}
        if wanted:
            return dict.fromkeys(sorted(wanted), full)
    unsure = _far(points, _unsure(points, passes, full))
    if unsure:
        return dict.fromkeys(sorted({*unsure}), full)
    return dict.fromkeys(_new(passes, _far(points, next_sizes(points, within))), full)


def _for_lines(points: Sequence[Point], passes: Mapping[int, int], full: int, within: float) -> Iterator[int]:
    """The sizes of which a line through each change lacks passes."""
    sizes = [point.size for point in points]
    for change in changes(points):
        for reach in REACHES:
            crossing, middle = line(points, change, reach)
            while crossing and crossing.bent and crossing.width > within and reach > CLOSEST:
                reach /= 2  # the passes agree better than the line fits: look closer
                crossing, middle = line(points, change, reach)
            if crossing:
                # A line counts where something is sure on either side of it.
                ends = [min(sizes)] * (not _sure_beyond(points, crossing.low, -1))
                ends += [max(sizes)] * (not _sure_beyond(points, crossing.high, 1))
                yield from (size for size in ends if passes.get(size, 0) < full)
                break
            wanted = [_nearby(middle * STEP**place, sizes) for place in _places(reach)]
            lacking = [
                size for size in wanted if min(sizes) <= size <= max(sizes) and passes.get(size, 0) < full
            ]
            if lacking:
                yield from lacking
                break


def _sure_beyond(points: Sequence[Point], end: float, side: int) -> bool:
    return any(point.verdict in SURE and side * (point.size - end) >= 0 for point in points)


def _places(reach: float) -> list[float]:
    """Where the sizes of a line are, in steps from its middle: four near it, and two more for each step."""
    inner = min(reach, REACHES[0])
    places = [inner / 4, 3 * inner / 4, *(step + 0.5 for step in range(2, int(reach)))]
    return [side * place for place in places for side in (-1, 1)]


def _nearby(size: float, known: Iterable[int]) -> int:
    """A size that was measured, where one is near; else one of few bits."""
    nearest = min(known, key=lambda other: abs(math.log(other / size)))
    return nearest if 1 / SAME < nearest / size < SAME else rounded(size)


def _far(points: Sequence[Point], sizes: Iterable[int]) -> list[int]:
    """The sizes that are not beside a crossing that a line has found."""
    found = [bracket.at for bracket in crossings(points) if bracket.at]
    return [size for size in sizes if not any(1 / FAR < size / at < FAR for at in found)]


def _new(passes: Mapping[int, int], found: Iterable[int]) -> list[int]:
    return sorted({*found} - passes.keys())


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
