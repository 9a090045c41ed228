"""Invariants, rates, flags and reasons, from timings made by hand: known medians and intervals."""

from dataclasses import replace

import pytest
from fakes import FLOOR_S, failure, make_case, make_record, make_timing, opened

from jaxaccel.analyze.stats import MIN_SAMPLES
from jaxaccel.records import (
    RESIDENT,
    Arm,
    Ceiling,
    Ceilings,
    Cost,
    DeviceTime,
    Flag,
    Limit,
    Metric,
    Status,
    Timing,
)
from jaxaccel.records.messages import Inspected
from jaxaccel.session.evidence import (
    DEVICE_LAST,
    LATENCY_FIRST,
    NOT_ASKED,
    WITHIN_CEILING,
    Evidence,
    asked_for,
    derived,
)
from jaxaccel.session.rounds import Stop

LATENCY, THROUGHPUT, DEVICE = RESIDENT
STOP = Stop(relative_ci=0.01, limit_s=1.0)
MILLI = 1e-3


def exactly(time_s: float) -> Timing:
    """A timing without any noise: its interval is a point."""
    return make_timing([[time_s] * 15] * 6)


def within(low_s: float, median_s: float, high_s: float) -> Timing:
    return replace(exactly(median_s), ci95_s=(low_s, high_s))


def unsure(median_s: float) -> Timing:
    """A timing of one sample, which has no interval."""
    timing = make_timing([[median_s]])
    assert timing.ci95_s is None
    return timing


def make_ceilings(
    *, memory: float | None = 1e10, compute: float | None = 1e12, transfers: float | None = None
) -> Ceilings:
    """Bytes, FLOPs and bytes a second."""

    def of(name: str, rate_per_s: float | None) -> Ceiling | None:
        return rate_per_s and Ceiling(rate_per_s=rate_per_s, workload=name, working_set_bytes=1)

    up = of("transfer", transfers)
    return Ceilings(
        measured_at="today",
        memory=of("stream", memory),
        compute=of("matmul", compute),
        transfers={"h2d": up} if up else {},
    )


def evidence(
    where: str = "gpu",
    /,
    *,
    cost: Cost | None = None,
    ceilings: Ceilings | None = None,
    **timings: Timing,
) -> Evidence:
    """Of an arm that does 10 MB and 1 GFLOP a call."""
    facts = replace(opened(where, metrics=tuple(Metric)), cost=cost or Cost(flops=1e9, bytes=1e7))
    return Evidence(
        arm=Arm(case=make_case(), device=where, target="x:Y"),
        facts=facts,
        timings={Metric(name): timing for name, timing in timings.items()},
        ceilings=ceilings,
        floor_s=FLOOR_S,
        inspected=Inspected(device_time=DeviceTime(source="slope"), absent={"energy": "none"}),
        held=True,
    )


def flags(given: Evidence) -> dict[str, Flag]:
    return {flag.name: flag for flag in given.flags(STOP)}


# --- a queued call takes no longer than a blocked one, and its work on the device no longer than that ----

ORDERS = [(LATENCY_FIRST, LATENCY, THROUGHPUT), (DEVICE_LAST, THROUGHPUT, DEVICE)]


@pytest.mark.parametrize(("name", "longer", "shorter"), ORDERS)
@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("factor", [0.1, 1.0, 1.2])
def test_times_in_order_or_nearly_so_pass(
    name: str, longer: Metric, shorter: Metric, device: str, factor: float
) -> None:
    given = evidence(device, **{longer: exactly(MILLI), shorter: exactly(factor * MILLI)})
    assert given.invariants()[name] == "passed"


@pytest.mark.parametrize(("name", "longer", "shorter"), ORDERS)
@pytest.mark.parametrize(("device", "how"), [("cpu", "flagged"), ("gpu", "broken")])
def test_times_out_of_order_are_broken_on_a_gpu_and_flagged_on_a_cpu(
    name: str, longer: Metric, shorter: Metric, device: str, how: str
) -> None:
    given = evidence(device, **{longer: exactly(MILLI), shorter: exactly(1.3 * MILLI)})
    said = given.invariants()[name]
    assert said.startswith(f"{how}: ")
    assert "0.001 s" in said
    assert "0.0013 s" in said


@pytest.mark.parametrize(("device_s", "how"), [(0.6 * MILLI, "flagged"), (0.7 * MILLI, "broken")])
def test_queued_calls_that_wait_for_the_host_are_flagged_on_a_gpu_too(device_s: float, how: str) -> None:
    given = evidence("gpu", latency=exactly(MILLI), throughput=exactly(1.3 * MILLI), device=exactly(device_s))
    assert given.invariants()[LATENCY_FIRST].startswith(how)


