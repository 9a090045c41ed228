import io
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from fakes import (
    facts_of,
    make_case,
    make_failed,
    make_record,
    make_timing,
    make_timings,
    noisy_timing,
)
from rich.console import Console

from jaxaccel.analyze.compare import pair
from jaxaccel.analyze.stats import NOISE_FLAGS, RARE_FLAGS, SEVERE_FLAGS
from jaxaccel.records import (
    Accuracy,
    Comparison,
    Compile,
    DeviceTime,
    Flag,
    Kernel,
    Limit,
    Metric,
    Problem,
    Rates,
    Record,
    Speedup,
    Status,
    Verdict,
)
from jaxaccel.render import terminal as console
from jaxaccel.render.terminal.one_case import flag_lines, speedup_words
from jaxaccel.render.terminal.progress import ShowProgress
from jaxaccel.render.words.names import case_name, device_name, told_apart
from jaxaccel.render.words.numbers import amount, brief, count, interval, joules, rate, ratio, seconds, volume
from jaxaccel.session.rounds import Sampled

Show = Callable[..., str]


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Show:
    """show(function, ...) is what a function prints where standard output is no terminal."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)

    def show(function: Callable[..., None], *arguments: object, **named: object) -> str:
        capsys.readouterr()
        function(console.make_console(), *arguments, **named)
        return capsys.readouterr().out

    return show


def assert_fits(text: str) -> None:
    assert text.strip()
    for line in text.splitlines():
        assert len(line) <= 100, line
    assert "\x1b" not in text  # no colours in a file


def one_line(text: str) -> str:
    """What a table says, whatever its columns and line breaks."""
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.008888, "0.00889"),
        (0.2401, "0.240"),
        (1.2, "1.20"),
        (99.96, "100"),
        (999.6, "1000"),
        (123456.7, "123457"),
        (1.2e6, "1.2e6"),
        (8.9e-5, "8.9e-5"),
    ],
)
def test_an_amount_of_money_has_three_digits_and_no_unit(value: float, text: str) -> None:
    assert amount(value) == text


# --- numbers for people ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (18.1e-6, "18.1 µs"),
        (1.814e-6, "1.81 µs"),
        (231e-3, "231 ms"),
        (0.9994, "999 ms"),
        (1.0, "1.00 s"),
        (12.345, "12.3 s"),
        (754.0, "754 s"),
        (9.995e-6, "10.0 µs"),
        (0.0009994, "999 µs"),
        (0.0009996, "1.00 ms"),
        (999.6e-9, "1.00 µs"),
        (99.95e-6, "100 µs"),
        (3.2e-9, "3.20 ns"),
        (0.0, "0.00 ns"),
        (None, "–"),
    ],
)
def test_seconds_have_three_digits_and_a_unit(value: float | None, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (38.2e9, "38.2 GFLOP/s"),
        (1.234e12, "1.23 TFLOP/s"),
        (989e12, "989 TFLOP/s"),
        (999.7e9, "1.00 TFLOP/s"),
        (5e6, "5.00 MFLOP/s"),
        (0.0, "0 FLOP/s"),
        (None, "–"),
    ],
)
def test_rates_have_three_digits_and_a_decimal_prefix(value: float | None, text: str) -> None:
    assert rate(value, "FLOP/s") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0312, "0.0312x"),
        (1.274, "1.27x"),
        (59.04, "59x"),
        (123.4, "123x"),
        (999.7, "1000x"),
        (1234.5, "1234x"),
    ],
)
def test_speedups_have_three_digits(value: float, text: str) -> None:
    assert ratio(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00123, "0.0012"),
        (0.3412, "0.34"),
        (0.994, "0.99"),
        (0.1, "0.10"),
        (0.09, "0.090"),
        (12.0, "12.0"),
        (1, "1.00"),
        (99.96, "100"),
        (999.6, "1000"),
        (0.000996, "0.0010"),
        (0.00012, "1.2e-4"),
        (0.996, "0.996"),
        (1.014, "1.01"),
        (21.54, "21.5"),
        (123456.4, "123456"),
        (999_999.6, "1.0e6"),
        (1.24e12, "1.2e12"),
        (1e-6, "1.0e-6"),
    ],
)
def test_a_number_of_a_table_has_six_characters_at_most(value: float, text: str) -> None:
    assert brief(value) == text
    assert len(text) <= 6


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (999, "999"),
        (1000, "1.0k"),
        (1234, "1.2k"),
        (9960, "10k"),
        (345_678, "346k"),
        (999_999, "1000k"),
        (7_200_000, "7.2M"),
        (10**10, "10G"),
        (123 * 10**12, "123T"),
    ],
)
def test_a_number_of_calls_has_five_characters_at_most(value: int, text: str) -> None:
    assert count(value) == text
    assert len(text) <= 5


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (999, "999 B"), (4096, "4.10 kB"), (16 << 30, "17.2 GB"), (None, "–")]
)
def test_bytes_have_three_digits_and_a_decimal_prefix(value: int | None, text: str) -> None:
    assert volume(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0125, "12.5 mJ"), (1.234, "1.23 J"), (4.5e-6, "4.50 µJ"), (-0.002, "-2.00 mJ")]
)
def test_joules_have_three_digits_and_a_unit(value: float, text: str) -> None:
    assert joules(value) == text


def test_an_interval_is_half_its_width_in_percent() -> None:
    timing = replace(make_timing([[1.0] * 6] * 5), ci95_s=(0.98, 1.02))
    assert interval(timing) == "±2.0%"
    assert interval(replace(timing, ci95_s=None)) == "(n=30)"
    assert interval(None) == ""


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (Verdict.gpu, "the GPU is 3x as fast as the CPU [2.5x, 3.5x]"),
        (Verdict.cpu, "the CPU is faster: speedup of the GPU 3x [2.5x, 3.5x]"),
        (Verdict.equivalent, "no difference that matters: speedup of the GPU 3x [2.5x, 3.5x]"),
        (Verdict.undecided, "undecided: speedup of the GPU 3x [2.5x, 3.5x]"),
    ],
)
def test_a_verdict_in_words(verdict: Verdict, words: str) -> None:
    speedup = Speedup(ratio=3, ci95=(2.5, 3.5), ci_over="passes", verdict=verdict)
    assert speedup_words(speedup) == words
    within = speedup_words(replace(speedup, ci_over="rounds"))
    assert within == f"{words} within one process"


def test_a_speedup_without_an_interval_shows_none() -> None:
    speedup = Speedup(ratio=3, ci95=None, ci_over="passes", verdict=Verdict.undecided)
    assert speedup_words(speedup) == "undecided: speedup of the GPU 3x"


def test_a_case_is_named_by_what_is_not_the_default() -> None:
    assert case_name(make_case()) == "matvec 1024"
    named = case_name(make_case(variant="einsum", dtype="float16", precision="high"))
    assert named == "matvec 1024 einsum float16 precision=high"


def test_a_device_is_named_with_the_cores_of_a_cpu() -> None:
    assert device_name(make_record("cpu")) == "cpu: AMD EPYC, 8 cores"
    assert device_name(make_record("gpu")) == "gpu: NVIDIA H200"
    assert device_name(make_failed("gpu")) == "gpu: –"


def test_one_core_is_told_of_as_one(show: Show) -> None:
    alone = make_record("cpu", environment={"cpu": {"cores": 1}})
    assert device_name(alone) == "cpu: AMD EPYC, 1 core"
    text = show(console.show_comparisons, pair([alone, make_record("gpu")]))
    assert re.search(r"\b1 core\b", text.split("speedup")[0].rsplit("\n\n")[-1])
    assert "1 cores" not in text


# --- records ---------------------------------------------------------------------------------------

LONG = "Intel(R) Xeon(R) Platinum 8480C CPU @ 2.00GHz (Sapphire Rapids, 56 cores, in a virtual machine)"


def long_names(*records: Record) -> list[Record]:
    return [replace(record, arm=replace(record.arm, kind=LONG)) for record in records]


def many_flags(record: Record) -> Record:
    words = "the middle half of the samples spans 31% of the median, and that is a lot of it, as it were"
    names = (*SEVERE_FLAGS, "outliers", "autocorrelated", "drifting")
    return replace(
        record,
        warnings=tuple(Flag(name=name, metric=m.value, message=words) for name in names for m in Metric),
    )


def whole(device: str, latency_s: float, transfer_s: float = 1e-4, **changes: Any) -> Record:
    """A record with a timing of each metric that the device has."""
    timings = make_timings(device, latency_s, transfer_s=transfer_s, seed=len(device + str(latency_s)))
    return make_record(device, **({"timings": timings, "warnings": ()} | changes))


def without_news(record: Record) -> Record:
    """The record as the first version would have written it."""
    assert record.rates
    rates = replace(record.rates, of_compute_ceiling=None, of_memory_ceiling=None, limit=None)
    blocks = ("transfers", "device_time", "energy", "ceilings")
    return replace(record, rates=rates, absent={}, **dict.fromkeys(blocks))


TF32 = Accuracy(relative_error=3e-4, tolerance=1e-3, ok=True, reference="float64")

BIMODAL = (Flag(name="bimodal", metric="latency", message="two groups"),)

COLUMNS: dict[str, Sequence[Record]] = {
    "one record": [make_record("cpu")],
    "a pair": [make_record("cpu"), make_record("gpu")],
    "a pair with a failure": [make_record("cpu"), make_failed("gpu", message="no GPU " * 30)],
    "many flags": [many_flags(make_record("cpu")), many_flags(make_record("gpu"))],
    "long names": long_names(make_record("cpu"), make_record("gpu")),
    "a long case": [
        make_record("cpu", case=make_case(workload="w" * 60, variant="v" * 60)),
        make_record("gpu", case=make_case(workload="w" * 60, variant="v" * 60)),
    ],
    "all timings": [whole("cpu", 3e-4), whole("gpu", 1e-4)],
    "many kernels": [
        make_record(
            "gpu",
            device_time=DeviceTime(
                source="profiler",
                slope_s=1.0,
                kernels=(Kernel(name="k" * 300, time_s=1e-5, launches=1, share=0.2),) * 5,
            ),
        )
    ],
    "passes": [
        make_record(d, timings={m.value: noisy_timing(1e-4, passes=5) for m in Metric})
        for d in ("cpu", "gpu")
    ],
}


@pytest.mark.parametrize("records", COLUMNS.values(), ids=COLUMNS)
def test_what_a_job_measured_fits(show: Show, records: Sequence[Record]) -> None:
    assert_fits(show(console.show_records, records))


def test_a_record_is_shown_with_all_that_matters(show: Show) -> None:
    record = make_record(
        "cpu",
        timings={
            "latency": make_timing([[18.1e-6] * 20] * 5),
            "throughput": make_timing([[9e-6] * 6], depth=8),
        },
    )
    text = one_line(show(console.show_records, [record]))
    assert "matvec 1024" in text
    assert "cpu: AMD EPYC, 8 cores" in text
    assert "latency 18.1 µs ±0.0%, n=100" in text
    assert "throughput 9.00 µs, n=6, 8 calls queued" in text
    assert "95% intervals within one process" in text
    assert "500 ms (cache miss)" in text
    assert "compute rate 25.0 GFLOP/s, 5% of 500 GFLOP/s" in text
    assert "memory rate 50.0 GB/s, 50% of 100 GB/s" in text
    assert "limit memory (rates by throughput)" in text
    assert "1.0e-07 of 1.0e-05 tolerated" in text


def test_intervals_over_passes_are_told_from_those_within_a_process(show: Show) -> None:
    record = make_record("cpu", timings={"latency": noisy_timing(1e-4, passes=5)})
    text = one_line(show(console.show_records, [record]))
    assert "95% intervals over 5 passes" in text
    assert "within one process" not in text
    mixed = {"throughput": noisy_timing(1e-4), "device": noisy_timing(1e-4, passes=5)}
    text = one_line(show(console.show_records, [replace(record, timings={**record.timings, **mixed})]))
    assert "95% intervals over 5 passes" in text
    assert re.search(r"throughput 100 µs ±\d\.\d% within one process, n=120", text)
    assert text.count("within one process") == 1


def rows_of(text: str) -> dict[str, str]:
    """What the table of a record has beside each name; a line without a name belongs to the one before."""
    rows: dict[str, str] = {}
    for line in text.strip("\n").splitlines()[2:]:
        name, _, cell = line.partition("  ")
        last = name.strip() or next(reversed(rows))
        rows[last] = f"{rows.get(last, '')} {cell.strip() or name}".strip()
    return rows


def test_a_gpu_is_shown_with_its_transfers_its_dispatch_and_its_kernels(show: Show) -> None:
    text = show(console.show_records, [whole("gpu", 1e-4, transfer_s=4e-3)])
    rows = rows_of(text)
    assert re.fullmatch(r"100 µs ±\d\.\d%, n=120", rows["latency"])
    assert re.fullmatch(r"50\.0 µs ±\d\.\d%, n=120, by profiler 41\.0 µs by slope", rows["device"])
    assert rows["dispatch"] == "10.0 µs, 10% of latency"
    assert rows["beyond dispatch"] == "other 40.0 µs, 40% of latency"
    assert re.fullmatch(r"4\.50 ms ±\d\.\d%, pinned 1\.20 ms ±\d\.\d%", rows["end to end"])
    assert re.fullmatch(r"4\.00 ms ±\d\.\d%, pinned 1\.00 ms ±\d\.\d%", rows["h2d"])
    assert re.fullmatch(r"400 µs ±\d\.\d%, pinned 100 µs ±\d\.\d%", rows["d2h"])
    assert rows["data moved"] == "4.00 MB in, 4.10 kB out"
    assert rows["memory"] == ("arguments 4.00 MB, temporaries 0 B, output 4.10 kB, peak 4.00 MB, of 17.2 GB")
    assert rows["energy"] == "12.5 mJ ±4.0% a call, 9.00 mJ above idle (NVML total energy, GPU board)"
    assert rows["kernels"] == "75% gemv2T_kernel_val 25% loop_add_fusion"


def test_on_a_cpu_transfers_are_told_as_aliased_and_energy_with_its_reason(show: Show) -> None:
    reason = "absent: no RAPL counter under /sys/class/powercap (virtual machines have none)"
    rows = rows_of(show(console.show_records, [whole("cpu", 1e-4, absent={"energy": reason})]))
    assert re.fullmatch(r"100 µs ±\d\.\d%, aliased: no copy", rows["h2d"])
    assert "pinned" not in "".join(rows.values())
    assert rows["energy"] == "no RAPL counter under /sys/class/powercap"
    assert "kernels" not in rows


def test_energy_that_was_not_asked_for_has_no_row(show: Show) -> None:
    absent = {"energy": "not asked for: timing.energy_s=0"}
    assert "energy" not in rows_of(show(console.show_records, [whole("cpu", 1e-4, absent=absent)]))


def test_only_the_most_costly_kernels_are_named_and_long_names_are_cut(show: Show) -> None:
    names = ("gemv", "void_cutlass_kernel_" + "x" * 300, "copy", "fill", "sum")
    kernels = tuple(Kernel(name=name, time_s=1e-5, launches=1, share=0.2) for name in names)
    device_time = DeviceTime(source="profiler", kernels=kernels)
    rows = rows_of(show(console.show_records, [whole("gpu", 1e-4, device_time=device_time)]))
    assert rows["kernels"] == "20% gemv 20% void_cutlass_kernel_xxxxxxx… 20% copy and 2 more"


def test_fresh_memory_is_not_called_dispatch(show: Show) -> None:
    known = whole("cpu", 0.04)
    assert known.memory
    large = replace(known.memory, outputs_bytes=64 << 20)
    rows = rows_of(show(console.show_records, [replace(known, memory=large)]))
    assert rows["dispatch"] == "10.0 µs, 0% of latency"
    assert rows["beyond dispatch"] == "fresh memory 20.0 ms, 50% of latency"


def test_device_time_that_is_no_shorter_than_latency_leaves_no_dispatch(show: Show) -> None:
    timings = {"latency": noisy_timing(1e-4), "device": noisy_timing(2e-4)}
    rows = rows_of(show(console.show_records, [make_record(timings=timings)]))
    assert rows["dispatch"] == "none: the device takes as long"
    assert "beyond dispatch" not in rows


def test_rows_that_no_record_has_anything_for_are_left_out(show: Show) -> None:
    old = without_news(make_record("cpu"))
    rows = rows_of(show(console.show_records, [old]))
    assert {"latency", "throughput", "compute rate", "memory", "error"} <= rows.keys()
    news = {"device", "dispatch", "h2d", "d2h", "end to end", "data moved", "limit", "energy", "kernels"}
    assert not news & rows.keys()
    assert rows["compute rate"] == "25.0 GFLOP/s"
    beside = rows_of(show(console.show_records, [old, whole("gpu", 1e-4)]))
    assert news <= beside.keys()
    assert beside["limit"].split() == ["–", "memory", "(rates", "by", "throughput)"]


def test_a_pair_is_shown_with_its_speedup(show: Show) -> None:
    records = [make_record("cpu", timings={"latency": noisy_timing(3e-4, seed=1)})]
    records += [make_record("gpu", timings={"latency": noisy_timing(1e-4, seed=2)})]
    assert "latency: the GPU is 3x as fast as the CPU" in one_line(show(console.show_records, records))
    assert "as fast" not in show(console.show_records, records[:1])


def test_a_pair_says_who_wins_where_the_data_lives(show: Show) -> None:
    records = [whole("cpu", 3e-4, transfer_s=1e-7), whole("gpu", 1e-4, transfer_s=4.1e-3)]
    text = one_line(show(console.show_records, records))
    for metric in ("latency", "throughput", "device"):
        assert f" {metric}: the GPU is 3x as fast as the CPU" in text
    assert "end to end: the CPU is faster: speedup of the GPU 0.0651x" in text
    assert "end to end, pinned: the CPU is faster: speedup of the GPU 0.2" in text
    # Transfers of 4.51 ms, pinned 1.13 ms, against 0.2 ms a call.
    assert "data brought in once: the GPU is ahead from 23 calls on (pinned: from 6; compilation " in text
    assert "h2d: the CPU" not in text
    assert "compilation included: from 23)" in text
    slower = replace(records[1], compile=Compile(trace_s=0.25, lower_s=0.125, compile_s=0.6, cache="miss"))
    assert "compilation included: from 523)" in one_line(show(console.show_records, [records[0], slower]))


def test_a_pair_compiled_from_the_cache_has_no_break_even_with_compilation(show: Show) -> None:
    cpu, gpu = whole("cpu", 3e-4, transfer_s=1e-7), whole("gpu", 1e-4)
    assert gpu.compile
    cached = replace(gpu, compile=replace(gpu.compile, cache="hit"))
    text = show(console.show_records, [cpu, cached])
    assert "the GPU is ahead from" in text
    assert "compilation included" not in text
    assert "compilation included" in show(console.show_records, [cpu, gpu])


def test_a_pair_whose_gpu_is_slower_at_each_call_is_never_ahead(show: Show) -> None:
    text = one_line(show(console.show_records, [whole("cpu", 1e-4, transfer_s=1e-7), whole("gpu", 3e-4)]))
    assert "data brought in once: the GPU is never ahead (pinned: never;" in text


def test_the_speedups_of_a_job_at_unmatched_precision_are_marked_and_explained(show: Show) -> None:
    cpu, gpu = whole("cpu", 3e-4), whole("gpu", 1e-4, accuracy=TF32)
    lines = show(console.show_records, [cpu, gpu]).splitlines()
    speedups = [line for line in lines if "as the CPU" in line or "speedup of the GPU" in line]
    assert len(speedups) == 5
    assert all(line.endswith(" †") for line in speedups)
    assert "† no one speedup: the sides did not compute at one precision;" in one_line("\n".join(lines))
    assert "error 3e-04 on the GPU, 1e-07 on the CPU" in one_line("\n".join(lines))
    assert "†" not in show(console.show_records, [cpu, whole("gpu", 1e-4)])


def test_flags_are_told_by_name_with_their_metrics_and_the_severe_ones_marked(show: Show) -> None:
    flags = (
        Flag(name="very noisy", metric="latency", message="spans 31% of the median"),
        Flag(name="host busy", metric=None, message="others used 4 cores"),
        Flag(name="very noisy", metric="device", message="spans 565% of the median"),
        Flag(name="outliers", metric="throughput", message="7% far above"),
        Flag(name="very noisy", metric="h2d", message="spans 46% of the median"),
    )
    lines = show(console.show_records, [make_record("cpu", warnings=flags)]).splitlines()
    assert "! cpu, very noisy: latency, device, h2d (latency: spans 31% of the median)" in lines
    assert "! cpu, host busy (others used 4 cores)" in lines
    assert "  cpu, outliers: throughput (7% far above)" in lines
    assert sum("cpu, very noisy" in line for line in lines) == 1


def test_a_flag_that_all_timings_have_names_none() -> None:
    timings = make_timings("cpu", 1e-4, transfer_s=1e-6)
    flags = tuple(Flag(name="not converged", metric=metric, message="±1.0%") for metric in timings)
    record = make_record("cpu", timings=timings, warnings=flags)
    assert flag_lines([record]) == ["! cpu, not converged: all timings (latency: ±1.0%)"]
    assert "all timings" not in flag_lines([replace(record, warnings=flags[1:])])[0]


def test_on_a_noisy_machine_only_the_severe_flags_are_told_in_full() -> None:
    mild = ("noisy", "outliers", "autocorrelated", "drifting", "on the dispatch floor", "power capped")
    flags = [Flag(name=name, metric=m, message="as it were, 5%") for name in mild for m in ("latency", "h2d")]
    flags += [Flag(name="bimodal", metric=None, message="two groups")]
    few = flag_lines([make_record("cpu", warnings=tuple(flags))])
    assert len(few) == 7
    assert all("as it were" in line for line in few[:-1])
    many = flag_lines([make_record(device, warnings=tuple(flags)) for device in ("cpu", "gpu")])
    assert len(many) <= 12
    assert [line for line in many if line[0] == "!"] == [
        f"! {d}, bimodal (two groups)" for d in ("cpu", "gpu")
    ]
    for device in ("cpu", "gpu"):
        assert any(line.startswith(f"  {device}, also noisy (latency, h2d), outliers") for line in many)
    assert "as it were" not in "".join(many)


def test_a_job_of_failures_alone_has_no_table(show: Show) -> None:
    assert show(console.show_records, [make_failed("cpu"), make_failed("gpu")]) == ""


# --- comparisons -----------------------------------------------------------------------------------


def sweep(*sizes: int) -> list[Record]:
    return [
        make_record(
            device, case=make_case(size=size), timings={"latency": noisy_timing(time_s * size, seed=k)}
        )
        for size in sizes
        for k, (device, time_s) in enumerate((("cpu", 3e-7), ("gpu", 1e-7)))
    ]


def extremes(ratio: float) -> list[Record]:
    """A pair with marks wherever there can be one, at unmatched precision, with that speedup in all."""
    case = make_case(50, workload="mlp_article", dtype="float64", precision="default", seed=int(ratio))
    rates = Rates(
        metric="device",
        flops_per_s=1e12,
        bytes_per_s=1e9,
        of_compute_ceiling=1.04,
        of_memory_ceiling=0.2,
        limit=Limit.compute,
    )
    records = [
        whole(device, time_s, time_s / 1e3, case=case, warnings=BIMODAL, rates=rates)
        for device, time_s in (("cpu", 0.123 * ratio**0.5), ("gpu", 0.123 / ratio**0.5))
    ]
    return [records[0], replace(records[1], accuracy=TF32)]


EXTREMES = (0.00123, 123456, 1e12)
WIDEST = [record for ratio in EXTREMES for record in extremes(ratio)]

ROWS: dict[str, list[Record]] = {
    "one case": sweep(1024),
    "many cases": sweep(*(2**k for k in range(20))),
    "one device": [make_record("gpu", case=make_case(size=size)) for size in (1, 2)],
    "failures": [*sweep(16), make_record("cpu"), make_failed("gpu", message="out of memory " * 20)],
    "failures alone": [make_failed("cpu"), make_failed("gpu")],
    "many flags": [many_flags(record) for record in sweep(16, 1024)],
    "long names": long_names(*sweep(16)),
    "long cases": [
        make_record(d, case=make_case(workload="w" * 70, variant="v" * 70, dtype="bfloat16"))
        for d in ("cpu", "gpu")
    ],
    "extreme speedups": [
        make_record("cpu", timings={"latency": noisy_timing(1e3)}),
        make_record("gpu", timings={"latency": noisy_timing(1e-9, spread=0.3)}),
    ],
    "all that is wide, on one device": [WIDEST[0]],
    "all that is wide": WIDEST,
    "hosts of many kinds": [
        replace(record, environment={"cpu": {"cores": cores}})
        for cores, record in zip((2, 2, 16, 16, 128, 128), sweep(1, 2, 3), strict=True)
    ],
    "several workloads": [
        make_record(d, case=make_case(workload=w)) for w in ("dot", "matvec", "dot") for d in ("cpu", "gpu")
    ],
}


@pytest.mark.parametrize("records", ROWS.values(), ids=ROWS)
def test_what_a_sweep_measured_fits(show: Show, records: Sequence[Record]) -> None:
    assert_fits(show(console.show_comparisons, pair(records)))


def test_without_a_latency_the_first_metric_that_there_is_stands_in_its_place(show: Show) -> None:
    def only(device: str, metric: str, time_s: float) -> Record:
        return make_record(device, timings={metric: noisy_timing(time_s, seed=1)})

    text = show(console.show_comparisons, pair([only("cpu", "device", 3e-4), only("gpu", "device", 1e-4)]))
    assert "latency" not in text.replace("not latency", "")
    assert "300 µs" in text
    assert "100 µs" in text
    assert "3.00x" in text
    assert "device: of a call on the device alone, without the host's dispatch" in text
    alone = show(console.show_comparisons, pair([only("gpu", "h2d_pinned", 1e-4)]))
    assert "100 µs ±" in alone
    assert "h2d pinned: of the inputs to the device, from pinned host memory" in alone


@pytest.mark.parametrize("ratio", EXTREMES)
def test_no_number_is_cut_off_where_all_are_wide(show: Show, ratio: float) -> None:
    (comparison,) = pair(extremes(ratio))
    comparison = replace(
        comparison,
        speedups={
            "latency": speedup_of(ratio, (0.9 * ratio, 1.1 * ratio), Verdict.undecided),
            "end_to_end": speedup_of(ratio, None, Verdict.undecided),
        },
    )
    text = show(console.show_comparisons, [comparison])
    assert_fits(text)
    assert "…" not in text
    row = next(line for line in text.splitlines() if line.startswith("mlp"))
    assert f"{brief(ratio)}x† [{brief(0.9 * ratio)}, {brief(1.1 * ratio)}]  ? " in row
    assert f" {brief(ratio)}x†? " in row
    assert row.count("!") == 2
    assert "104c 104c" in row
    name = "".join(re.split(r" {2,}|$", line)[0] for line in text.splitlines()).replace(" ", "")
    assert "mlp_article50float64precision=default" in name  # folded


def test_in_a_terminal_of_80_columns_cells_are_folded_and_nothing_is_lost() -> None:
    narrow = Console(width=80, file=io.StringIO(), emoji=False, highlight=False)
    wide = [whole("cpu", 3e-4, warnings=BIMODAL), whole("gpu", 1e-4, warnings=BIMODAL, accuracy=TF32)]
    console.show_comparisons(narrow, pair(wide))
    assert isinstance(narrow.file, io.StringIO)
    text = narrow.file.getvalue()
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "…" not in text
    for word in ("matvec", "1024", "300 µs!", "100 µs!", "3.00x†", "[", "gpu", "1.95x†", "50m", "3e-04"):
        assert word in text


def speedup_of(ratio: float, ci95: tuple[float, float] | None, verdict: Verdict, among: int = 1) -> Speedup:
    return Speedup(ratio=ratio, ci95=ci95, ci_over="passes", verdict=verdict, among=among)


def row_of(text: str, name: str = "matvec") -> list[str]:
    """The cells of the only row that starts with `name`."""
    (row,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return re.split(r" {2,}", row.strip())


def judged(latency: Speedup, end_to_end: Speedup | None = None, **changes: Any) -> Comparison:
    """A pair with these speedups; the GPU's calls save 0.2 ms, its transfers cost 4.51 ms."""
    (comparison,) = pair([whole("cpu", 3e-4, 1e-7), whole("gpu", 1e-4, changes.pop("transfer_s", 4.1e-3))])
    speedups = {"latency": latency} | ({"end_to_end": end_to_end} if end_to_end else {})
    return replace(comparison, speedups=speedups, **changes)


