"""Which size to measure next, and how often, so that the crossings are found with few passes. Pure.

First single passes, from a coarse ladder on, until the ratios change sides within a factor of √2; then all
passes of a few sizes around, through which a line says where it crosses. Where no line can, or passes are too
few for one, sizes are halved until those are found that are sure by themselves.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from jaxaccel.analyze.crossing import FEWEST_PASSES
from jaxaccel.analyze.crossover import (
    MOST_PER_SIDE,
    STEP,
    SURE,
    Point,
    around,
    brackets,
    changes,
    closest_fit,
    leaning,
    located,
    next_sizes,
    rounded,
    skeleton,
)

LOOK_WITHIN = 0.5  # of two sizes closer than this, one pass can't tell which is nearer to the crossing
FAR = 2.0  # from a crossing that a line has found, sizes are looked at by themselves
SAME = 1.04  # a size that was looked at is taken in place of one so near


def plan(
    points: Mapping[str, Sequence[Point]], passes: Mapping[int, int], *, full: int, within: float
) -> dict[int, int]:
    """What to measure next, of a size so many passes; nothing where nothing more can be told.

    `points` are what is known by question, `passes` what was made of each size.
    """
    lines = full >= FEWEST_PASSES
    looks = max(within, LOOK_WITHIN) if lines else within
    looked = _new(passes, (next_sizes(leaning(skeleton(known)), looks) for known in points.values()))
    if looked:
        return dict.fromkeys(looked, 1)
    if lines:
        wanted = {size for known in points.values() for size in _for_lines(known, passes, full, within)}
        if wanted:
            return dict.fromkeys(sorted(wanted), full)
    unsure = {size for known in points.values() for size in _far(known, _unsure(known, passes, full))}
    if unsure:
        return dict.fromkeys(sorted(unsure), full)
    between = (_far(known, next_sizes(known, within)) for known in points.values())
    return dict.fromkeys(_new(passes, between), full)


def _for_lines(points: Sequence[Point], passes: Mapping[int, int], full: int, within: float) -> Iterator[int]:
    """The sizes of which a line through each change lacks passes."""
    sizes = [point.size for point in points]
    for change in changes(points):
        for per_side in range(2, MOST_PER_SIDE + 1):
            crossing, middle = closest_fit(points, change, per_side)
            step = STEP
            if crossing:
                if crossing.width <= within or not crossing.bent:
                    break
                near = around(points, middle, per_side=per_side)
                step = math.sqrt((near[-1].size / near[0].size) ** (1 / (len(near) - 1)))
                if step < 1 + within / 2:
                    break
            wanted = [_nearby(middle * step ** (place + 0.5), sizes) for place in range(-per_side, per_side)]
            lacking = [
                size for size in wanted if min(sizes) <= size <= max(sizes) and passes.get(size, 0) < full
            ]
            if lacking or crossing:
                yield from lacking
                break


def _nearby(size: float, known: Iterable[int]) -> int:
    """A size that was measured, where one is near; else one of few bits."""
    nearest = min(known, key=lambda other: abs(math.log(other / size)))
    return nearest if 1 / SAME < nearest / size < SAME else rounded(size)


def _far(points: Sequence[Point], sizes: Iterable[int]) -> list[int]:
    """The sizes that are not beside a crossing that a line has found."""
    found = [crossing.at for change in changes(points) if (crossing := located(points, change))]
    return [size for size in sizes if not any(1 / FAR < size / at < FAR for at in found)]


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