@pytest.mark.parametrize(("name", "longer", "shorter"), ORDERS)
@pytest.mark.parametrize(
    ("first", "second", "passes"),
    [
        # 1.25 times the upper end of the one, against the lower end of the other.
        (within(0.5e-3, 1e-3, 1.5e-3), within(1.8e-3, 2e-3, 2.2e-3), True),
        (within(0.5e-3, 1e-3, 1.4e-3), within(1.8e-3, 2e-3, 2.2e-3), False),
        (within(1.0e-3, 1e-3, 1.0e-3), within(1.2e-3, 2e-3, 2.8e-3), True),
        (within(1.0e-3, 1e-3, 1.0e-3), within(1.3e-3, 2e-3, 2.7e-3), False),
        (unsure(1e-3), unsure(1.2e-3), True),
        (unsure(1e-3), unsure(1.3e-3), False),
    ],
)
def test_intervals_decide_where_there_are_any(
    name: str, longer: Metric, shorter: Metric, first: Timing, second: Timing, passes: bool
) -> None:
    said = evidence("gpu", **{longer: first, shorter: second}).invariants()[name]
    assert said.startswith("passed" if passes else "broken")


@pytest.mark.parametrize(("name", "longer", "shorter"), ORDERS)
def test_what_has_nothing_to_be_compared_with_is_skipped(name: str, longer: Metric, shorter: Metric) -> None:
    alone = evidence(**{longer: exactly(MILLI)}).invariants()[name]
    assert alone == f"skipped: there is no {shorter}"
    assert evidence(**{shorter: exactly(1.0)}).invariants()[name] == f"skipped: there is no {longer}"


def test_what_is_flagged_becomes_a_flag_with_the_metric_that_it_concerns() -> None:
    given = evidence("cpu", latency=exactly(1e-3), throughput=exactly(2e-3), device=exactly(4e-3))
    found = flags(given)
    assert found["queueing hinders"].metric == "throughput"
    assert found["loop slower than calls"].metric == "device"
    for flag in found.values():
        assert not flag.message.startswith("flagged")
    assert flags(evidence("gpu", latency=exactly(1e-3), throughput=exactly(2e-3))) == {}


# --- no rate is above a ceiling ----------------------------------------------------------------------


def at_share(share: float, device: str, **more: Timing) -> Evidence:
    """10 MB a call at this share of 10 GB/s."""
    return evidence(device, ceilings=make_ceilings(), device=exactly(MILLI / share), **more)


@pytest.mark.parametrize(
    ("device", "share", "said"),
    [
        ("gpu", 0.5, "passed"),
        ("gpu", 1.04, "passed"),
        ("gpu", 1.06, "broken"),
        ("gpu", 2.0, "broken"),
        ("cpu", 1.04, "passed"),
        ("cpu", 1.06, "flagged"),
        ("cpu", 1.99, "flagged"),
        ("cpu", 2.01, "broken"),
    ],
)
def test_a_rate_above_a_ceiling_is_broken_or_may_be_noise(device: str, share: float, said: str) -> None:
    given = at_share(share, device)
    found = given.invariants()[WITHIN_CEILING]
    assert found.startswith(said)
    assert ("above the ceiling" in flags(given)) is (said == "flagged")
    if said != "passed":
        assert f"{share:.1%} of the memory ceiling" in found
        assert "by stream" in found


@pytest.mark.parametrize("share", [1.04, 1.06, 1.23])
def test_a_share_above_a_ceiling_is_null_and_says_why(share: float) -> None:
    given = at_share(share, "gpu")
    rates, absent = given.rates(), given.absent([Metric.device], Status.ok)
    assert rates is not None
    assert rates.bytes_per_s == pytest.approx(share * 1e10)
    if share < 1.05:
        assert rates.of_memory_ceiling == pytest.approx(share)
        assert "rates.of_memory_ceiling" not in absent
    else:
        assert rates.of_memory_ceiling is None
        assert absent["rates.of_memory_ceiling"].startswith(f"{share:.0%} of a ceiling is impossible")
        assert absent["rates.of_memory_ceiling"].endswith("(declared)")


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_a_rate_of_a_count_that_nobody_declared_accuses_nobody(device: str) -> None:
    cost = Cost(flops=1e9, bytes=1e7, source="XLA")
    given = evidence(device, cost=cost, ceilings=make_ceilings(memory=1e9), device=exactly(MILLI))
    said = given.invariants()[WITHIN_CEILING]
    assert said.startswith("flagged: ")
    assert said.endswith("by a count of XLA")
    assert "above the ceiling" in flags(given)


