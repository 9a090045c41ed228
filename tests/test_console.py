import io
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import (
    facts_of,
    make_case,
    make_failed,
    make_record,
    make_timing,
    noisy_timing,
)
from rich.console import Console

from jaxaccel.analyze.compare import pair
from jaxaccel.analyze.stats import SEVERE_FLAGS
from jaxaccel.measure.sampling import Sampled
from jaxaccel.publish import console
from jaxaccel.publish.numbers import interval, rate, ratio, seconds
from jaxaccel.publish.progress import ShowProgress
from jaxaccel.records import Flag, Metric, Problem, Record, Speedup, Status, Verdict

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
        (5e6, "5.00 MFLOP/s"),
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
    assert console.speedup_words(speedup) == words
    within = console.speedup_words(replace(speedup, ci_over="rounds"))
    assert within == f"{words} within one process"


def test_a_speedup_without_an_interval_shows_none() -> None:
    speedup = Speedup(ratio=3, ci95=None, ci_over="passes", verdict=Verdict.undecided)
    assert console.speedup_words(speedup) == "undecided: speedup of the GPU 3x"


def test_a_case_is_named_by_what_is_not_the_default() -> None:
    assert console.case_name(make_case()) == "matvec 1024"
    named = console.case_name(make_case(variant="einsum", dtype="float16", precision="high"))
    assert named == "matvec 1024 einsum float16 high"


def test_a_device_is_named_with_the_cores_of_a_cpu() -> None:
    assert console.device_name(make_record("cpu")) == "cpu: AMD EPYC, 8 cores"
    assert console.device_name(make_record("gpu")) == "gpu: NVIDIA H200"
    assert console.device_name(make_failed("gpu")) == "gpu: –"


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
    assert "18.1 µs ±0.0% within one process, n=100" in text
    assert "9.00 µs (n=6) within one process, n=6, 8 calls queued" in text
    assert "500 ms (cache miss)" in text
    assert "25.0 GFLOP/s" in text
    assert "50.0 GB/s" in text
    assert "1.0e-07 of 1.0e-05 tolerated" in text


def test_intervals_over_passes_are_told_from_those_within_a_process(show: Show) -> None:
    record = make_record("cpu", timings={"latency": noisy_timing(1e-4, passes=5)})
    text = one_line(show(console.show_records, [record]))
    assert "over 5 passes" in text
    assert "within one process" not in text


def test_a_pair_is_shown_with_its_speedup(show: Show) -> None:
    records = [make_record("cpu", timings={"latency": noisy_timing(3e-4, seed=1)})]
    records += [make_record("gpu", timings={"latency": noisy_timing(1e-4, seed=2)})]
    assert "latency: the GPU is 3x as fast as the CPU" in one_line(show(console.show_records, records))
    assert "as fast" not in show(console.show_records, records[:1])


def test_flags_are_told_in_words_and_the_severe_ones_marked(show: Show) -> None:
    flags = (
        Flag(name="bimodal", metric="latency", message="two groups"),
        Flag(name="host busy", metric=None, message="others used 4 cores"),
        Flag(name="outliers", metric="throughput", message="7% far above"),
    )
    lines = show(console.show_records, [make_record("cpu", warnings=flags)]).splitlines()
    assert "! cpu, latency bimodal: two groups" in lines
    assert "! cpu, host busy: others used 4 cores" in lines
    assert "  cpu, throughput outliers: 7% far above" in lines


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
    "several workloads": [
        make_record(d, case=make_case(workload=w)) for w in ("dot", "matvec", "dot") for d in ("cpu", "gpu")
    ],
}


@pytest.mark.parametrize("records", ROWS.values(), ids=ROWS)
def test_what_a_sweep_measured_fits(show: Show, records: Sequence[Record]) -> None:
    assert_fits(show(console.show_comparisons, pair(records)))


def test_a_sweep_is_a_row_a_case(show: Show) -> None:
    text = show(console.show_comparisons, pair(sweep(16, 1024)))
    assert "gpu: NVIDIA H200" in text
    assert "cpu: AMD EPYC, 8 cores" in text
    assert "8 cores" in text.split("speedup")[0].rsplit("\n\n")[-1]  # beside every speedup
    small, large = (line for line in text.splitlines() if line.startswith("matvec"))
    assert small.startswith("matvec 16")
    assert large.startswith("matvec 1024")
    assert re.search(r"30\d µs ±\d\.\d%\s+10\d µs ±\d\.\d%\s+3x \[2\.\d+, 3\.\d+\]\s+gpu", large)
    assert large.rstrip().endswith("1e-07")


def test_cases_that_differ_in_a_parameter_alone_can_be_told_apart(show: Show) -> None:
    cases = [make_case(workload="mlp", params={"batch": batch}) for batch in (128, 512)]
    text = show(console.show_comparisons, pair([make_record("cpu", case=case) for case in cases]))
    first, second = (line for line in text.splitlines() if line.startswith("mlp"))
    assert "128" in first
    assert "512" in second


def test_the_larger_error_of_the_two_is_shown(show: Show) -> None:
    cpu, gpu = sweep(16)
    assert gpu.accuracy is not None
    gpu = replace(gpu, accuracy=replace(gpu.accuracy, relative_error=3e-4))
    assert "3e-04" in show(console.show_comparisons, pair([cpu, gpu]))


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


def test_markup_in_the_name_of_a_folder_is_shown_as_it_is(show: Show) -> None:
    folder = Path("/tmp/[red]/a[/b]")
    text = show(console.show_places, folder, found=1, asked=2, interrupted=False)
    assert text == f"Records: {folder}\n"


# --- places and progress ---------------------------------------------------------------------------


def test_an_interrupted_command_says_what_is_there(show: Show) -> None:
    text = show(console.show_places, Path("outputs/x"), found=3, asked=8, interrupted=True)
    assert text.splitlines() == ["interrupted: 3 of 8 results are there", "Records: outputs/x"]


def test_a_long_folder_stays_in_one_piece(show: Show) -> None:
    folder = Path("/a") / ("b" * 200)
    assert str(folder) in show(console.show_places, folder, found=1, asked=1, interrupted=False)


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


def test_after_a_pass_the_widths_of_the_intervals_are_told(
    show: Show, capsys: pytest.CaptureFixture[str]
) -> None:
    timing = make_timing([[1.0] * 6] * 5)
    narrow, wide = replace(timing, ci95_s=(0.99, 1.01)), replace(timing, ci95_s=(0.95, 1.05))
    records = [make_record("cpu", timings={"latency": narrow, "throughput": wide}), make_failed("gpu")]
    with ShowProgress(console.make_console()) as progress:
        progress.passed(0, 1, records)
        progress.passed(1, 5, records)
        progress.passed(2, 5, [make_record(timings={"latency": replace(wide, ci95_s=None)})])
    said = capsys.readouterr()
    assert said.err.splitlines() == ["pass 2 of 5: intervals of ±1.0% to ±5.0%"]
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
        assert text.count("latency of a call") == 1
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
            assert (f"… {54 - (height - 4)} more lines" in shown(terminal)) == (height > 3)
    assert shown(terminal) == ""


def test_a_table_that_just_fits_is_whole(tty: Callable[..., Console]) -> None:
    terminal = tty(13)
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
    assert said.splitlines() == ["[1/1] matvec 16", "pass 1 of 2: intervals of ±1.0% to ±1.0%"]
    assert shown(terminal) == ""
