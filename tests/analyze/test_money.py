import math
from dataclasses import replace
from typing import Any

import pytest
from fakes import CPU_ENVIRONMENT, make_case, make_failed, make_record, make_timing, noisy_timing

from jaxaccel.analyze.compare import compare, pair
from jaxaccel.analyze.money import Bill, Prices, bill, calls_cost
from jaxaccel.analyze.stats import RERUN
from jaxaccel.records import Metric, Record, Timing, Verdict


def priced(currency: str | None = None, **per_hour: float) -> Prices:
    return Prices(per_hour=per_hour, date="2026-11-26", currency=currency)


def flat_passes(median_s: float, passes: int = 3, *, by: float = 0.001) -> Timing:
    """A pass for each of medians that are spread evenly, on a logarithmic scale, by ± `by`."""
    steps = [by * (2 * k / (passes - 1) - 1) for k in range(passes)]
    return make_timing(*[[[median_s * math.exp(step)] * 6] for step in steps])


def sides(cpu_s: float, gpu_s: float, **changes: Any) -> tuple[Record, Record]:
    by = changes.pop("by", 0.001)
    return (
        make_record("cpu", timings={"throughput": flat_passes(cpu_s, by=by)}, **changes),
        make_record("gpu", timings={"throughput": flat_passes(gpu_s, by=-by)}, **changes),
    )


def billed(cpu_s: float, gpu_s: float, *, cpu: float = 1.0, gpu: float = 4.0, **changes: Any) -> Bill:
    found = bill(compare(*sides(cpu_s, gpu_s, **changes)), priced(cpu=cpu, gpu=gpu))
    assert found is not None
    return found


# --- one side --------------------------------------------------------------------------------------


def test_a_million_calls_cost_the_price_of_the_hours_that_they_take() -> None:
    # 3.6 ms a call are 3600 s, an hour, for a million.
    record = make_record("cpu", timings={"throughput": make_timing([[3.6e-3] * 15] * 6)})
    found = calls_cost(record, priced(cpu=0.40))
    assert found is not None
    assert found.per_million_calls == pytest.approx(0.40)
    assert found.ci95 == pytest.approx((0.40, 0.40))


def test_a_cost_has_the_interval_of_its_time() -> None:
    timing = noisy_timing(3.6e-3, passes=5)
    found = calls_cost(make_record("gpu", timings={"throughput": timing}), priced(gpu=2.0))
    assert found is not None
    assert timing.ci95_s is not None
    assert found.ci95 == pytest.approx([2.0 * limit_s / 3.6e-3 for limit_s in timing.ci95_s])
    assert found.ci_over == "passes"


def test_a_cost_without_interval_has_none() -> None:
    record = make_record("cpu", timings={"throughput": make_timing([[1e-4]])})
    found = calls_cost(record, priced(cpu=1.0))
    assert found is not None
    assert found.ci95 is None


def test_costs_are_of_queued_calls_and_else_of_those_one_waits_for() -> None:
    timings = {"latency": make_timing([[7.2e-3] * 15] * 6), "throughput": make_timing([[3.6e-3] * 15] * 6)}
    for left, metric, cost in (
        (timings, Metric.throughput, 1.0),
        ({"latency": timings["latency"]}, Metric.latency, 2.0),
    ):
        found = calls_cost(make_record("cpu", timings=left), priced(cpu=1.0))
        assert found is not None
        assert (found.metric, found.per_million_calls) == (metric, pytest.approx(cost))
    assert calls_cost(make_record("cpu", timings={"h2d": timings["latency"]}), priced(cpu=1.0)) is None


def test_without_a_price_or_a_measurement_there_is_no_cost() -> None:
    assert calls_cost(make_record("cpu"), priced(gpu=1.0)) is None
    assert calls_cost(make_failed("gpu", timings=make_record("gpu").timings), priced(gpu=1.0)) is None
    assert bill(compare(make_record("cpu"), None), priced(gpu=1.0)) is None
    assert bill(compare(make_failed("cpu"), make_failed("gpu")), priced(cpu=1.0, gpu=1.0)) is None


# --- both sides ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("speedup", "expected"),
    [(2.0, Verdict.cpu), (8.0, Verdict.gpu), (4.0, Verdict.equivalent), (3.97, Verdict.equivalent)],
)
def test_the_cheaper_side_is_that_of_speedup_against_price(speedup: float, expected: Verdict) -> None:
    found = billed(speedup * 1e-4, 1e-4, cpu=0.5, gpu=2.0)
    assert found.verdict is expected
    assert found.cpu is not None
    assert found.gpu is not None
    assert found.ratio == pytest.approx(speedup / 4)
    assert found.ratio == pytest.approx(found.cpu.per_million_calls / found.gpu.per_million_calls)


def test_it_flips_at_the_price_ratio_that_is_the_speedup() -> None:
    found = billed(3e-4, 1e-4)
    comparison = compare(*sides(3e-4, 1e-4))
    assert found.flip == pytest.approx(3)
    assert found.flip_ci95 == comparison.speedups["throughput"].ci95
    assert found.flip_ci95 is not None
    for gpu, expected in ((2.9, Verdict.gpu), (3.0, Verdict.equivalent), (3.1, Verdict.cpu)):
        again = bill(comparison, priced(cpu=1.0, gpu=gpu))
        assert again is not None
        assert again.verdict is expected
        assert again.flip == found.flip  # whatever the prices are