def test_work_that_is_not_known_has_no_rate_and_says_why() -> None:
    given = evidence(
        cost=Cost(flops=None, bytes=None),
        ceilings=make_ceilings(memory=1e9, compute=1e9),
        device=exactly(MILLI),
    )
    found = given.rates()
    assert found is not None
    assert (found.flops_per_s, found.bytes_per_s) == (None, None)
    assert (found.of_compute_ceiling, found.of_memory_ceiling, found.limit) == (None, None, None)
    absent = given.absent([Metric.device], Status.ok)
    for path in ("rates.flops_per_s", "rates.bytes_per_s", "rates.of_memory_ceiling", "rates.limit"):
        assert path in absent
    assert given.invariants()[WITHIN_CEILING].startswith("skipped: what a call must do")


def test_of_work_that_is_known_in_part_the_part_has_a_rate() -> None:
    given = evidence(
        cost=Cost(flops=1e6, bytes=None),
        ceilings=make_ceilings(memory=1e9, compute=1e12),
        device=exactly(MILLI),
    )
    found = given.rates()
    assert found is not None
    assert found.flops_per_s == pytest.approx(1e9)
    assert (found.bytes_per_s, found.of_memory_ceiling, found.limit) == (None, None, None)
    assert given.invariants()[WITHIN_CEILING] == "passed"


def test_on_a_busy_host_a_cpu_is_not_accused_for_the_ceiling_may_be_too_low() -> None:
    for device, said in (("cpu", "flagged"), ("gpu", "broken")):
        assert replace(at_share(4.0, device), busy=True).invariants()[WITHIN_CEILING].startswith(said)


def test_a_rate_above_the_ceiling_of_compute_counts_as_well() -> None:
    # 1 GFLOP in 1 ms is 1 TFLOP/s, and 10 GB/s.
    given = evidence(ceilings=make_ceilings(memory=1e11, compute=5e11), device=exactly(MILLI))
    assert "200.0% of the compute ceiling" in given.invariants()[WITHIN_CEILING]
    alone = evidence(ceilings=make_ceilings(memory=None, compute=5e11), device=exactly(MILLI))
    assert alone.invariants()[WITHIN_CEILING].startswith("broken")


def test_the_slow_end_of_the_interval_must_be_above_the_ceiling() -> None:
    ceilings = make_ceilings()
    sure = within(0.8e-3, 0.85e-3, 0.9e-3)
    assert evidence(ceilings=ceilings, device=sure).invariants()[WITHIN_CEILING].startswith("broken")
    wide = within(0.7e-3, 0.85e-3, 1.0e-3)
    assert evidence(ceilings=ceilings, device=wide).invariants()[WITHIN_CEILING] == "passed"


@pytest.mark.parametrize("ceilings", [None, make_ceilings(memory=None, compute=None, transfers=1e9)])
def test_without_a_ceiling_the_check_is_off_and_says_so(ceilings: Ceilings | None) -> None:
    said = evidence(ceilings=ceilings, device=exactly(1e-12)).invariants()[WITHIN_CEILING]
    assert said == "skipped: no ceiling is measured"


def test_without_a_rate_the_check_is_off_and_says_so() -> None:
    said = evidence(ceilings=make_ceilings(), latency=exactly(1e-12)).invariants()[WITHIN_CEILING]
    assert said == "skipped: there is no rate"


def test_a_rate_of_queued_calls_is_held_against_ceilings_where_there_is_no_device_time() -> None:
    given = evidence("cpu", ceilings=make_ceilings(), throughput=exactly(0.8 * MILLI))
    assert given.invariants()[WITHIN_CEILING].startswith("flagged")
    assert flags(given)["above the ceiling"].metric == "throughput"
    better = evidence("cpu", ceilings=make_ceilings(), throughput=exactly(1.0), device=exactly(0.8 * MILLI))
    assert flags(better)["above the ceiling"].metric == "device"


# --- all invariants ------------------------------------------------------------------------------------


def test_what_the_worker_checked_comes_first_and_stays() -> None:
    assert list(evidence().invariants()) == ["answer", LATENCY_FIRST, DEVICE_LAST, WITHIN_CEILING]
    assert evidence().invariants()["answer"] == "passed"


def test_an_invariant_that_a_worker_broke_later_is_broken() -> None:
    given = replace(evidence(), failure=failure("answer", "it is wrong"))
    assert given.invariants()["answer"] == "broken: it is wrong"
    other = replace(evidence(), failure=failure("WorkerDied", "signal 9"))
    assert other.invariants()["answer"] == "passed"


