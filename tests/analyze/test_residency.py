import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from fakes import make_case, make_failed, make_record, make_timing, noisy_timing
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from jaxaccel.analyze.compare import speedup
from jaxaccel.analyze.residency import BreakEven, break_even, once_s, once_speedup, pinned_speedup
from jaxaccel.records import Compile, Record

# --- builders --------------------------------------------------------------------------------------

BASE = make_timing([[1.0] * 6] * 2)
CASE = make_case()


def arm(device: str, compile_s: float | None = 0.0, **medians_s: float) -> Record:
    """A record of nothing but these medians, and of this much compilation."""
    compiled = None if compile_s is None else Compile(trace_s=0, lower_s=0, compile_s=compile_s, cache="miss")
    timings = {name: replace(BASE, median_s=median_s) for name, median_s in medians_s.items()}
    return make_record(device, case=CASE, timings=timings, compile=compiled)


def cpu(h2d: float, latency: float, d2h: float, **changes: Any) -> Record:
    return arm("cpu", h2d=h2d, latency=latency, d2h=d2h, **changes)


def gpu(h2d: float, latency: float, d2h: float, **changes: Any) -> Record:
    return arm("gpu", h2d=h2d, latency=latency, d2h=d2h, **changes)


def without(record: Record, name: str) -> Record:
    return replace(record, timings={key: value for key, value in record.timings.items() if key != name})


# --- once ------------------------------------------------------------------------------------------


def test_once_is_in_the_calls_and_out() -> None:
    assert once_s(gpu(5, 2, 1), calls=10) == 26
    assert once_s(gpu(5, 2, 1), calls=1) == 8


def test_pinned_memory_counts_for_a_gpu_and_not_for_a_cpu() -> None:
    pinned = {"h2d_pinned": 3.0, "d2h_pinned": 0.5}
    assert once_s(gpu(5, 2, 1, **pinned), calls=10, pinned=True) == 23.5
    assert once_s(gpu(5, 2, 1, **pinned), calls=10) == 26
    assert once_s(cpu(5, 2, 1, **pinned), calls=10, pinned=True) == 26


@pytest.mark.parametrize("name", ["h2d", "latency", "d2h"])
def test_once_is_unknown_without_one_of_its_timings(name: str) -> None:
    assert once_s(without(gpu(5, 2, 1), name), calls=10) is None
    assert once_speedup(without(cpu(5, 2, 1), name), gpu(5, 2, 1), calls=10) is None
    assert once_speedup(cpu(5, 2, 1), without(gpu(5, 2, 1), name), calls=10) is None


def test_pageable_timings_do_not_stand_in_for_pinned_ones() -> None:
    assert once_s(gpu(5, 2, 1), calls=10, pinned=True) is None


def test_a_failed_arm_has_no_times_even_where_it_has_timings() -> None:
    broken = make_failed("gpu", case=CASE, timings=gpu(5, 2, 1).timings)
    assert once_s(broken, calls=10) is None


@pytest.mark.parametrize("calls", [0, -1])
def test_no_calls_are_refused(calls: int) -> None:
    with pytest.raises(ValueError, match=f"`calls` must be at least 1, got {calls}"):
        once_s(gpu(5, 2, 1), calls)


def test_once_speedup_is_cpu_time_over_gpu_time() -> None:
    sides = cpu(0, 10, 0), gpu(5, 2, 1, h2d_pinned=3, d2h_pinned=1)
    assert once_speedup(*sides, calls=1) == 10 / 8
    assert once_speedup(*sides, calls=100) == 1000 / 206
    assert once_speedup(*sides, calls=100, pinned=True) == 1000 / 204


def test_times_of_zero_have_no_speedup() -> None:
    assert once_speedup(cpu(0, 1, 0), gpu(0, 0, 0), calls=3) is None
    assert once_speedup(cpu(0, 0, 0), gpu(0, 1, 0), calls=3) == 0


def test_records_of_two_cases_are_refused() -> None:
    other = make_case(size=2048)
    theirs = replace(gpu(5, 2, 1), case=other, case_id=other.case_id)
    with pytest.raises(ValueError, match=r"different cases.*1024.*2048"):
        once_speedup(cpu(5, 2, 1), theirs, calls=1)
    with pytest.raises(ValueError, match="different cases"):
        break_even(cpu(5, 2, 1), theirs)
    with pytest.raises(ValueError, match="different cases"):
        pinned_speedup(cpu(5, 2, 1), theirs)