SURE = speedup_of(3, (2.9, 3.1), Verdict.gpu)


def test_a_sweep_is_a_row_a_case(show: Show) -> None:
    text = show(console.show_comparisons, pair(sweep(16, 1024)))
    assert "gpu: NVIDIA H200" in text
    assert "cpu: AMD EPYC, 8 cores" in text
    assert "8 cores" in text.split("speedup")[0].rsplit("\n\n")[-1]  # beside every speedup
    small, large = (line for line in text.splitlines() if line.startswith("matvec"))
    assert small.startswith("matvec 16")
    assert large.startswith("matvec 1024")
    assert re.search(r"30\d µs\s+10\d µs\s+3\.00x \[2\.\d+, 3\.\d+\]\s+gpu", large)
    assert large.rstrip().endswith("1e-07")


def test_hosts_with_other_numbers_of_cores_are_all_named(show: Show) -> None:
    text = show(console.show_comparisons, pair(ROWS["hosts of many kinds"]))
    assert " 2 or 16 or 128 " in text
    assert text.count("cpu: AMD EPYC, ") == 3


def test_a_row_says_who_wins_resident_and_end_to_end_and_from_how_many_calls_on(show: Show) -> None:
    text = show(console.show_comparisons, [judged(SURE, speedup_of(0.067, (0.06, 0.07), Verdict.cpu))])
    assert row_of(text) == [
        "matvec 1024",
        "300 µs",
        "100 µs",
        "3.00x [2.90, 3.10]",
        "gpu",
        "0.067x",
        "23",
        "50m",
        "50m",
        "1e-07",
    ]
    for legend in (
        "latency: ",
        "speedup: CPU time / GPU time",
        "end to end: ",
        "break even: ",
        "% ceiling: ",
    ):
        assert sum(line.startswith(legend) for line in text.splitlines()) == 1