def test_of_an_arm_that_never_opened_nothing_is_known() -> None:
    given = replace(evidence(), facts=None)
    assert given.invariants() == {}
    assert given.rates() is None
    assert given.absent(RESIDENT, Status.refused) == {"timings": "refused: see error"}


# --- rates ---------------------------------------------------------------------------------------------


def test_rates_are_of_time_on_the_device_where_it_is_known() -> None:
    every = {"latency": exactly(4 * MILLI), "throughput": exactly(2 * MILLI)}
    queued = evidence(**every).rates()
    assert queued is not None
    assert (queued.metric, queued.flops_per_s) == ("throughput", pytest.approx(5e11))
    on_device = evidence(**every, device=exactly(MILLI)).rates()
    assert on_device is not None
    assert on_device.metric == "device"
    assert (on_device.flops_per_s, on_device.bytes_per_s) == pytest.approx((1e12, 1e10))


@pytest.mark.parametrize("timings", [{}, {"latency": exactly(MILLI), "h2d": exactly(MILLI)}])
def test_a_blocked_call_and_a_transfer_have_no_rate(timings: dict[str, Timing]) -> None:
    assert evidence(ceilings=make_ceilings(), **timings).rates() is None


def test_rates_are_shares_of_the_ceilings_that_there_are() -> None:
    rates = evidence(ceilings=make_ceilings(memory=2e10, compute=4e12), device=exactly(MILLI)).rates()
    assert rates is not None
    assert (rates.of_memory_ceiling, rates.of_compute_ceiling) == pytest.approx((0.5, 0.25))
    one = evidence(ceilings=make_ceilings(memory=None), device=exactly(MILLI)).rates()
    assert one is not None
    assert one.of_memory_ceiling is None
    assert one.of_compute_ceiling == pytest.approx(1.0)
    none = evidence(device=exactly(MILLI)).rates()
    assert none is not None
    assert none.of_memory_ceiling is none.of_compute_ceiling is none.limit is None


@pytest.mark.parametrize(
    ("latency_s", "ceilings", "limit"),
    [
        # 10 MB at 10 GB/s: 1 ms. 1 GFLOP at 1 TFLOP/s: 1 ms, too.
        (1e-2, make_ceilings(memory=5e9), Limit.memory),
        (1e-2, make_ceilings(compute=5e11), Limit.compute),
        (1.4 * FLOOR_S["latency"], make_ceilings(memory=1e15, compute=1e16), Limit.dispatch),
        (1.4 * FLOOR_S["latency"], None, Limit.dispatch),
        (1e-2, None, None),
        (1e-2, make_ceilings(compute=None), None),
    ],
)
def test_the_limit_is_the_one_that_a_call_is_under(
    latency_s: float, ceilings: Ceilings | None, limit: Limit | None
) -> None:
    # A call's own time decides about dispatch, not its time on the device.
    rates = evidence(ceilings=ceilings, latency=exactly(latency_s), device=exactly(9e-6)).rates()
    assert rates is not None
    assert rates.limit is limit


# --- flags ---------------------------------------------------------------------------------------------


def test_each_metric_is_flagged_by_what_it_was_to_reach() -> None:
    rough = replace(exactly(MILLI), converged=False)
    found = list(evidence(latency=rough, h2d=rough).flags(STOP))
    told = {flag.metric: flag.message for flag in found if flag.name == "not converged"}
    assert "±1.0%" in told["latency"]
    assert "±2.0%" in told["h2d"]


def test_only_calls_are_on_a_dispatch_floor() -> None:
    near = exactly(1.2 * FLOOR_S["throughput"])
    found = list(evidence(throughput=near, device=near, d2h=near).flags(STOP))
    assert [flag.metric for flag in found if flag.name == "on the dispatch floor"] == ["throughput"]


# --- what is missing -------------------------------------------------------------------------------------


def test_a_metric_that_was_not_asked_for_says_so_and_one_that_was_says_what_happened() -> None:
    given = evidence(latency=exactly(MILLI))
    given = replace(given, facts=replace(opened("gpu"), absent={"timings.h2d_pinned": "nothing to pin"}))
    absent = given.absent((LATENCY, THROUGHPUT, Metric.h2d_pinned), Status.failed)
    assert "timings.latency" not in absent
    assert absent["timings.throughput"] == "the arm ended before it"
    assert absent["timings.h2d_pinned"] == "nothing to pin"
    for metric in set(Metric) - {LATENCY, THROUGHPUT, Metric.h2d_pinned}:
        assert absent[f"timings.{metric}"] == NOT_ASKED