# --- every call, pinned ----------------------------------------------------------------------------


def test_pinned_speedup_sets_plain_cpu_times_against_pinned_gpu_times() -> None:
    timings = [noisy_timing(median_s, seed=seed) for seed, median_s in enumerate((6e-4, 9e-4, 5e-4, 2e-4))]
    ours = make_record("cpu", timings={"end_to_end": timings[0], "end_to_end_pinned": timings[1]})
    theirs = make_record("gpu", timings={"end_to_end": timings[2], "end_to_end_pinned": timings[3]})
    found = pinned_speedup(ours, theirs, among=7)
    assert found == speedup(timings[0], timings[3], interleaved=False, among=7)
    assert found.ratio == pytest.approx(3, rel=0.01)
    assert found.among == 7


def test_pinned_speedup_is_unknown_without_either_timing_or_with_a_failed_arm() -> None:
    ours, theirs = arm("cpu", end_to_end=2), arm("gpu", end_to_end_pinned=1)
    assert pinned_speedup(ours, theirs) is not None
    assert pinned_speedup(ours, arm("gpu", end_to_end=1)) is None
    assert pinned_speedup(arm("cpu", end_to_end_pinned=2), theirs) is None
    assert pinned_speedup(ours, make_failed("gpu", case=CASE, timings=theirs.timings)) is None


# --- break-even ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (cpu(0, 3, 0), gpu(5, 1, 1), BreakEven(calls=3)),  # 6 of transfers, 2 saved a call: equal is enough
        (cpu(0, 3, 0), gpu(5, 1, 1.5), BreakEven(calls=4)),
        (cpu(1, 3, 1), gpu(5, 1, 1), BreakEven(calls=2)),  # the CPU's transfers count too
        (cpu(0, 3, 0), gpu(1, 1, 1), BreakEven(calls=1)),
        (cpu(9, 3, 9), gpu(1, 1, 1), BreakEven(calls=1)),  # never below one
        (cpu(1, 3, 1), gpu(1, 3, 1), BreakEven(calls=1)),  # no difference at all
        (cpu(1, 3, 1), gpu(1, 3, 0), BreakEven(calls=1)),
        (cpu(1, 3, 0), gpu(1, 3, 1), BreakEven(never=True)),
        (cpu(0, 1, 0), gpu(5, 3, 1), BreakEven(never=True)),
        (cpu(0, 1, 1), gpu(0, 3, 0), BreakEven(never=True)),  # cheaper to start, and lost at the first call
        (cpu(5, 1, 1), gpu(0, 3, 0), BreakEven(until=3)),
        (cpu(5, 1, 0), gpu(0, 3, 0), BreakEven(until=2)),
        (cpu(2, 1, 0), gpu(0, 3, 0), BreakEven(until=1)),
    ],
)
def test_break_even_is_known_where_all_is_measured(ours: Record, theirs: Record, expected: BreakEven) -> None:
    assert break_even(ours, theirs) == expected


def test_break_even_by_pinned_memory_is_another() -> None:
    ours, theirs = cpu(0, 3, 0), gpu(9, 1, 9, h2d_pinned=5, d2h_pinned=1)
    assert break_even(ours, theirs) == BreakEven(calls=9)
    assert break_even(ours, theirs, pinned=True) == BreakEven(calls=3)


def test_all_of_compilation_counts_on_both_sides_where_it_is_asked_for() -> None:
    ours, theirs = cpu(0, 3, 0), gpu(5, 1, 1)
    slow = replace(theirs, compile=Compile(trace_s=1, lower_s=2, compile_s=15, cache="miss"))
    assert break_even(ours, slow) == BreakEven(calls=3)
    assert break_even(ours, slow, compiling=True) == BreakEven(calls=12)
    also = replace(ours, compile=Compile(trace_s=2, lower_s=1, compile_s=1, cache="miss"))
    assert break_even(also, slow, compiling=True) == BreakEven(calls=10)


@pytest.mark.parametrize(("cached", "device"), [(0, "CPU"), (1, "GPU")])
def test_what_came_from_the_cache_says_nothing_of_compilation(cached: int, device: str) -> None:
    sides = [cpu(0, 3, 0), gpu(5, 1, 1)]
    hit = Compile(trace_s=1, lower_s=2, compile_s=0.1, cache="hit")
    sides[cached] = replace(sides[cached], compile=hit)
    found = break_even(sides[0], sides[1], compiling=True)
    assert found == BreakEven(reason=f"compiled from the cache on the {device}")
    assert break_even(sides[0], sides[1]) == BreakEven(calls=3)