def test_the_interval_of_the_cost_ratio_is_the_speedups_over_the_price_ratio() -> None:
    # Log ratios of ±0.02 and 0 over three passes: t(0.975, 2) = 4.302653, times 0.02/√3; √2 for a rerun.
    found = billed(8e-4, 1e-4, by=0.01)
    half = RERUN * 4.302653 * 0.02 / math.sqrt(3)
    assert found.ci95 == pytest.approx((2 * math.exp(-half), 2 * math.exp(half)), rel=1e-6)
    assert found.flip_ci95 == pytest.approx((8 * math.exp(-half), 8 * math.exp(half)), rel=1e-6)
    assert found.ci_over == "passes"


def test_what_the_interval_does_not_decide_is_undecided() -> None:
    assert billed(4.1e-4, 1e-4, by=0.05).verdict is Verdict.undecided
    assert billed(4.1e-4, 1e-4, by=0.0005).verdict is Verdict.gpu


def test_the_verdict_allows_for_the_number_of_comparisons() -> None:
    # Alone, 1.1 lies outside; at 1 - 5% / 20 the t is 20 in place of 4.3.
    one = sides(4.4e-4, 1e-4, by=0.015)
    many = [
        record for size in range(20) for record in sides(4.4e-4, 1e-4, by=0.015, case=make_case(2 + size))
    ]
    alone, among = (bill(pair(records)[0], priced(cpu=1.0, gpu=4.0)) for records in (one, many))
    assert alone is not None
    assert among is not None
    assert (alone.verdict, among.verdict) == (Verdict.gpu, Verdict.undecided)
    assert alone.ci95 == among.ci95


def test_both_sides_are_billed_by_one_metric() -> None:
    cpu = make_record("cpu", timings={"latency": flat_passes(4e-4), "throughput": flat_passes(1e-4)})
    gpu = make_record("gpu", timings={"latency": flat_passes(2e-4)})
    found = bill(compare(cpu, gpu), priced(cpu=1.0, gpu=1.0))
    assert found is not None
    assert found.cpu is not None
    assert found.gpu is not None
    assert (found.cpu.metric, found.gpu.metric) == (Metric.latency, Metric.latency)
    assert found.flip == pytest.approx(2)
    apart = bill(
        compare(replace(cpu, timings={"throughput": flat_passes(1e-4)}), gpu), priced(cpu=1.0, gpu=1.0)
    )
    assert apart is not None
    assert apart.cpu is not None
    assert (apart.cpu.metric, apart.verdict, apart.flip) == (Metric.throughput, None, None)


def test_one_price_gives_one_sides_cost_and_no_verdict() -> None:
    found = bill(compare(*sides(3e-4, 1e-4)), priced(gpu=2.0))
    assert found is not None
    assert found.cpu is None
    assert found.gpu is not None
    assert (found.ratio, found.verdict, found.flip) == (None, None, None)


def test_two_machines_with_one_pass_are_undecided_and_say_why() -> None:
    cpu = make_record("cpu", timings={"throughput": noisy_timing(9e-4)})
    gpu = make_record("gpu", timings={"throughput": noisy_timing(1e-4)})
    elsewhere = replace(gpu, environment={**CPU_ENVIRONMENT, "host_id": "def"})
    found = bill(compare(cpu, elsewhere), priced(cpu=1.0, gpu=1.0))
    assert found is not None
    assert (found.verdict, found.flip_ci95) == (Verdict.undecided, None)
    assert found.reason == "one pass on each side: how processes differ is unknown"


# --- prices ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("price", [0.0, -1.0, math.nan, math.inf, -math.inf, 1e13, 1e-13])
def test_a_price_that_is_none_is_refused(price: float) -> None:
    with pytest.raises(ValueError, match=r"`per_hour` must be .*cpu=0\.40, got 'cpu="):
        priced(cpu=price)


def test_a_device_that_there_is_not_has_no_price() -> None:
    with pytest.raises(ValueError, match=r"one of cpu, gpu .* got 'tpu=1"):
        priced(tpu=1.0)


@pytest.mark.parametrize(
    "day", ["", "today", "2026-13-01", "2026-02-30", "20261126", "2026-W48-4", "26-11-2026"]
)
def test_a_date_that_is_none_is_refused(day: str) -> None:
    with pytest.raises(ValueError, match="`date` must be a date such as 2026-11-26, got"):
        Prices(per_hour={"cpu": 1.0}, date=day)


@pytest.mark.parametrize("currency", ["", " ", "US dollars", "EUR\n", "\x1b[31m", "x" * 13])
def test_a_currency_that_is_no_word_is_refused(currency: str) -> None:
    with pytest.raises(ValueError, match="`currency` must be one word"):
        priced(currency, cpu=1.0)


def test_extreme_prices_give_numbers() -> None:
    found = billed(1e3, 1e-9, cpu=1e12, gpu=1e-12)
    assert found.ratio is not None
    assert found.cpu is not None
    assert math.isfinite(found.ratio)
    assert math.isfinite(found.cpu.per_million_calls)
