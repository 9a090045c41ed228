"""A line through log-ratios of sizes around a crossing: where it crosses, and how sure that is."""

import math

import numpy as np
import pytest

from jaxaccel.analyze.crossing import fit

SIZES = [700, 880, 1120, 1400]
STEPS = 2 ** (1 / 3)


def ratios(
    slope: float,
    at: float,
    *,
    passes: int = 5,
    sizes: list[int] | None = None,
    by_pass: float = 0.0,
    each: float = 0.0,
    by_size: float = 0.0,
    rng: np.random.Generator | None = None,
) -> dict[int, list[float]]:
    """Of a straight curve, with noise that passes share, that sizes share, and that nothing shares."""
    rng = rng or np.random.default_rng(0)
    sizes = sizes or SIZES
    shared = by_pass * rng.standard_normal(passes)
    return {
        size: list(
            slope * math.log(size / at)
            + shared
            + each * rng.standard_normal(passes)
            + by_size * rng.standard_normal()
        )
        for size in sizes
    }


@pytest.mark.parametrize("slope", [2.0, -0.5])
def test_without_noise_a_straight_curve_crosses_where_it_does(slope: float) -> None:
    found = fit(ratios(slope, 1000))
    assert found
    assert found.at == pytest.approx(1000)
    assert found.width < 1e-6
    assert found.rising == (slope > 0)
    assert found.low <= found.at * (1 + 1e-9)
    assert found.at <= found.high * (1 + 1e-9)


@pytest.mark.parametrize(
    "noise", [{"by_pass": 0.1}, {"each": 0.2}, {"by_pass": 0.05, "each": 0.2, "by_size": 0.05}]
)
@pytest.mark.parametrize("passes", [3, 5])
def test_the_crossing_is_inside_in_95_of_100(noise: dict[str, float], passes: int) -> None:
    rng, inside, told, trials = np.random.default_rng(1), 0, 0, 1000
    for _ in range(trials):
        at = 1000 * math.exp(rng.uniform(-0.3, 0.3))
        found = fit(ratios(2.0, at, passes=passes, rng=rng, **noise))
        told += found is not None
        inside += found is not None and found.low <= at <= found.high
    assert told >= 0.98 * trials
    assert inside >= 0.935 * told  # 95%, but for the luck of a thousand


def test_noise_that_passes_share_widens_the_interval_too() -> None:
    quiet = fit(ratios(2.0, 1000, each=0.01))
    drifting = fit(ratios(2.0, 1000, each=0.01, by_pass=0.2))
    assert quiet
    assert drifting
    assert drifting.width > 5 * quiet.width
    assert not drifting.bent


def test_a_line_too_flat_for_its_noise_crosses_nowhere_that_could_be_told() -> None:
    assert fit(ratios(0.02, 1000, each=0.3)) is None
    assert fit(ratios(0.0, 1000, by_pass=0.1)) is None


def test_a_step_is_bent() -> None:
    step = {size: [math.copysign(1.0, size - 1000) + 1e-3 * i for i in range(5)] for size in SIZES}
    found = fit(step)
    assert found is None or found.bent


@pytest.mark.parametrize(
    "known",
    [
        {1: [1.0] * 3, 2: [1.0] * 3},
        {1: [1.0] * 2, 2: [1.0] * 2, 3: [1.0] * 2},
        {1: [1.0] * 3, 2: [1.0] * 3, 3: [1.0] * 4},
    ],
)
def test_too_few_are_refused(known: dict[int, list[float]]) -> None:
    with pytest.raises(ValueError, match="three sizes and passes"):
        fit(known)