def test_what_was_not_measured_is_named_and_decides_nothing() -> None:
    ours, theirs = cpu(0, 3, 0), gpu(5, 1, 1)

    def reason(*sides: Record, **options: bool) -> str:
        found = break_even(*sides, **options)
        assert (found.calls, found.until, found.never) == (None, None, False)
        return found.reason or ""

    assert reason(without(ours, "h2d"), theirs) == "no h2d on the CPU"
    assert reason(ours, without(without(theirs, "d2h"), "latency")) == "no latency, d2h on the GPU"
    assert reason(without(ours, "d2h"), without(theirs, "h2d")) == "no d2h on the CPU; no h2d on the GPU"
    assert reason(ours, theirs, pinned=True) == "no h2d_pinned, d2h_pinned on the GPU"
    bare = replace(theirs, compile=None)
    assert reason(ours, bare, compiling=True) == "no compile on the GPU"
    assert break_even(ours, bare) == BreakEven(calls=3)
    assert reason(ours, make_failed("gpu", case=CASE, timings=theirs.timings)) == "failed on the GPU"


seconds = st.floats(min_value=1e-9, max_value=1e3)
# Few values, so that ties and whole quotients, where rounding decides, are common.
ticks = st.integers(1, 12).map(lambda tick: tick * 0.1)
times = st.one_of(seconds, ticks)
sides = st.tuples(times, times, times, times)
examples = settings(derandomize=True, deadline=None, max_examples=150)


def exact(record: Record, calls: int) -> Fraction:
    parts = [record.timings[name].median_s for name in ("h2d", "d2h")]
    parts += [record.compile.compile_s] if record.compile else []
    return sum(map(Fraction, parts), calls * Fraction(record.timings["latency"].median_s))


@examples
@given(sides, sides)
# Twice what a call saves, and a little more, which a float's difference or quotient loses: 3 calls, not 2.
@example((0.2, 1.0, 0.1, 0.4), (1.0, 0.2, 0.2, 1.1))
@example((0.5, 1.1, 0.1, 3 * 0.1), (0.2, 7 * 0.1, 1.1, 0.4))
@example((1e-9, 1e3, 1e-9, 1e-9), (1e3, math.nextafter(1e3, 0), 1e3, 1e3))  # 2.6e16: floats skip such numbers
def test_the_number_of_calls_is_the_first_that_holds_and_all_after_it_do(
    ours: tuple[float, ...], theirs: tuple[float, ...]
) -> None:
    one, other = (
        make(h2d=h2d, latency=latency, d2h=d2h, compile_s=compile_s)
        for make, (h2d, latency, d2h, compile_s) in ((cpu, ours), (gpu, theirs))
    )

    def holds(calls: int) -> bool:
        return exact(other, calls) <= exact(one, calls)

    found = break_even(one, other, compiling=True)
    assert found.reason is None
    assert [found.calls is not None, found.until is not None, found.never].count(True) == 1
    if found.calls is not None:
        assert found.calls >= 1
        assert holds(found.calls)
        assert all(holds(found.calls + more) for more in (1, 2, 10**20))
        assert found.calls == 1 or not holds(found.calls - 1)
    elif found.until is not None:
        assert holds(1)
        assert holds(found.until)
        assert not holds(found.until + 1)
    else:
        assert not any(holds(calls) for calls in (1, 2, 10**20))


@examples
@given(sides, sides)
def test_the_speedup_once_agrees_with_break_even(ours: tuple[float, ...], theirs: tuple[float, ...]) -> None:
    one, other = cpu(*ours[:3]), gpu(*theirs[:3])
    calls = break_even(one, other).calls
    assume(calls is not None)
    assert calls is not None
    at, before = once_speedup(one, other, calls), once_speedup(one, other, max(1, calls - 1))
    assert at is not None
    assert before is not None
    assert at >= 1
    assert calls == 1 or before <= 1
    cpu_s, gpu_s = once_s(one, calls), once_s(other, calls)
    assert cpu_s is not None
    assert gpu_s is not None
    assert gpu_s <= cpu_s


@examples
@given(sides, sides)
def test_with_more_and_more_calls_the_speedup_becomes_that_of_latency(
    ours: tuple[float, ...], theirs: tuple[float, ...]
) -> None:
    found = once_speedup(cpu(*ours[:3]), gpu(*theirs[:3]), 10**30)
    assert found == pytest.approx(ours[1] / theirs[1])
