"""Rates of transfers and of memory, and joules: tables of their own, where they are what was asked."""

from dataclasses import replace
from typing import Any

from fakes import make_case, make_failed, make_record, make_timing, make_timings, noisy_timing

from jaxaccel.analyze.compare import pair
from jaxaccel.records import Case, Flag, Rates, Record
from jaxaccel.render.terminal.markdown import markdown
from jaxaccel.render.terminal.rates import sections
from jaxaccel.render.words.sections import Section, as_text


def steady(time_s: float, passes: int = 1) -> Any:
    return make_timing(*[[[time_s] * 15] * 6] * passes)


def moving(size: int, times_s: dict[str, float], device: str = "gpu", **changes: Any) -> Record:
    """A record of transfers, of 4 MB up and 4.096 kB back, and of nothing else."""
    case = make_case(size, workload="transfer", params={"parts": changes.pop("parts", 1)})
    timings = {name: steady(time_s, 3) for name, time_s in times_s.items()}
    return make_record(device, case=case, timings=timings, energy=None, **({"warnings": ()} | changes))


def streamed(size: int, device: str, bytes_per_s: float | None, kind: str = "read", **changes: Any) -> Record:
    rates = Rates(metric="device", flops_per_s=None, bytes_per_s=bytes_per_s)
    timings = {"device": steady(1e-5, 3)}
    case = make_case(size, workload="stream", params={"kind": kind})
    given = {"timings": timings, "rates": rates, "energy": None, "warnings": ()} | changes
    return make_record(device, case=case, **given)


def one(*records: Record) -> Section:
    (found,) = sections(records)
    return found


UP_AND_DOWN = {"h2d": 1e-3, "h2d_pinned": 1e-4, "d2h": 1e-6, "d2h_pinned": 4.096e-6}


def test_all_four_transfers_stand_beside_each_other_with_what_each_reaches() -> None:
    found = one(moving(1024, UP_AND_DOWN))
    assert found.head == ("case", "each way", "h2d", "h2d pinned", "d2h", "d2h pinned")
    assert found.rows == (("transfer 1024", "4.00 MB", "4.00 ±<1%", "40.0 ±<1%", "4.10 ±<1%", "1.00 ±<1%"),)


def test_a_metric_is_of_the_record_that_has_it_though_another_run_of_its_case_is_later() -> None:
    later = moving(1024, {"end_to_end": 1e-3}, started_at="2026-02-02T03:04:05+00:00")
    assert one(moving(1024, UP_AND_DOWN), later).rows == one(moving(1024, UP_AND_DOWN)).rows
    newer = moving(1024, {"h2d": 2e-3}, started_at="2026-02-02T03:04:05+00:00")
    assert one(moving(1024, UP_AND_DOWN), newer).rows[0][2:4] == ("2.00 ±<1%", "40.0 ±<1%")


def test_where_nothing_moves_there_is_no_rate() -> None:
    assert sections([moving(1024, {"h2d": 1e-6}, device="cpu")]) == []
    assert sections([moving(1024, UP_AND_DOWN, transfers=None)]) == []


def test_what_a_cpu_copies_is_never_told_as_what_travels_to_a_gpu() -> None:
    cpu = moving(1024, {"h2d": 1e-6}, device="cpu", transfers=moving(1024, UP_AND_DOWN).transfers)
    assert sections([cpu]) == []
    later = replace(cpu, started_at="2026-02-02T03:04:05+00:00")
    assert one(moving(1024, UP_AND_DOWN), later).rows == one(moving(1024, UP_AND_DOWN)).rows


def test_what_was_not_timed_is_a_dash() -> None:
    assert one(moving(1024, {"d2h": 1e-6})).rows[0][2:] == ("–", "–", "4.10 ±<1%", "–")


def test_sizes_of_one_kind_of_case_stand_in_order_and_parameters_tell_kinds_apart() -> None:
    records = [moving(size, UP_AND_DOWN, parts=parts) for size, parts in ((64, 8), (2, 1), (8, 8), (9, 1))]
    names = [row[0] for row in one(*records).rows]
    assert names == [f"transfer {words}" for words in ("8 parts=8", "64 parts=8", "2 parts=1", "9 parts=1")]


def test_a_parameter_without_a_value_tells_no_kinds_apart() -> None:
    records = [moving(8, UP_AND_DOWN, parts=parts) for parts in (1, 8)]
    unset = [replace(one, case=replace(one.case, params={**one.case.params, "to": None})) for one in records]
    assert [row[0] for row in one(*unset).rows] == ["transfer 8 parts=1", "transfer 8 parts=8"]


def test_with_resident_times_the_table_of_the_sweep_is_all() -> None:
    timings = make_timings("gpu", 1e-4, transfer_s=1e-4)
    assert sections([make_record("gpu", timings=timings, energy=None)]) == []
    both = [moving(1024, UP_AND_DOWN), make_record("gpu", timings=timings, energy=None)]
    assert sections(both) == []


