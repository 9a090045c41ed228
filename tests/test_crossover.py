"""Brackets around crossings that are known, with and without noise."""

import math
import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from jaxaccel.analyze.crossover import (
    Bracket,
    Point,
    brackets,
    ladder,
    leaning,
    next_sizes,
    resolved,
    rounded,
)
from jaxaccel.records import Verdict

CPU, GPU, EQUAL, OPEN = Verdict.cpu, Verdict.gpu, Verdict.equivalent, Verdict.undecided


def points(*known: tuple[int, Verdict]) -> list[Point]:
    signs = {CPU: -1.0, GPU: 1.0, EQUAL: 0.0, OPEN: 0.0}
    return [Point(size=size, verdict=verdict, log_ratio=signs[verdict]) for size, verdict in known]


# --- sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(1, 1), (1, 2), (256, 8192), (100, 30000), (7, 1 << 30)])
@pytest.mark.parametrize("steps", [0.5, 1, 8])
def test_a_ladder_goes_from_end_to_end_in_steps_that_are_no_larger_than_asked_for(
    low: int, high: int, steps: float
) -> None:
    sizes = ladder(low, high, steps)
    assert (sizes[0], sizes[-1]) == (low, high)
    assert all(small < large for small, large in pairwise(sizes))
    widest = 1.03 * 2 ** (1 / steps)  # sizes are rounded
    assert all(large <= max(small + 3, widest * small) for small, large in pairwise(sizes))


def test_a_ladder_of_powers_of_two_stays_one() -> None:
    assert ladder(256, 8192) == (256, 512, 1024, 2048, 4096, 8192)


@pytest.mark.parametrize(("low", "high"), [(0, 4), (-1, 4), (5, 4)])
def test_a_ladder_that_goes_nowhere_is_refused(low: int, high: int) -> None:
    with pytest.raises(ValueError, match=f"got {low} and {high}"):
        ladder(low, high)


@pytest.mark.parametrize(
    ("size", "near"), [(1, 1), (127, 127), (128, 128), (129, 128), (2897, 2912), (1e6, 999424)]
)
def test_sizes_have_seven_significant_bits(size: float, near: int) -> None:
    assert rounded(size) == near


# --- brackets --------------------------------------------------------------------------------------


def test_a_bracket_is_where_the_sure_winner_changes() -> None:
    (found,) = brackets(points((512, GPU), (128, CPU), (256, CPU), (1024, GPU)))
    assert found == Bracket(low=256, high=512, below=CPU, above=GPU)
    assert found.width == 1.0


def test_what_nobody_surely_wins_is_a_tie_inside() -> None:
    (found,) = brackets(points((64, OPEN), (128, CPU), (256, OPEN), (300, EQUAL), (512, GPU), (600, OPEN)))
    assert (found.low, found.ties, found.high) == (128, (256, 300), 512)


def test_several_crossings_are_several_brackets() -> None:
    found = brackets(points((1, CPU), (2, GPU), (4, OPEN), (8, GPU), (16, OPEN), (32, CPU)))
    assert [(b.low, b.ties, b.high, b.above) for b in found] == [(1, (), 2, GPU), (8, (16,), 32, CPU)]


@pytest.mark.parametrize("verdicts", [(), (CPU,), (GPU, GPU), (OPEN, EQUAL), (CPU, OPEN, CPU)])
def test_without_a_change_there_is_no_bracket(verdicts: tuple[Verdict, ...]) -> None:
    known = points(*((2**i, verdict) for i, verdict in enumerate(verdicts)))
    assert brackets(known) == ()
    assert next_sizes(known, 0.05) == ()
    assert resolved(known, 0.05)


# --- what to measure next --------------------------------------------------------------------------


def test_a_wide_bracket_is_halved_by_ratio() -> None:
    assert next_sizes(points((256, CPU), (1024, GPU)), 0.05) == (512,)


def test_a_narrow_one_is_left_and_so_are_neighbouring_sizes() -> None:
    assert next_sizes(points((1000, CPU), (1040, GPU)), 0.05) == ()
    assert next_sizes(points((2, CPU), (3, GPU)), 0.05) == ()


