import math
from dataclasses import replace

import pytest
from fakes import make_timing
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jaxaccel.analyze.roofline import exceeds, limit, near, ridge_flops_per_byte, shares
from jaxaccel.analyze.stats import ON_FLOOR
from jaxaccel.records import Ceiling, Ceilings, Cost, Limit, Timing

# --- builders --------------------------------------------------------------------------------------


def ceilings(compute: float | None = 1000.0, memory: float | None = 100.0) -> Ceilings:
    """FLOPs and bytes a second; their ridge is at 10 FLOPs a byte."""
    return Ceilings(
        measured_at="2026-01-02T03:04:05+00:00",
        compute=None if compute is None else ceiling(compute, workload="matmul"),
        memory=None if memory is None else ceiling(memory),
    )


def ceiling(rate_per_s: float, working_set_bytes: int = 1, workload: str = "triad") -> Ceiling:
    return Ceiling(rate_per_s=rate_per_s, workload=workload, working_set_bytes=working_set_bytes)


def taking(median_s: float, ci95_s: tuple[float, float] | None = None) -> Timing:
    return replace(make_timing([[1.0] * 6] * 2), median_s=median_s, ci95_s=ci95_s)


# --- shares ----------------------------------------------------------------------------------------


def test_shares_are_rates_over_ceilings() -> None:
    assert shares(Cost(flops=500, bytes=20), 2.0, ceilings()) == (0.25, 0.1)


def test_a_ceiling_that_was_not_measured_has_no_share() -> None:
    cost = Cost(flops=500, bytes=20)
    assert shares(cost, 2.0, ceilings(compute=None)) == (None, 0.1)
    assert shares(cost, 2.0, ceilings(memory=None)) == (0.25, None)
    assert shares(cost, 2.0, None) == (None, None)


@pytest.mark.parametrize("time_s", [0.0, -1.0, math.nan])
def test_no_time_has_no_rate(time_s: float) -> None:
    with pytest.raises(ValueError, match="`time_s` must be above 0"):
        shares(Cost(flops=500, bytes=20), time_s, ceilings())


# --- the limit -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flops", "expected"),
    [(1, Limit.memory), (9.9, Limit.memory), (10, Limit.compute), (10.1, Limit.compute), (0, Limit.memory)],
)
def test_compute_is_the_limit_from_the_ridge_point_on(flops: float, expected: Limit) -> None:
    assert limit(Cost(flops=flops, bytes=1), 1e3, ceilings(), None) is expected


def test_dispatch_is_the_limit_near_its_floor_whatever_the_ceilings() -> None:
    cost = Cost(flops=1, bytes=1)
    for known in (ceilings(), None):
        assert limit(cost, ON_FLOOR * 2.0, known, 2.0) is Limit.dispatch
        assert limit(cost, 0.5, known, 2.0) is Limit.dispatch
    above = math.nextafter(ON_FLOOR * 2.0, math.inf)
    assert limit(cost, above, ceilings(), 2.0) is Limit.memory
    assert limit(cost, above, None, 2.0) is None
    assert limit(cost, 1e-9, ceilings(), None) is Limit.memory


@pytest.mark.parametrize("known", [ceilings(compute=None), ceilings(memory=None), None])
def test_without_a_ceiling_nobody_can_say(known: Ceilings | None) -> None:
    assert limit(Cost(flops=1, bytes=1), 1e3, known, None) is None


def test_a_call_that_only_moves_or_only_computes_needs_but_one_ceiling() -> None:
    moves, computes = Cost(flops=0, bytes=1), Cost(flops=1, bytes=0)
    assert limit(moves, 1e3, ceilings(compute=None), None) is Limit.memory
    assert limit(moves, 1e3, ceilings(memory=None), None) is None
    assert limit(computes, 1e3, ceilings(memory=None), None) is Limit.compute
    assert limit(computes, 1e3, ceilings(compute=None), None) is None


def test_a_call_without_work_has_no_limit() -> None:
    assert limit(Cost(flops=0, bytes=0), 1e3, ceilings(), None) is None


def test_the_ridge_is_where_both_bounds_meet() -> None:
    assert ridge_flops_per_byte(ceilings()) == 10
    assert ridge_flops_per_byte(ceilings(compute=None)) is None
    assert ridge_flops_per_byte(ceilings(memory=None)) is None
    assert ridge_flops_per_byte(None) is None


amounts = st.floats(min_value=1e-3, max_value=1e15)
examples = settings(derandomize=True, deadline=None, max_examples=200)