def test_a_flag_of_a_transfer_marks_its_rate_alone_and_is_explained() -> None:
    flag = Flag(name="very noisy", metric="d2h", message="so it is")
    found = one(moving(1024, UP_AND_DOWN, warnings=(flag,)))
    assert [cell.endswith("!") for cell in found.rows[0]] == [False] * 4 + [True, False]
    assert any(line.startswith("!") for line in found.lines)
    assert not any(line.startswith("!") for line in one(moving(1024, UP_AND_DOWN)).lines)


def test_an_interval_is_told_with_what_it_is_over_and_few_samples_as_such() -> None:
    noisy = noisy_timing(1e-3, spread=0.2)
    few = make_timing([[1e-3] * 2])
    record = moving(1024, {"h2d": 1e-3})
    found = one(replace(record, timings={"h2d": noisy, "d2h": few}))
    assert noisy.ci95_s
    assert few.ci95_s is None
    half = (noisy.ci95_s[1] - noisy.ci95_s[0]) / 2 / noisy.median_s
    assert found.rows[0][2].endswith(f"±{half:.0%}")
    assert found.rows[0][4] == "0.0041 (n=2)"
    assert "within one process" in found.lines[0]
    assert "over passes" not in found.lines[0]
    assert any("(n=" in line for line in found.lines)


def test_the_bandwidth_of_each_device_is_told_over_working_sets() -> None:
    records = [
        streamed(size, device, rate)
        for size in (4096, 1024)
        for device, rate in (("cpu", 2e10), ("gpu", 3.25e12))
    ]
    found = one(*records)
    assert found.head == ("case", "working set", "CPU", "GPU")
    assert [row[0] for row in found.rows] == ["stream 1024", "stream 4096"]
    assert [row[2:] for row in found.rows] == [("20.0 ±<1%", "3250 ±<1%")] * 2


def test_bandwidth_takes_bytes_that_somebody_counted_and_time_on_the_device_alone() -> None:
    assert sections([streamed(1024, "gpu", None)]) == []
    timed = {"device": steady(1e-5), "throughput": steady(1e-5)}
    assert sections([streamed(1024, "gpu", 1e12, timings=timed)]) == []


def test_joules_stand_where_every_case_of_a_device_has_them_and_the_other_says_why_not() -> None:
    cases: list[Case] = [make_case(size) for size in (256, 1024)]
    gpu = [make_record("gpu", case=case) for case in cases]
    why = {"energy": "absent: no counter here"}
    cpu = [make_record("cpu", case=case, absent=why) for case in cases]
    found = one(*cpu, *gpu)
    assert found.rows[0] == ("matvec 256", "GPU", "12.5 mJ", "9.00 mJ", "500 µJ", "312 W", "75 W")
    assert len(found.rows) == 2
    assert "CPU: none: no counter here" in found.lines
    assert "GPU: NVML total energy, GPU board" in found.lines
    assert sections([*cpu, gpu[0], replace(gpu[1], energy=None)]) == []


def test_machines_are_told_apart() -> None:
    here, there = moving(1024, UP_AND_DOWN), elsewhere(moving(1024, UP_AND_DOWN))
    assert [row[0] for row in one(here, there).rows] == ["transfer 1024 (A)", "transfer 1024 (B)"]


def elsewhere(record: Record) -> Record:
    return replace(record, environment={**record.environment, "host_id": "another"})


def test_rates_of_a_gpu_stand_though_another_machine_is_the_first() -> None:
    cpu = moving(1024, {"h2d": 1e-6}, device="cpu")
    assert one(cpu, elsewhere(moving(1024, UP_AND_DOWN))).rows == one(moving(1024, UP_AND_DOWN)).rows


def test_a_machine_has_the_letter_that_it_has_in_the_table_of_the_sweep() -> None:
    failed = make_failed("gpu", message="no GPU", environment=make_record("gpu").environment)
    third = moving(1024, UP_AND_DOWN)
    third = replace(third, environment={**third.environment, "host_id": "third"})
    found = one(failed, elsewhere(moving(1024, UP_AND_DOWN)), third)
    assert [row[0] for row in found.rows] == ["transfer 1024 (B)", "transfer 1024 (C)"]


def test_failed_records_have_no_row() -> None:
    assert sections([make_failed("gpu", message="no GPU")]) == []


def test_the_text_is_aligned_and_markdown_has_it_too() -> None:
    records = [moving(1024, UP_AND_DOWN), moving(1 << 28, UP_AND_DOWN, parts=8)]
    lines = as_text(sections(records)).splitlines()
    assert len({len(line) for line in lines[2:5]}) == 1
    assert all(len(line) <= 100 for line in lines)
    text = markdown(records, pair(records))
    assert "| case | each way | h2d | h2d pinned | d2h | d2h pinned |" in text
    assert as_text([]) == ""
