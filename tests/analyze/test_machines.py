import math
from dataclasses import replace
from typing import Any

import pytest
from fakes import (
    CPU_ENVIRONMENT,
    make_case,
    make_failed,
    make_record,
    make_timing,
    make_timings,
    noisy_timing,
)

from jaxaccel.analyze.compare import compare, pair
from jaxaccel.analyze.differences import one_machine
from jaxaccel.analyze.machines import place, standing
from jaxaccel.analyze.residency import pinned_speedup
from jaxaccel.analyze.stats import RERUN
from jaxaccel.records import Comparison, Record, Verdict


def on(host: str, device: str, latency: Any = None, **changes: Any) -> Record:
    """A record of the machine `host`."""
    environment = {**CPU_ENVIRONMENT, "host_id": host, **changes.pop("environment", {})}
    timings = {"latency": noisy_timing(1e-4, passes=5) if latency is None else latency}
    return make_record(device, **({"timings": timings, "environment": environment} | changes))


def passes(*medians: float) -> Any:
    return make_timing(*[[[median] * 6] for median in medians])


def met(found: list[Comparison]) -> list[tuple[str | None, str | None]]:
    """The letters of the CPU's and the GPU's machine, a comparison."""
    return [(comparison.cpu_machine, comparison.gpu_machine) for comparison in found]


# --- telling machines apart ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"host_id": "def"},
        {"machine": "aarch64"},
        {"cpu": {"model": "Xeon", "cores": 8}},  # an image that was copied, host_id and all
        {"cpu": {"model": "EPYC", "cores": 8, "logical_total": 128}},
    ],
)
def test_a_host_that_differs_is_another_machine(environment: dict[str, Any]) -> None:
    known: dict[str, Any] = {"machine": "x86_64", "cpu": {"model": "EPYC", "cores": 8, "logical_total": 8}}
    here = on("abc", "cpu", environment=known)
    there = on("abc", "gpu", environment=known | environment)
    assert not one_machine(here, there)
    assert place([here, there, here]) == ["A", "B", "A"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"python": "3.13.0"},
        {"packages": {"jax": "0.12.0"}},
        {"cpu": {"model": "EPYC", "cores": 2}},
        {"gpu": {"name": "another of its GPUs", "driver": "590"}},
        {"os": "Linux 7.0"},
    ],
)
def test_two_commands_on_one_machine_are_of_one_machine(environment: dict[str, Any]) -> None:
    here, there = on("abc", "cpu"), on("abc", "gpu", environment=environment, sweep_id="another")
    assert one_machine(here, there)
    assert place([here, there]) == ["A", "A"]
    (found,) = pair([here, there])
    assert not found.two_machines


def test_what_failed_before_its_host_was_known_stands_with_its_command() -> None:
    records = [on("abc", "cpu", sweep_id="1"), on("def", "cpu", sweep_id="2"), make_failed(sweep_id="2")]
    assert place(records) == ["A", "B", "B"]
    assert place(records[::-1]) == ["A", "A", "B"]
    assert place([make_failed(sweep_id="3"), *records[:1]]) == ["A", "A"]


def test_more_machines_than_letters_are_still_told_apart() -> None:
    letters = place([on(f"host {k}", "cpu") for k in range(60)])
    assert len(set(letters)) == 60
    assert (letters[0], letters[25], letters[26]) == ("A", "Z", "A1")


# --- who meets whom --------------------------------------------------------------------------------


def test_records_of_two_machines_pair_by_case() -> None:
    cases = [make_case(size) for size in (256, 512)]
    cpus = [on("abc", "cpu", case=case) for case in cases]
    gpus = [on("def", "gpu", case=case) for case in reversed(cases)]
    found = pair([*cpus, *gpus])
    assert [comparison.case.size for comparison in found] == [256, 512]
    assert met(found) == [("A", "B")] * 2
    assert all(comparison.two_machines and not comparison.interleaved for comparison in found)
    assert all(comparison.speedups["latency"].among == 2 for comparison in found)


def test_records_of_one_machine_meet_each_other_and_no_one_else() -> None:
    records = [on(host, device) for host in ("abc", "def") for device in ("cpu", "gpu")]
    found = pair(records)
    assert met(found) == [("A", "A"), ("B", "B")]
    assert not any(comparison.two_machines for comparison in found)
    assert {comparison.speedups["latency"].among for comparison in found} == {2}


def test_who_has_no_counterpart_at_home_meets_those_of_all_other_machines() -> None:
    cpus = [on("one", "cpu", passes(1, 1, 1)), on("two", "cpu", passes(2, 2, 2))]
    gpus = [on("three", "gpu", passes(1, 1, 1)), on("three", "cpu", passes(4, 4, 4))]
    found = pair([*cpus, *gpus])
    assert met(found) == [("C", "C"), ("A", "C"), ("B", "C")]
    assert [comparison.speedups["latency"].ratio for comparison in found] == pytest.approx([4, 1, 2])
    assert [comparison.two_machines for comparison in found] == [False, True, True]


def test_two_gpus_of_other_machines_are_two_comparisons() -> None:
    found = pair([on("one", "cpu"), on("two", "gpu"), on("three", "gpu")])
    assert met(found) == [("A", "B"), ("A", "C")]


def test_one_device_on_two_machines_is_two_comparisons_of_one() -> None:
    assert met(pair([on("one", "cpu"), on("two", "cpu")])) == [("A", None), ("B", None)]