def test_an_interval_or_a_percentile_that_is_missing_says_of_how_many_samples_it_would_be() -> None:
    absent = evidence(latency=unsure(MILLI), device=exactly(MILLI)).absent(RESIDENT, Status.ok)
    assert "1 samples in 1 rounds of 1 passes" in absent["timings.latency.ci95_s"]
    assert "500" in absent["timings.latency.p99_s"]
    assert "timings.device.ci95_s" not in absent
    two = make_timing([[MILLI] * 400], [[MILLI] * 400])
    found = evidence(latency=two).absent(RESIDENT, Status.ok)
    assert "800 samples in 2 rounds of 2 passes" in found["timings.latency.ci95_s"]
    assert "timings.latency.p99_s" not in found


def test_ceilings_that_are_missing_were_not_asked_for_or_came_too_late() -> None:
    given = evidence(device=exactly(MILLI))
    assert given.absent(RESIDENT, Status.ok)["ceilings"] == "the arm ended before it"
    off = replace(given, held=False)
    assert off.absent(RESIDENT, Status.ok)["ceilings"] == "not asked for: ceilings=off"
    there = replace(given, ceilings=make_ceilings())
    assert "ceilings" not in there.absent(RESIDENT, Status.ok)


def test_what_is_missing_of_rates_says_what_it_would_take() -> None:
    none = evidence(latency=exactly(MILLI)).absent(RESIDENT, Status.ok)
    assert "queued calls" in none["rates"]
    some = evidence(ceilings=make_ceilings(memory=None), device=exactly(MILLI)).absent(RESIDENT, Status.ok)
    assert {path for path in some if path.startswith("rates")} == {"rates.of_memory_ceiling", "rates.limit"}
    everything = evidence(ceilings=make_ceilings(), latency=exactly(MILLI), device=exactly(MILLI))
    assert not any(path.startswith("rates") for path in everything.absent(RESIDENT, Status.ok))


def test_what_was_not_found_out_has_a_reason() -> None:
    given = replace(evidence(latency=exactly(MILLI)), inspected=None)
    absent = given.absent((LATENCY, DEVICE), Status.failed)
    assert absent["device_time"] == absent["energy"] == "the arm ended before it"
    assert given.absent((LATENCY,), Status.ok)["device_time"] == NOT_ASKED
    moved = replace(given, facts=opened("gpu"))
    assert moved.absent((LATENCY,), Status.ok)["transfers"] == NOT_ASKED


def test_the_reasons_that_are_found_anew_each_time_are_derived_and_no_others() -> None:
    given = evidence(latency=unsure(MILLI), throughput=unsure(MILLI))
    rated = {path for path in given.absent(RESIDENT, Status.ok) if derived(path)}
    assert rated == {
        "timings.latency.ci95_s",
        "timings.latency.p99_s",
        "timings.throughput.ci95_s",
        "timings.throughput.p99_s",
        "memory.peak_bytes",
        "ceilings",
        "rates.of_memory_ceiling",
        "rates.of_compute_ceiling",
        "rates.limit",
    }
    assert derived("rates")
    for path in (
        "timings.device",
        "ceilings.memory",
        "energy",
        "device_time.slope_s",
        "memory.working_set_bytes",
    ):
        assert not derived(path), path


@pytest.mark.parametrize(
    ("absent", "metrics"),
    [
        ({}, [LATENCY, THROUGHPUT]),
        ({"timings.device": NOT_ASKED}, [LATENCY, THROUGHPUT]),
        ({"timings.device": "too much noise"}, [LATENCY, THROUGHPUT, DEVICE]),
        ({"timings.device.ci95_s": "too few"}, [LATENCY, THROUGHPUT]),
    ],
)
def test_a_record_tells_which_metrics_were_asked_for(absent: dict[str, str], metrics: list[Metric]) -> None:
    assert asked_for(make_record(absent=absent)) == metrics


@pytest.mark.parametrize(
    ("slope_samples", "rated"), [(MIN_SAMPLES, Metric.device), (MIN_SAMPLES - 1, Metric.throughput)]
)
def test_a_slope_of_few_samples_is_not_what_rates_are_taken_of(slope_samples: int, rated: Metric) -> None:
    for queued_samples in (1, MIN_SAMPLES):
        found = evidence(
            "cpu",
            device=make_timing([[MILLI] * slope_samples]),
            throughput=make_timing([[2 * MILLI] * queued_samples]),
        ).rates()
        assert found is not None
        assert found.metric == rated