def test_what_is_undecided_has_a_question_mark_and_the_legend_says_why(show: Show) -> None:
    unsure = speedup_of(1.1, (0.9, 1.3), Verdict.undecided, among=26)
    text = show(console.show_comparisons, [judged(unsure, replace(unsure, ratio=0.9))])
    assert row_of(text)[3:7] == ["1.10x [0.90, 1.30]", "?", "0.90x?", "23?"]
    assert "?: undecided: no interval, or one too wide for the verdicts on 26 cases to be" in text
    sure = show(console.show_comparisons, [judged(SURE, SURE)])
    assert "?" not in sure
    assert row_of(sure)[3:7] == ["3.00x [2.90, 3.10]", "gpu", "3.00x", "23"]


def test_devices_that_are_equally_fast_are_equal_and_break_even_is_in_doubt(show: Show) -> None:
    equal = speedup_of(1.0, (0.99, 1.01), Verdict.equivalent)
    text = show(console.show_comparisons, [judged(equal, equal)])
    assert row_of(text)[3:7] == ["1.00x [0.99, 1.01]", "equal", "1.00x", "23?"]
    assert "equal: surely no more than 2% apart" in text


def test_a_gpu_whose_calls_take_longer_never_breaks_even(show: Show) -> None:
    text = show(console.show_comparisons, pair([whole("cpu", 1e-4, 1e-7), whole("gpu", 3e-4)]))
    assert row_of(text)[6] == "never"
    assert "never: the GPU is ahead for no number of calls" in text
    assert "≤N" not in text


