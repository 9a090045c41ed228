import math
from dataclasses import replace

import numpy as np
import pytest
from fakes import make_case, make_failed, make_record, make_timing, noisy_timing

from jaxaccel.analyze.compare import compare, geometric_mean, pair, speedup, verdict
from jaxaccel.analyze.stats import EARLY_STOP, RERUN
from jaxaccel.records import Accuracy, Metric, Record, Speedup, Timing, Verdict

# --- one speedup -----------------------------------------------------------------------------------


def flat(*medians: float) -> Timing:
    """One pass whose rounds have these medians, with no spread inside them."""
    return make_timing([[median] * 3 for median in medians])


def flat_passes(*medians: float) -> Timing:
    return make_timing(*[[[median] * 6] for median in medians])


def width(found: Speedup) -> float:
    """Of the interval, on the logarithmic scale."""
    assert found.ci95 is not None
    return math.log(found.ci95[1] / found.ci95[0])


@pytest.mark.parametrize("interleaved", [True, False])
def test_speedup_is_cpu_time_over_gpu_time(interleaved: bool) -> None:
    found = speedup(noisy_timing(3e-4, seed=1), noisy_timing(1e-4, seed=2), interleaved=interleaved)
    assert found.ratio == pytest.approx(3, rel=0.01)
    assert found.verdict is Verdict.gpu
    back = speedup(noisy_timing(1e-4, seed=2), noisy_timing(3e-4, seed=1), interleaved=interleaved)
    assert back.ratio == pytest.approx(1 / found.ratio)
    assert back.verdict is Verdict.cpu


def test_the_interval_contains_the_ratio() -> None:
    found = speedup(noisy_timing(3e-4, seed=1), noisy_timing(1e-4, seed=2), interleaved=False)
    assert found.ci95 is not None
    assert found.ci95[0] < found.ratio < found.ci95[1]


def test_two_timings_of_the_same_thing_are_equivalent() -> None:
    found = speedup(noisy_timing(1e-4, seed=1), noisy_timing(1e-4, seed=2), interleaved=True)
    assert found.verdict is Verdict.equivalent


def test_independent_timings_are_compared_as_welch_does() -> None:
    # Logarithms of the round medians: ln 2 + (-0.01, 0, 0.01) and (-0.02, 0, 0.02). Their variances over
    # three are 1/3 and 4/3 of 1e-4: a standard error of √(5/3 1e-4) = 0.01290994, and
    # (5/3)² / ((1/3)²/2 + (4/3)²/2) = 50/17 = 2.941176 degrees of freedom, whose t(0.975) is 3.218759.
    cpu = flat(*(2 * np.exp([-0.01, 0, 0.01])))
    gpu = flat(*np.exp([-0.02, 0, 0.02]))
    found = speedup(cpu, gpu, interleaved=False)
    half = EARLY_STOP * 3.218759 * 0.01290994
    assert found.ratio == pytest.approx(2)
    assert found.ci95 == pytest.approx((2 * math.exp(-half), 2 * math.exp(half)), rel=1e-6)


def test_interleaved_rounds_are_compared_one_by_one() -> None:
    # The logarithms of the ratios are ln 2 + (-0.01, 0, 0.01): t(0.975, 2) = 4.302653 times 0.01/√3.
    found = speedup(flat(2 * math.exp(-0.01), 6, 4 * math.exp(0.01)), flat(1, 3, 2), interleaved=True)
    assert width(found) == pytest.approx(2 * EARLY_STOP * 4.302653 * 0.01 / math.sqrt(3), rel=1e-6)


def test_rounds_that_only_one_arm_has_are_no_pairs() -> None:
    cpu, gpu = flat(2, 6, 4, 99, 98), flat(1, 3, 2)
    assert width(speedup(cpu, gpu, interleaved=True)) == pytest.approx(0)


def drifting_pair(seed: int) -> tuple[Timing, Timing]:
    """Both arms of a machine whose speed wanders by tens of percent; the CPU takes 1.5 times as long."""
    rng = np.random.default_rng(seed)
    machine = np.exp(np.cumsum(0.05 * rng.standard_normal((20, 1)), axis=0))
    cpu, gpu = machine * (1 + 0.01 * rng.standard_normal((2, 20, 15)))
    return make_timing((1.5e-4 * cpu).tolist()), make_timing((1e-4 * gpu).tolist())