@examples
@given(amounts, amounts, amounts, amounts)
def test_the_limit_is_the_side_of_the_larger_share_and_of_the_ridge(
    flops: float, moved: float, compute: float, memory: float
) -> None:
    known, cost = ceilings(compute, memory), Cost(flops=flops, bytes=moved)
    ridge = ridge_flops_per_byte(known)
    assert ridge is not None
    assume(not math.isclose(flops / moved, ridge, rel_tol=1e-9))
    found = limit(cost, 1e20, known, 1.0)
    assert found is (Limit.compute if flops / moved > ridge else Limit.memory)
    of_compute, of_memory = shares(cost, 1e20, known)
    assert of_compute is not None
    assert of_memory is not None
    assert (of_compute > of_memory) is (found is Limit.compute)


# --- above the ceiling -----------------------------------------------------------------------------


def test_a_rate_above_a_ceiling_is_told_with_both() -> None:
    found = exceeds(Cost(flops=1, bytes=300), taking(2.0), ceilings(), 1.05)
    assert found == "150 bytes/s is 150.0% of the memory ceiling, 100 bytes/s by triad"
    found = exceeds(Cost(flops=6000, bytes=1), taking(2.0), ceilings(), 1.05)
    assert found == "3e+03 FLOP/s is 300.0% of the compute ceiling, 1e+03 FLOP/s by matmul"


def test_both_ceilings_are_told() -> None:
    found = exceeds(Cost(flops=6000, bytes=300), taking(2.0), ceilings(), 1.05)
    assert found is not None
    assert "compute ceiling" in found
    assert "; 150 bytes/s" in found


def test_a_rate_within_the_margin_is_nothing_to_tell() -> None:
    assert exceeds(Cost(flops=1, bytes=104), taking(1.0), ceilings(), 1.05) is None
    assert exceeds(Cost(flops=1, bytes=104), taking(1.0), ceilings(), 1.03) is not None
    assert exceeds(Cost(flops=1, bytes=1), taking(1.0), ceilings(), 1.05) is None


def test_it_is_the_slow_end_of_the_interval_that_must_be_too_fast() -> None:
    cost = Cost(flops=1, bytes=200)
    assert exceeds(cost, taking(1.0, (0.5, 2.0)), ceilings(), 1.05) is None
    found = exceeds(cost, taking(1.0, (0.9, 1.25)), ceilings(), 1.05)
    assert found is not None
    assert "160.0%" in found


def test_what_has_no_ceiling_exceeds_none() -> None:
    cost = Cost(flops=1e9, bytes=1e9)
    assert exceeds(cost, taking(1.0), None, 1.05) is None
    memory_only = exceeds(cost, taking(1.0), ceilings(compute=None), 1.05)
    assert memory_only is not None
    assert "compute" not in memory_only
    compute_only = exceeds(cost, taking(1.0), ceilings(memory=None), 1.05)
    assert compute_only is not None
    assert "memory" not in compute_only


# --- a ladder of ceilings --------------------------------------------------------------------------

FALLING = [ceiling(400.0, 1000), ceiling(300.0, 10_000), ceiling(100.0, 100_000), ceiling(90.0, 1_000_000)]


@pytest.mark.parametrize(
    ("working_set_bytes", "rate_per_s"),
    [
        (1, 400.0),
        (1000, 400.0),
        (1001, 400.0),
        (10_000, 300.0),  # measured just there
        (10_001, 300.0),  # not 400: that is of the cache before
        (99_999, 300.0),
        (100_000, 100.0),
        (500_000, 100.0),
        (1_000_000, 90.0),
        (10**12, 90.0),
    ],
)
def test_the_ceiling_is_the_best_of_those_that_enclose_the_working_set(
    working_set_bytes: int, rate_per_s: float
) -> None:
    for points in (FALLING, FALLING[::-1]):
        found = near(points, working_set_bytes)
        assert found is not None
        assert found.rate_per_s == rate_per_s


def test_the_upper_one_counts_too_where_it_is_better() -> None:
    rising = [ceiling(10.0, 1000), ceiling(50.0, 10_000)]
    assert near(rising, 2000) == rising[1]
    assert near(rising, 500) == rising[0]


def test_of_several_ceilings_at_one_working_set_the_best_counts() -> None:
    copy, triad = ceiling(90.0, 1000, "copy"), ceiling(100.0, 1000, "triad")
    for points in ([copy, triad], [triad, copy]):
        for size in (1, 1000, 2000):
            assert near(points, size) == triad


def test_without_ceilings_none_is_near() -> None:
    assert near([], 1000) is None


ladders = st.lists(st.builds(ceiling, st.floats(1e-3, 1e3), st.integers(1, 50)), min_size=1, max_size=8)


@examples
@given(ladders, st.integers(1, 60))
def test_no_measured_working_set_lies_between_the_ceiling_and_the_one_asked_for(
    points: list[Ceiling], size: int
) -> None:
    found = near(points, size)
    assert found in points
    assert found is not None
    low, high = sorted([found.working_set_bytes, size])
    assert not any(low < point.working_set_bytes < high for point in points)
    at = [point for point in points if point.working_set_bytes == size]
    if at:
        assert found in at
        assert found.rate_per_s == max(point.rate_per_s for point in at)