def test_a_gpu_that_is_ahead_for_some_calls_only_says_up_to_how_many(show: Show) -> None:
    # Its calls take 0.2 ms longer, its transfers 1.1 ms less.
    records = [whole("cpu", 1e-4, 1.1e-3), whole("gpu", 3e-4, 1e-4)]
    text = show(console.show_comparisons, pair(records))
    assert row_of(text)[6] == "≤5"
    assert "≤N: the GPU is ahead for up to N calls" in text
    assert "never" not in text
    assert "the GPU is ahead up to 5 calls (" in one_line(show(console.show_records, records))


@pytest.mark.parametrize(
    ("limit", "pair_cell", "alone"),
    [
        (Limit.memory, "82m", "82% memory"),
        (Limit.compute, "<1c", "<1% compute"),
        (Limit.dispatch, "disp", "dispatch"),
        (None, "–", None),
    ],
)
def test_the_share_of_a_ceiling_is_that_of_the_limit_it_is_under(
    show: Show, limit: Limit | None, pair_cell: str, alone: str | None
) -> None:
    rates = Rates(
        metric="device",
        flops_per_s=1e9,
        bytes_per_s=1e9,
        of_compute_ceiling=0.002,
        of_memory_ceiling=0.82,
        limit=limit,
    )
    cpu, gpu = whole("cpu", 3e-4), whole("gpu", 1e-4, rates=rates)
    (row,) = [x for x in show(console.show_comparisons, pair([cpu, gpu])).splitlines() if x[:6] == "matvec"]
    assert row.split()[-3:] == ["50m", pair_cell, "1e-07"]
    single = show(console.show_comparisons, pair([gpu]))
    assert (row_of(single)[5] if alone else None) == alone
    assert ("% of ceiling" in single) == (alone is not None)