@pytest.mark.parametrize("seed", range(5))
def test_interleaving_takes_out_what_both_arms_suffered(seed: int) -> None:
    cpu, gpu = drifting_pair(seed)
    paired = speedup(cpu, gpu, interleaved=True)
    assert width(paired) < width(speedup(cpu, gpu, interleaved=False)) / 5
    assert width(paired) < 0.02
    assert paired.verdict is Verdict.gpu


def test_several_passes_are_compared_over_passes_for_a_rerun() -> None:
    # Both slow down from pass to pass alike, but for ln ratios ln 2 + (-0.01, 0, 0.01). A rerun errs as much.
    cpu = flat_passes(2 * math.exp(-0.01), 4, 8 * math.exp(0.01))
    gpu = flat_passes(1, 2, 4)
    found = speedup(cpu, gpu, interleaved=True)
    assert found.ci_over == "passes"
    assert found.ratio == pytest.approx(2)
    assert width(found) == pytest.approx(2 * RERUN * 4.302653 * 0.01 / math.sqrt(3), rel=1e-6)
    assert width(speedup(cpu, gpu, interleaved=False)) > 2


def test_one_pass_against_several_is_compared_over_rounds() -> None:
    found = speedup(noisy_timing(1e-4, passes=1), noisy_timing(1e-4, passes=3), interleaved=False)
    assert found.ci_over == "rounds"


def test_too_few_samples_give_a_ratio_without_interval_or_verdict() -> None:
    few = make_timing([[2e-4], [2e-4]])
    found = speedup(few, noisy_timing(1e-4), interleaved=True)
    assert found.ratio == pytest.approx(2, rel=0.01)
    assert found.ci95 is None
    assert found.verdict is Verdict.undecided


def test_arms_without_a_round_in_common_are_undecided() -> None:
    cpu, gpu = noisy_timing(3e-4), noisy_timing(1e-4)
    apart = replace(gpu, rounds=tuple((p, order + 100, n) for p, order, n in gpu.rounds))
    found = speedup(cpu, apart, interleaved=True)
    assert (found.ci95, found.verdict) == (None, Verdict.undecided)


# --- verdicts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.99, 1.01), Verdict.equivalent),
        ((1 / 1.02, 1.02), Verdict.equivalent),
        ((1.001, 1.019), Verdict.equivalent),  # surely faster, and by nothing that matters
        ((0.981, 0.999), Verdict.equivalent),
        ((1.001, 1.03), Verdict.gpu),
        ((5.0, 500.0), Verdict.gpu),
        ((0.97, 0.999), Verdict.cpu),
        ((0.001, 0.5), Verdict.cpu),
        ((0.97, 1.03), Verdict.undecided),
        ((1.0, 1.5), Verdict.undecided),
        ((0.5, 1.0), Verdict.undecided),
        ((0.97, 1.01), Verdict.undecided),
    ],
)
def test_a_verdict_is_the_first_that_the_interval_allows(
    interval: tuple[float, float], expected: Verdict
) -> None:
    assert verdict(interval) is expected


def test_the_geometric_mean_of_a_doubling_and_a_halving_is_one() -> None:
    assert geometric_mean([2, 0.5]) == pytest.approx(1)
    assert geometric_mean([1, 10, 100]) == pytest.approx(10)


# --- records ---------------------------------------------------------------------------------------


def records(cpu_s: float = 3e-4, gpu_s: float = 1e-4, **changes: object) -> tuple[Record, Record]:
    cpu = make_record("cpu", timings={"latency": noisy_timing(cpu_s, seed=1)}, **changes)
    gpu = make_record("gpu", timings={"latency": noisy_timing(gpu_s, seed=2)}, **changes)
    return cpu, gpu


def test_both_arms_of_a_case_give_a_speedup_a_metric() -> None:
    cpu, gpu = make_record("cpu"), make_record("gpu")
    found = compare(cpu, gpu)
    assert found.speedups.keys() == {"latency", "throughput"}
    assert (found.cpu, found.gpu, found.case) == (cpu, gpu, cpu.case)