def test_the_ends_of_a_bracket_come_near_its_ties() -> None:
    assert next_sizes(points((256, CPU), (512, OPEN), (560, OPEN), (1024, GPU)), 0.05) == (364, 760)


def test_an_advantage_that_shrinks_and_grows_is_looked_into() -> None:
    def known(*ratios: float) -> list[Point]:
        return [Point(size=64 * 2**i, verdict=GPU, log_ratio=ratio) for i, ratio in enumerate(ratios)]

    assert next_sizes(known(1.0, 0.3, 0.2, 0.9), 0.05) == (182,)
    assert next_sizes(known(1.0, 0.8, 0.7, 0.9), 0.05) == ()
    assert next_sizes(known(0.1, 0.3, 0.2, 0.1), 0.05) == ()
    assert next_sizes(known(1.0, 0.3, 0.2), 0.05) == ()


# --- whole searches --------------------------------------------------------------------------------

Curve = Callable[[float], float]  # log(CPU time / GPU time) by size


def search(measure: Callable[[int], Point], low: int, high: int, within: float = 0.05) -> list[Point]:
    known = {size: measure(size) for size in ladder(low, high)}
    while new := next_sizes(leaning(list(known.values())), within) or next_sizes(
        list(known.values()), within
    ):
        known |= {size: measure(size) for size in new}
        assert len(known) < 100
    return list(known.values())


def exactly(curve: Curve) -> Callable[[int], Point]:
    def measure(size: int) -> Point:
        ratio = curve(size)
        verdict = EQUAL if abs(ratio) < math.log(1.02) else GPU if ratio > 0 else CPU
        return Point(size=size, verdict=verdict, log_ratio=ratio)

    return measure


def noisily(curve: Curve, rng: random.Random, by: float, confidence: float) -> Callable[[int], Point]:
    """A ratio with normal noise of a known spread; sure beyond `confidence` spreads."""

    def measure(size: int) -> Point:
        ratio = rng.gauss(curve(size), by)
        sure = abs(ratio) > confidence * by
        return Point(size=size, verdict=(GPU if ratio > 0 else CPU) if sure else OPEN, log_ratio=ratio)

    return measure


CURVES: dict[str, tuple[Curve, list[float]]] = {
    "never": (lambda n: -1.0 - 0.1 * math.log(n), []),
    "once": (lambda n: 0.8 * math.log(n / 2900), [2900]),
    "steep": (lambda n: math.copysign(1.0, n - 1000.5), [1000.5]),
    "flat": (lambda n: 0.2 * math.log(n / 700), [700]),
    "twice": (
        lambda n: 1.0 - 0.9 * math.log(n / 1500) ** 2,
        [1500 / math.exp(1.0541), 1500 * math.exp(1.0541)],
    ),
    "dip": (lambda n: 2.0 * abs(math.log(n / 1500)) - 0.4, [1500 / math.exp(0.2), 1500 * math.exp(0.2)]),
}


@pytest.mark.parametrize("name", CURVES)
def test_without_noise_each_crossing_is_bracketed(name: str) -> None:
    curve, crossings = CURVES[name]
    known = search(exactly(curve), 64, 32768)
    found = brackets(known)
    assert len(found) == len(crossings)
    for bracket, crossing in zip(found, crossings, strict=True):
        assert bracket.low <= crossing <= bracket.high
    if name in ("once", "steep", "twice", "dip"):
        assert all(bracket.width <= 0.12 for bracket in found)  # 5% on each side of what is equal
    assert len(known) <= len(ladder(64, 32768)) + 12 * max(1, len(crossings))


@pytest.mark.parametrize("name", [name for name, (_, crossings) in CURVES.items() if crossings])
def test_with_noise_the_true_crossings_are_inside_in_95_of_100_searches(name: str) -> None:
    curve, crossings = CURVES[name]
    rng, inside = random.Random(0), 0
    for _ in range(200):
        found = brackets(search(noisily(curve, rng, by=0.03, confidence=3.0), 64, 32768))
        inside += len(found) == len(crossings) and all(
            bracket.low <= crossing <= bracket.high
            for bracket, crossing in zip(found, crossings, strict=True)
        )
    assert inside >= 190