def test_a_speedup_at_unmatched_precision_is_marked_and_the_errors_are_told(show: Show) -> None:
    cases = [make_case(size, precision="default") for size in (1, 2, 4, 8, 16)]
    records = [
        record
        for case in cases
        for record in (whole("cpu", 3e-4, case=case), whole("gpu", 1e-4, case=case, accuracy=TF32))
    ]
    matched = [whole("cpu", 3e-4), whole("gpu", 1e-4)]
    text = show(console.show_comparisons, pair([*records, *matched]))
    rows = [line for line in text.splitlines() if line.startswith("matvec")]
    assert ["x† [" in row for row in rows] == [True] * 5 + [False]
    assert [row.count("†") for row in rows] == [2] * 5 + [0]
    lines = text.splitlines()
    at = lines.index("† no one speedup, as the two sides did not compute at one precision:")
    assert lines[at + 1] == ("  matvec 1 precision=default: error 3e-04 on the GPU, 1e-07 on the CPU")
    assert lines[at + 4] == "  and 2 more: `unmatched` in CSV and JSON"
    assert "†" not in show(console.show_comparisons, pair(matched))


def test_records_of_the_first_version_have_no_empty_columns(show: Show) -> None:
    old = [without_news(record) for record in sweep(16, 1024)]
    text = show(console.show_comparisons, pair(old))
    assert len(row_of(text, "matvec 16")) == 6  # latencies, speedup, who is faster, error
    heads = text.splitlines()[: next(i for i, line in enumerate(text.splitlines()) if line.startswith("──"))]
    assert heads[-1].split() == ["case", "8", "cores", "latency", "speedup", "[95%]", "faster", "error"]
    for word in ("end to end", "break", "ceiling", "–"):
        assert word not in text
    alone = show(console.show_comparisons, pair(old[:1]))
    for word in ("throughput", "device", "end to end", "ceiling", "–"):
        assert word not in alone


def test_what_is_unknown_of_one_case_only_is_a_dash(show: Show) -> None:
    old = [without_news(record) for record in sweep(16)]
    text = show(console.show_comparisons, pair([*old, whole("cpu", 3e-4), whole("gpu", 1e-4)]))
    assert row_of(text, "matvec 16")[5:] == ["–", "–", "–", "–", "1e-07"]
    assert "–" not in row_of(text, "matvec 1024")


def test_one_device_is_shown_with_what_its_time_is_made_of(show: Show) -> None:
    text = show(console.show_comparisons, pair([whole("gpu", 1e-4, transfer_s=4e-3)]))
    row = row_of(text)
    assert re.fullmatch(r"100 µs ±\d\.\d%", row[1])
    assert [row[0], *row[2:]] == ["matvec 1024", "75.0 µs", "50.0 µs", "4.50 ms", "50% memory", "1e-07"]