def test_a_metric_that_only_one_arm_has_is_not_compared() -> None:
    cpu = make_record("cpu")
    gpu = make_record("gpu", timings={"latency": noisy_timing(1e-4)})
    assert compare(cpu, gpu).speedups.keys() == {"latency"}
    assert compare(gpu, cpu).speedups.keys() == {"latency"}


def test_a_failed_arm_gives_no_speedup_even_where_it_has_timings() -> None:
    cpu, gpu = records()
    for broken in (make_failed("gpu"), make_failed("gpu", timings=gpu.timings)):
        found = compare(cpu, broken)
        assert found.speedups == {}
        assert found.gpu is broken


def test_a_missing_arm_gives_no_speedup() -> None:
    cpu, gpu = records()
    assert compare(cpu, None).speedups == {}
    assert compare(None, gpu).speedups == {}
    assert compare(None, gpu).case == gpu.case


def test_no_records_make_no_comparison() -> None:
    with pytest.raises(ValueError, match="at least one"):
        compare(None, None)


def test_records_of_different_cases_are_refused() -> None:
    cpu = make_record("cpu", case=make_case(size=1024))
    gpu = make_record("gpu", case=make_case(size=2048))
    with pytest.raises(ValueError, match=r"different cases.*1024.*2048"):
        compare(cpu, gpu)


def in_drift(**changes: object) -> tuple[Record, Record]:
    cpu, gpu = drifting_pair(0)
    return (
        make_record("cpu", timings={"latency": cpu}),
        make_record("gpu", timings={"latency": gpu}, **changes),
    )


def test_only_arms_of_one_interleaved_pair_are_compared_round_by_round() -> None:
    paired = width(compare(*in_drift()).speedups["latency"])
    for changes in ({"pair_id": "another"}, {"paired": False}):
        assert width(compare(*in_drift(**changes)).speedups["latency"]) > 5 * paired


def test_records_pair_by_case_in_the_order_they_appeared() -> None:
    sizes = [4096, 256, 1024]
    cpus = [make_record("cpu", case=make_case(size=size)) for size in sizes]
    gpus = [make_record("gpu", case=make_case(size=size)) for size in reversed(sizes)]
    found = pair([*cpus, *gpus])
    assert [comparison.case.size for comparison in found] == sizes
    assert all(comparison.speedups for comparison in found)


def test_a_case_on_one_device_is_a_comparison_of_one() -> None:
    (found,) = pair([make_record("gpu")])
    assert found.cpu is None
    assert found.gpu is not None


def at(minute: int, record: Record) -> Record:
    return replace(record, started_at=f"2026-01-02T03:{minute:02d}:00+00:00")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_several_records_of_an_arm_the_latest_counts(order: tuple[int, int]) -> None:
    both = [at(1, make_record("cpu", command="old")), at(2, make_record("cpu", command="new"))]
    (found,) = pair([both[k] for k in order])
    assert found.cpu is not None
    assert found.cpu.command == "new"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_states_of_one_measurement_the_fuller_counts(order: tuple[int, int]) -> None:
    states = [
        at(1, make_record("cpu", command=command, timings={"latency": make_timing([[1e-4] * count] * 5)}))
        for command, count in (("before the kill", 6), ("resumed", 12))
    ]
    (found,) = pair([states[k] for k in order])
    assert found.cpu is not None
    assert found.cpu.command == "resumed"


def test_a_failure_does_not_hide_an_earlier_measurement() -> None:
    (found,) = pair([at(1, make_record("gpu")), at(2, make_failed("gpu"))])
    assert found.gpu is not None
    assert found.gpu.ok


def test_a_measurement_comes_in_place_of_an_earlier_failure() -> None:
    (found,) = pair([at(2, make_record("gpu")), at(1, make_failed("gpu"))])
    assert found.gpu is not None
    assert found.gpu.ok


def test_of_failures_alone_the_latest_counts() -> None:
    (found,) = pair([at(2, make_failed("gpu", message="new")), at(1, make_failed("gpu", message="old"))])
    assert found.gpu is not None
    assert found.gpu.error is not None
    assert found.gpu.error.message == "new"