def test_a_failure_at_home_does_not_keep_a_measurement_from_a_pair() -> None:
    # device=both on a machine that has no GPU.
    without = on("one", "cpu", sweep_id="1"), make_failed("gpu", sweep_id="1")
    found = pair([*without, on("two", "gpu", sweep_id="2")])
    assert met(found) == [("A", "B")]
    (failed,) = [placed for placed in standing([*without]) if not placed.record.ok]
    assert failed.machine == "A"


def test_failures_without_any_pair_stand_where_they_were() -> None:
    records = [
        make_failed(device, environment={"host_id": host}) for device, host in (("cpu", "1"), ("gpu", "2"))
    ]
    assert met(pair(records)) == [("A", None), (None, "B")]


def test_the_latest_counts_of_each_machine_and_never_that_of_another() -> None:
    old, new = on("one", "cpu", passes(2, 2, 2)), on("one", "cpu", passes(4, 4, 4), arm_id="x")
    other = on("two", "cpu", passes(8, 8, 8), started_at="2026-02-02T00:00:00+00:00")
    gpu = on("two", "gpu", passes(1, 1, 1))
    found = pair([replace(new, started_at="2026-01-03T00:00:00+00:00"), old, other, gpu])
    assert [comparison.speedups["latency"].ratio for comparison in found] == pytest.approx([8, 4])


# --- their interval --------------------------------------------------------------------------------


def test_rounds_that_seem_interleaved_are_not_between_two_machines() -> None:
    # Both sides double from pass to pass, which is nothing where passes are compared one by one.
    cpu = passes(2 * math.exp(-0.01), 4, 8 * math.exp(0.01))
    gpu = passes(1, 2, 4)
    apart = compare(on("one", "cpu", cpu), on("two", "gpu", gpu)).speedups["latency"]
    at_home = compare(on("one", "cpu", cpu), on("one", "gpu", gpu)).speedups["latency"]
    assert (apart.verdict, at_home.verdict) == (Verdict.undecided, Verdict.gpu)
    assert apart.ratio == at_home.ratio


def test_the_interval_between_two_machines_is_welchs_over_the_passes() -> None:
    # As in test_compare: a standard error of 0.01290994 at 50/17 degrees, whose t(0.975) is 3.218759.
    cpu = passes(2 * math.exp(-0.01), 2, 2 * math.exp(0.01))
    gpu = passes(math.exp(-0.02), 1, math.exp(0.02))
    found = compare(on("one", "cpu", cpu), on("two", "gpu", gpu)).speedups["latency"]
    half = 3.218759 * 0.01290994
    assert found.ci95 == pytest.approx((2 * math.exp(-RERUN * half), 2 * math.exp(RERUN * half)), rel=1e-6)
    assert found.ci_family == pytest.approx((2 * math.exp(-half), 2 * math.exp(half)), rel=1e-6)
    assert (found.ci_over, found.verdict, found.reason) == ("passes", Verdict.gpu, None)


def test_a_shorter_side_limits_what_welch_makes_of_a_longer_one() -> None:
    # Variances of 1e-4 over 3, and of 4e-4 * 20/19 over 20: Welch would have it at 5.1 degrees of freedom.
    cpu = passes(2 * math.exp(-0.01), 2, 2 * math.exp(0.01))
    gpu = passes(*[math.exp(step) for step in (-0.02, 0.02) * 10])
    found = compare(on("one", "cpu", cpu), on("two", "gpu", gpu)).speedups["latency"]
    assert found.ci_family is not None
    error = math.sqrt(1e-4 / 3 + 20 * 4e-4 / 19 / 20)
    width = math.log(found.ci_family[1] / found.ci_family[0]) / 2
    assert width == pytest.approx(2.776445 * error, rel=1e-6)  # t(0.975) of 4: twice those of three passes


@pytest.mark.parametrize(
    ("cpu_passes", "gpu_passes", "reason"),
    [
        (1, 1, "one pass on each side: how processes differ is unknown"),
        (1, 5, "one pass on the CPU: how processes differ is unknown"),
        (5, 1, "one pass on the GPU: how processes differ is unknown"),
        (2, 2, "two passes on each side: too few for an interval"),
        (5, 2, "two passes on the GPU: too few for an interval"),
        (2, 1, "two passes on the CPU and one pass on the GPU: how processes differ is unknown"),
    ],
)
def test_without_passes_two_machines_have_no_interval_and_the_reason_is_told(
    cpu_passes: int, gpu_passes: int, reason: str
) -> None:
    cpu, gpu = noisy_timing(9e-4, passes=cpu_passes), noisy_timing(1e-4, passes=gpu_passes, seed=1)
    found = compare(on("one", "cpu", cpu), on("two", "gpu", gpu)).speedups["latency"]
    assert (found.ci95, found.ci_family, found.verdict) == (None, None, Verdict.undecided)
    assert found.reason == reason
    assert found.ratio == pytest.approx(9, rel=0.02)


def test_one_machine_still_has_an_interval_over_rounds() -> None:
    one_pass = noisy_timing(9e-4), noisy_timing(1e-4, seed=1)
    found = compare(on("one", "cpu", one_pass[0]), on("one", "gpu", one_pass[1])).speedups["latency"]
    assert (found.ci_over, found.verdict, found.reason) == ("rounds", Verdict.gpu, None)


def test_pinned_memory_on_another_machine_needs_passes_too() -> None:
    cpu, gpu = (
        on(host, device, timings=make_timings(device, 1e-4)) for host, device in (("1", "cpu"), ("2", "gpu"))
    )
    found = pinned_speedup(cpu, gpu)
    assert found is not None
    assert (found.ci95, found.verdict) == (None, Verdict.undecided)
    at_home = pinned_speedup(cpu, replace(gpu, environment=cpu.environment))
    assert at_home is not None
    assert at_home.ci95 is not None