def test_what_an_interval_speaks_for_is_in_the_legend(show: Show) -> None:
    once = [make_record(d, timings={"latency": noisy_timing(1e-4, seed=1)}) for d in ("cpu", "gpu")]
    thrice = [make_record(d, timings={"latency": noisy_timing(1e-4, passes=3)}) for d in ("cpu", "gpu")]
    for records, words in ((once, "within one process"), (thrice, "over passes: where a rerun would land")):
        for shown in (records, records[:1]):
            assert words in show(console.show_comparisons, pair(shown))
    other = [replace(record, case=make_case(7), case_id=make_case(7).case_id) for record in thrice]
    told = show(console.show_comparisons, pair([*once, *other]))
    assert "intervals: 95%, over passes: where a rerun would land" in told
    assert "¹ within one process: a rerun may land further off" in told
    for one_device in (False, True):
        shown = [*once, *other][:: 2 if one_device else 1]
        text = show(console.show_comparisons, pair(shown))
        marked = [line.count("¹") for line in text.splitlines() if line.startswith("matvec")]
        assert marked == [1, 0]
        assert "¹" not in show(console.show_comparisons, pair(once[:: 2 if one_device else 1]))


def test_the_marks_of_a_sweep_are_those_of_its_speedups_that_have_an_interval(
    show: Show,
) -> None:
    within = replace(SURE, ci_over="rounds")
    bare = replace(within, ci95=None)
    other = make_case(7)
    shown = [judged(within), replace(judged(SURE), case=other), replace(judged(bare), case=make_case(9))]
    text = show(console.show_comparisons, shown)
    assert row_of(text, "matvec 1024")[3] == "3.00x [2.90, 3.10]¹"
    assert row_of(text, "matvec 7")[3] == "3.00x [2.90, 3.10]"
    assert row_of(text, "matvec 9")[3] == "3.00x"
    assert "¹" not in show(console.show_comparisons, [shown[1], shown[2]])
    assert "intervals: 95%, within one process" in show(console.show_comparisons, [shown[0], shown[2]])


def test_the_titles_say_what_is_under_them(show: Show) -> None:
    lines = show(console.show_comparisons, [judged(SURE)]).splitlines()
    end = next(i for i, line in enumerate(lines) if line.startswith("──"))
    titles = " ".join(lines[:end])
    assert lines[end - 1].startswith("case ")
    assert titles.count("latency") == 2
    assert "resident" not in titles


def test_the_legend_of_the_ceiling_says_of_which_time_and_of_which_best_rate(show: Show) -> None:
    def legend(metric: str, *devices: str) -> str:
        records = [whole(device, 1e-4) for device in devices]
        rated = [replace(r, rates=replace(r.rates, metric=metric)) for r in records if r.rates]
        return show(console.show_comparisons, pair(rated))

    lines = legend("device", "cpu", "gpu").splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("% ceiling: of the best rate of stream"))
    assert lines[at + 1] == "  of the work by device time, not latency; disp: the call is mostly dispatch"
    assert "of the work by throughput, not latency;" in legend("throughput", "cpu", "gpu")
    assert "or matmul (compute) here, by device time" in legend("device", "gpu")


def test_every_severe_flag_is_in_the_legend_of_its_mark(show: Show) -> None:
    rare = tuple(Flag(name=name, metric=None, message="so") for name in RARE_FLAGS)
    for warnings, names in ((BIMODAL, NOISE_FLAGS), ((*BIMODAL, *rare), SEVERE_FLAGS)):
        text = one_line(show(console.show_comparisons, pair([whole("cpu", 1e-4, warnings=warnings)])))
        said = text[text.index("! look twice") : text.index("(see `warnings`)")]
        assert [name for name in SEVERE_FLAGS if name in said] == [*names]


def test_a_setting_that_is_too_long_for_its_column_is_folded_after_its_sign(show: Show) -> None:
    records = [record for ratio in (10, 123456) for record in extremes(ratio)]
    text = show(console.show_comparisons, pair(records))
    names = [line.split("  ")[0].strip() for line in text.splitlines()]
    assert names.count("precision=") == 2
    assert [names[at + 1] for at, name in enumerate(names) if name == "precision="] == ["default"] * 2
    alone = [make_record("cpu", case=make_case(4, precision="default"))]
    assert "matvec 4 precision=default " in show(console.show_comparisons, pair(alone))


def test_cases_that_differ_in_a_parameter_alone_can_be_told_apart(show: Show) -> None:
    cases = [make_case(workload="mlp", params={"batch": batch}) for batch in (128, 512)]
    text = show(console.show_comparisons, pair([make_record("cpu", case=case) for case in cases]))
    first, second = (line for line in text.splitlines() if line.startswith("mlp"))
    assert "128" in first
    assert "512" in second


def test_a_parameter_without_a_value_is_named_only_beside_a_case_that_has_one() -> None:
    def named(*given: dict[str, object]) -> list[str]:
        cases = [make_case(8, workload="mlp", params=params) for params in given]
        return [told_apart(case, cases) for case in cases]

    unset = {"features": None, "static": []}
    assert named(unset | {"steps": 1}, unset | {"steps": 10}) == ["mlp 8 steps=1", "mlp 8 steps=10"]
    assert named({"features": None, "steps": 1}, {"features": 10, "steps": 1}) == [
        "mlp 8 features=None steps=1",
        "mlp 8 features=10 steps=1",
    ]
    assert named(unset) == ["mlp 8"]
    larger = make_case(16, workload="mlp", params={"features": 10, "steps": 1})
    other_size = make_case(8, workload="mlp", params=unset | {"steps": 1})
    assert told_apart(other_size, [other_size, larger]) == "mlp 8", "its size tells it apart"


def test_the_larger_error_of_the_two_is_shown(show: Show) -> None:
    cpu, gpu = sweep(16)
    assert gpu.accuracy is not None
    gpu = replace(gpu, accuracy=replace(gpu.accuracy, relative_error=3e-4))
    for records in ([cpu, gpu], [replace(cpu, accuracy=gpu.accuracy), replace(gpu, accuracy=cpu.accuracy)]):
        assert row_of(show(console.show_comparisons, pair(records)), "matvec 16")[-1] == "3e-04"


def test_an_arm_without_a_measurement_is_in_its_row(show: Show) -> None:
    records = [*sweep(16), make_record("cpu"), make_failed("gpu", status=Status.refused)]
    row = next(
        line for line in show(console.show_comparisons, pair(records)).splitlines() if "matvec 1024" in line
    )
    assert "refused" in row
    assert "gpu" not in row


def test_a_sweep_on_one_device_has_no_column_for_the_other(show: Show) -> None:
    text = show(console.show_comparisons, pair(ROWS["one device"]))
    assert "speedup" not in text
    assert "cores" not in text


def test_a_severe_flag_of_the_latency_marks_its_cell(show: Show) -> None:
    cpu, gpu = (replace(record, warnings=()) for record in sweep(16))
    severe = Flag(name="bimodal", metric="latency", message="two groups")
    mild = Flag(name="outliers", metric="latency", message="7%")
    elsewhere = Flag(name="bimodal", metric="throughput", message="two groups")
    plain = show(console.show_comparisons, pair([replace(cpu, warnings=(mild, elsewhere)), gpu]))
    assert "!" not in plain
    marked = show(console.show_comparisons, pair([replace(cpu, warnings=(severe,)), gpu]))
    (row,) = [line for line in marked.splitlines() if line.startswith("matvec")]
    assert row.count("!") == 1
    assert "! look twice" in marked