def test_one_of_many_verdicts_is_held_to_a_wider_interval_and_shows_the_same() -> None:
    cpu, gpu = noisy_timing(1.05e-4, spread=0.1, seed=1), noisy_timing(1e-4, spread=0.1, seed=2)
    alone, among = (speedup(cpu, gpu, interleaved=False, among=count) for count in (1, 1000))
    assert among.ci95 == alone.ci95
    assert alone.verdict is Verdict.gpu
    assert among.verdict is Verdict.undecided


def test_a_sweep_corrects_for_the_cases_that_it_has_and_not_for_their_metrics() -> None:
    pairs = [
        make_record(device, case=make_case(size=size)) for size in (1, 2, 3) for device in ("cpu", "gpu")
    ]
    single = make_record("cpu", case=make_case(size=4))
    broken = [make_record("cpu", case=make_case(size=5)), make_failed("gpu", case=make_case(size=5))]
    apart = [
        make_record(device, case=make_case(size=6), timings={metric: noisy_timing(1e-4)})
        for device, metric in (("cpu", "latency"), ("gpu", "throughput"))
    ]
    found = pair([*pairs, single, *broken, *apart])
    assert [len(comparison.speedups) for comparison in found] == [2, 2, 2, 0, 0, 0]
    assert {s.among for comparison in found for s in comparison.speedups.values()} == {3}


def test_every_metric_that_both_arms_have_is_compared() -> None:
    timings = {metric: noisy_timing(1e-4, seed=seed) for seed, metric in enumerate(Metric)}
    plain = {metric: timing for metric, timing in timings.items() if not metric.endswith("_pinned")}
    found = compare(make_record("cpu", timings=plain), make_record("gpu", timings=timings))
    assert set(found.speedups) == {"latency", "throughput", "device", "end_to_end", "h2d", "d2h"}


# --- precision -------------------------------------------------------------------------------------


def erring(device: str, error: float, **changes: object) -> Record:
    accuracy = Accuracy(relative_error=error, tolerance=1.0, ok=True, reference="float64")
    return make_record(device, accuracy=accuracy, case=make_case(**changes))


def unmatched(cpu_error: float, gpu_error: float, **changes: object) -> str | None:
    return compare(erring("cpu", cpu_error, **changes), erring("gpu", gpu_error, **changes)).unmatched


def test_errors_that_only_two_precisions_explain_are_told() -> None:
    assert unmatched(1e-7, 3e-4, precision="default") == (
        "precision=default: error 3e-04 on the GPU, 1e-07 on the CPU"
    )
    assert unmatched(3e-4, 1e-7, precision="highest") == (
        "precision=highest: error 1e-07 on the GPU, 3e-04 on the CPU"
    )
    assert unmatched(0.0, 3e-4) == "precision=highest: error 3e-04 on the GPU, 0e+00 on the CPU"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_it_goes_by_the_errors_and_not_by_the_type(dtype: str) -> None:
    assert unmatched(2e-3, 1.9e-2, dtype=dtype) is None
    assert unmatched(2e-3, 2.1e-2, dtype=dtype) is not None
    assert unmatched(2.1e-2, 2e-3, dtype=dtype) is not None
    assert unmatched(0.0, 0.0, dtype=dtype) is None


@pytest.mark.parametrize(
    ("cpu_error", "gpu_error"),
    [(1.2e-6, 1.2e-7), (1.3e-6, 1.2e-7), (0.0, 2e-6), (1e-12, 1e-7), (2e-7, 2.1e-6), (1e-9, 0.0)],
)
def test_rounding_and_its_luck_are_no_other_precision(cpu_error: float, gpu_error: float) -> None:
    assert unmatched(cpu_error, gpu_error) is None
    assert unmatched(gpu_error, cpu_error) is None


def test_float64_has_a_finer_rounding() -> None:
    assert unmatched(1e-16, 1e-7, dtype="float64") is not None
    assert unmatched(0.0, 1e-12, dtype="float64") is not None
    assert unmatched(0.0, 1e-14, dtype="float64") is None


def test_without_both_errors_nothing_is_said_of_precision() -> None:
    far = erring("cpu", 1e-7), erring("gpu", 3e-4)
    for k in (0, 1):
        sides = [replace(side, accuracy=None) if i == k else side for i, side in enumerate(far)]
        assert compare(*sides).unmatched is None
    assert compare(far[0], None).unmatched is None
    assert compare(far[0], make_failed("gpu", accuracy=far[1].accuracy)).unmatched is None