# --- failures --------------------------------------------------------------------------------------


def test_a_failure_is_told_with_its_case_its_device_and_what_to_do(show: Show) -> None:
    text = show(console.show_failures, [make_record("cpu"), make_failed("gpu")])
    assert text.splitlines() == [
        "failed on the gpu: matvec 1024 float32 highest",
        "  no GPU that JAX supports",
        '  pip install "jaxaccel[cuda]"',
    ]


def test_equal_failures_are_told_once_with_all_their_cases(show: Show) -> None:
    records = [make_failed("gpu", case=make_case(size=size)) for size in (16, 256, 4096)]
    other = make_failed("gpu", case=make_case(size=9), message="out of memory")
    text = show(console.show_failures, [*records, other])
    assert text.count("no GPU that JAX supports") == 1
    assert text.count("out of memory") == 1
    first = text.splitlines()[0]
    for size in (16, 256, 4096):
        assert f"matvec {size} " in first
    assert "matvec 9 " not in first


def test_failures_that_differ_in_their_traceback_alone_are_equal(show: Show) -> None:
    errors = [Problem(type="Runtime", message="it broke", details=f"line {k}") for k in (1, 2)]
    records = [make_failed("gpu", case=make_case(size=k), error=error) for k, error in enumerate(errors, 1)]
    text = show(console.show_failures, records)
    assert text.count("it broke") == 1
    assert "line 1" not in text


def test_the_same_failure_on_two_devices_or_of_two_kinds_is_told_for_each(show: Show) -> None:
    records = [make_failed("cpu"), make_failed("gpu"), make_failed("gpu", status=Status.refused)]
    text = show(console.show_failures, records)
    assert text.count("no GPU that JAX supports") == 3
    assert "refused on the gpu" in text


def test_no_failures_print_nothing(show: Show) -> None:
    assert show(console.show_failures, [make_record("cpu")]) == ""


def test_a_long_message_stays_in_one_piece_for_those_who_copy_it(show: Show) -> None:
    message = "pip install " + "something-long " * 20
    assert message in show(console.show_failures, [make_failed("gpu", message=message)])


# --- words that look like markup -------------------------------------------------------------------

ODD = "jit[red] of [bold]f[/bold] [/nothing] in a[i][/] \\[x] [link=x]"


def test_markup_in_a_failure_is_shown_as_it_is(show: Show) -> None:
    error = Problem(type="Runtime", message=ODD, hint=ODD)
    case = make_case(workload="w[red]", params={"name": "[/x]"})
    text = show(console.show_failures, [make_failed("gpu", case=case, error=error)])
    assert text.count(ODD) == 2
    assert str(case) in text


def test_colons_in_a_failure_make_no_pictures(show: Show) -> None:
    message = "gemm:fire:kernel failed"
    assert message in show(console.show_failures, [make_failed("gpu", message=message)])


def test_markup_in_a_failed_arm_of_a_pair_is_shown_as_it_is(show: Show) -> None:
    text = show(console.show_records, [make_record("cpu"), make_failed("gpu", message="[red]a[/red] [/b]")])
    assert "[red]a[/red] [/b]" in one_line(text)


def test_markup_in_a_flag_is_shown_as_it_is(show: Show) -> None:
    flag = Flag(name="clock [x] throttled", metric=None, message="[red]a[/red] [/b]")
    text = show(console.show_records, [make_record("cpu", warnings=(flag,))])
    assert "[red]a[/red] [/b]" in text
    assert text.count("clock [x] throttled") == 2


@pytest.mark.parametrize("kind", ["[red]A100", "A100 [/b]"])
def test_markup_in_the_name_of_a_device_is_shown_as_it_is(show: Show, kind: str) -> None:
    record = make_record("gpu", arm=replace(facts_of("gpu"), kind=kind))
    assert f"gpu: {kind}" in one_line(show(console.show_records, [record]))
    assert f"gpu: {kind}" in show(console.show_comparisons, pair([record]))


@pytest.mark.parametrize("workload", ["net[red]", "net[/b]"])
def test_markup_in_the_name_of_a_workload_is_shown_as_it_is(show: Show, workload: str) -> None:
    record = make_record("gpu", case=make_case(workload=workload))
    assert f"{workload} 1024" in show(console.show_records, [record])
    assert f"{workload} 1024" in show(console.show_comparisons, pair([record]))


# --- progress --------------------------------------------------------------------------------------


def test_progress_outside_a_terminal_is_a_line_a_case_on_standard_error(
    show: Show, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"cpu": Sampled()}
    with ShowProgress(console.make_console()) as progress:
        progress.doing("matvec [red] 16", 0, 0, 2)
        progress.sampled(Metric.latency, found)
        progress.doing("matvec 1024", 0, 1, 2)
        progress.doing("matvec 1024", 1, 0, 2)
    said = capsys.readouterr()
    assert said.err.splitlines() == ["[1/2] matvec [red] 16", "[2/2] matvec 1024"]
    assert said.out == ""


def test_outside_a_terminal_each_step_of_slow_calls_is_told_when_it_begins(
    show: Show, capsys: pytest.CaptureFixture[str]
) -> None:
    with ShowProgress(console.make_console()) as progress:
        progress.doing("fft 16", 0, 0, 2)
        progress.beside("opening on the cpu")
        progress.opened("cpu", 5.0)
        progress.sampling(Metric.latency)
        progress.beside("cpu kernels, loop, energy")
        progress.doing("fft 8", 0, 1, 2)
        progress.opened("cpu", 0.01)
        progress.sampling(Metric.latency)
        progress.beside("cpu kernels, loop, energy")
    assert capsys.readouterr().err.splitlines() == [
        "[1/2] fft 16",
        "  a call on the cpu takes about 5.00 s",
        "  latency (a call takes about: cpu 5.00 s)",
        "  cpu kernels, loop, energy",
        "[2/2] fft 8",
    ]


def test_in_a_terminal_each_step_is_told_when_it_begins(
    show: Show, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with ShowProgress(console.make_console()) as progress:
        progress.doing("fft 16", 0, 0, 2)
        progress.beside("opening on the gpu")
        assert "fft 16: opening on the gpu" in capsys.readouterr().out
        progress.opened("gpu", 0.01)
        progress.sampling(Metric.latency)
        assert re.search(r"fft 16: latency *\x1b?", capsys.readouterr().out)
        progress.opened("cpu", 5.0)
        progress.sampling(Metric.device)
        assert "fft 16: device (a call takes about: cpu 5.00 s)" in capsys.readouterr().out


def test_after_a_pass_the_widths_of_the_intervals_are_told(
    show: Show, capsys: pytest.CaptureFixture[str]
) -> None:
    timing = make_timing([[1.0] * 6] * 5)
    narrow, wide = replace(timing, ci95_s=(0.99, 1.01)), replace(timing, ci95_s=(0.95, 1.05))
    records = [
        make_record("cpu", timings={"latency": narrow, "h2d": replace(wide, ci95_s=(0.1, 1.9))}),
        make_record("gpu", timings={"latency": wide}),
        make_failed("gpu"),
    ]
    with ShowProgress(console.make_console()) as progress:
        progress.passed(0, 1, records)
        progress.passed(1, 5, records)
        progress.passed(2, 5, [make_record(timings={"latency": replace(wide, ci95_s=None)})])
    said = capsys.readouterr()
    assert said.err.splitlines() == ["pass 2 of 5: latencies within ±1.0% to ±5.0%"]
    assert said.out == ""


@pytest.fixture
def terminal(show: Show, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Show:
    """terminal(case) is what progress draws for a case, whose CPU arm is known already, in a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")

    def draw(case: str) -> str:
        known = Sampled(medians=[1.0, 1.001, 1.002, 1.003, 1.004])
        with ShowProgress(console.make_console()) as progress:
            progress.doing(case, 0, 0, 2)
            progress.sampled(Metric.latency, {"cpu": known, "gpu": Sampled()})
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().out)

    return draw


def test_progress_in_a_terminal_says_how_sure_each_arm_is(terminal: Show) -> None:
    assert "matvec 16: latency  cpu ±0.2%  gpu …" in terminal("matvec 16")


@pytest.mark.parametrize("case", ["net[red] 16", "net[/b] 16"])
def test_markup_in_the_name_of_a_case_does_not_disturb_progress(terminal: Show, case: str) -> None:
    assert f"{case}: latency" in terminal(case)


# --- the table that each pass replaces -------------------------------------------------------------


def screen_after(written: str, height: int = 40) -> list[str]:
    """The lines that a terminal is left with, those that scrolled away first; it knows Rich's codes only."""
    lines, row, column = [""], 0, 0
    for code, other, text in re.findall(r"\x1b\[([0-9;?]*[A-Za-z])|([\r\n])|([^\x1b\r\n]+)", written):
        if other == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif other == "\r":
            column = 0
        elif code.endswith("A"):  # up, but not to what has scrolled away
            row = max(0, len(lines) - height, row - int(code[:-1]))
        elif code == "2K":
            lines[row] = ""
        elif text:
            before, after = lines[row].ljust(column)[:column], lines[row][column + len(text) :]
            lines[row], column = before + text + after, column + len(text)
    return [line.rstrip() for line in lines]


@pytest.fixture
def tty(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Console]:
    """tty(height) is a console on a terminal that is a string."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("TTY_INTERACTIVE", raising=False)

    def make(height: int = 40) -> Console:
        return Console(force_terminal=True, width=100, height=height, file=io.StringIO())

    return make


def shown(terminal: Console) -> str:
    assert isinstance(terminal.file, io.StringIO)
    return "\n".join(screen_after(terminal.file.getvalue(), terminal.height)).strip("\n")


def known_within(width: float, *sizes: int) -> list[Record]:
    """CPU records whose latency is known that well."""
    timing = replace(make_timing([[1.0] * 6] * 5), ci95_s=(1 - width, 1 + width))
    return [make_record(case=make_case(size=size), timings={"latency": timing}) for size in sizes]


@pytest.mark.parametrize("sizes", [(16,), (16, 1024)], ids=["one case", "two cases"])
def test_the_table_in_a_terminal_narrows_with_every_pass(
    tty: Callable[..., Console], sizes: Sequence[int]
) -> None:
    terminal = tty()
    with ShowProgress(terminal) as progress:
        progress.passed(0, 3, known_within(0.05, *sizes))
        first = shown(terminal)
        progress.doing("matvec 16", 1, 0, len(sizes))
        progress.sampled(Metric.latency, {"cpu": Sampled()})
        between = shown(terminal)
        progress.passed(1, 3, known_within(0.01, *sizes))
        second = shown(terminal)
    names = [f"matvec {size}" for size in sizes]
    for text, width, caption in ((first, "±5.0%", "pass 1 of 3:"), (second, "±1.0%", "pass 2 of 3:")):
        rows = [line for line in text.splitlines() if re.match(r"matvec \d+ +1.00 s", line)]
        assert [row.partition("  ")[0] for row in rows] == names
        assert all(width in row for row in rows)
        assert text.splitlines()[-2].startswith(caption)
        assert sum("latency" in line for line in text.splitlines()[:-1]) == 1
    assert "±5.0%" not in second
    assert between.splitlines()[:-1] == first.splitlines()[:-1]
    assert "pass 2: matvec 16: latency  cpu …" in between.splitlines()[-1]


def test_what_progress_drew_makes_way_for_the_final_table(tty: Callable[..., Console]) -> None:
    terminal, records = tty(), known_within(0.01, 16, 1024)
    with ShowProgress(terminal) as progress:
        for pass_index in range(2):
            progress.passed(pass_index, 2, records)
            assert "matvec 1024" in shown(terminal)
    console.show_comparisons(terminal, pair(records))
    alone = tty()
    console.show_comparisons(alone, pair(records))
    assert shown(terminal) == shown(alone)


@pytest.mark.parametrize("height", [3, 4, 5, 12])
def test_a_table_taller_than_the_terminal_hides_no_bar_and_leaves_nothing_behind(
    tty: Callable[..., Console], height: int
) -> None:
    terminal = tty(height)
    with ShowProgress(terminal) as progress:
        for pass_index in range(3):
            progress.passed(pass_index, 3, known_within(0.01, *range(1, 51)))
            progress.doing("matvec 7", pass_index, 0, 50)
            assert "matvec 7: opening" in shown(terminal).splitlines()[-1]
            assert (f"… {55 - (height - 4)} more lines" in shown(terminal)) == (height > 3)
    assert shown(terminal) == ""


def test_a_table_that_just_fits_is_whole(tty: Callable[..., Console]) -> None:
    terminal = tty(14)
    with ShowProgress(terminal) as progress:
        progress.passed(0, 2, known_within(0.01, *range(1, 7)))
        assert "matvec 6 " in shown(terminal)
        assert "more lines" not in shown(terminal)
    assert shown(terminal) == ""


def test_a_table_follows_a_terminal_that_becomes_narrower(tty: Callable[..., Console]) -> None:
    terminal = tty()
    with ShowProgress(terminal) as progress:
        progress.passed(0, 2, [*known_within(0.01, 16), make_record("gpu", case=make_case(size=16))])
        assert max(map(len, shown(terminal).splitlines())) > 60
        terminal.width = 60
        progress.doing("matvec 16", 1, 0, 1)
        assert max(map(len, shown(terminal).splitlines())) <= 60
        assert "1e-07" in shown(terminal)  # the last column


def test_one_pass_alone_has_no_table_but_the_final_one(tty: Callable[..., Console]) -> None:
    terminal = tty()
    with ShowProgress(terminal) as progress:
        progress.passed(0, 1, known_within(0.01, 16))
        assert "latency" not in shown(terminal)


def test_no_thread_draws_while_something_is_timed(tty: Callable[..., Console]) -> None:
    before = threading.enumerate()
    with ShowProgress(tty()) as progress:
        progress.passed(0, 2, known_within(0.01, 16))
        assert threading.enumerate() == before


def test_a_terminal_that_can_not_redraw_gets_lines(
    tty: Callable[..., Console], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = tty()
    monkeypatch.setenv("TERM", "dumb")
    with ShowProgress(Console(force_terminal=True, file=terminal.file)) as progress:
        progress.doing("matvec 16", 0, 0, 1)
        progress.passed(0, 2, known_within(0.01, 16))
    said = capsys.readouterr().err
    assert said.splitlines() == ["[1/1] matvec 16", "pass 1 of 2: latencies within ±1.0% to ±1.0%"]
    assert shown(terminal) == ""
