import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import CPU_ENVIRONMENT, make_case, make_failed, make_record, make_timing, make_timings

from jaxaccel.analyze.baseline import ONE_PASS
from jaxaccel.records import Flag, Record, Timing, store
from jaxaccel.report import main, read

# --- builders --------------------------------------------------------------------------------------


def spread(center_s: float, passes: int = 5, by: float = 0.005) -> Timing:
    return make_timing(*[[[center_s * np.exp(step)] * 6] for step in np.linspace(-by, by, passes)])


def arm(
    device: str = "cpu", factor: float = 1.0, *, passes: int = 5, by: float = 0.005, **changes: Any
) -> Record:
    timings = {
        "latency": spread(1e-4 * factor, passes, by),
        "throughput": spread(8e-5 * factor, passes, by),
    }
    return make_record(device, **({"timings": timings, "warnings": ()} | changes))


Said = Any


@pytest.fixture
def report(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """report(new, base, *options): the exit code, standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.chdir(tmp_path)

    def run(new: Sequence[Record], base: Sequence[Record] | None, *options: str) -> tuple[int, str, str]:
        store.save_all(new, tmp_path / "new")
        arguments = [str(tmp_path / "new")]
        if base is not None:
            store.save_all(base, tmp_path / "base")
            arguments += ["--baseline", str(tmp_path / "base")]
        if base is None and "--format" not in options:
            options = (*options, "--format", "table")  # html is this table, and a page: see test_page
        code = main([*arguments, *options])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def refused(said: tuple[int, str, str]) -> str:
    """The one line of a refusal."""
    code, out, err = said
    assert (code, out) == (2, "")
    assert err.count("\n") == 1, err
    return err


# --- verdicts and exit codes -----------------------------------------------------------------------


def test_the_same_records_are_the_same(report: Said) -> None:
    code, out, err = report([arm("cpu"), arm("gpu")], [arm("cpu"), arm("gpu")])
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "0 worse beyond 5%, 0 better, 4 same, 0 undecided"


def test_what_became_surely_slower_fails(report: Said) -> None:
    code, out, _ = report([arm("cpu", 1.1), arm("gpu", 0.9)], [arm("cpu"), arm("gpu")])
    assert code == 1
    assert out.splitlines()[-1] == "2 worse beyond 5%, 2 better, 0 same, 0 undecided"
    (row,) = [line for line in out.splitlines() if "cpu" in line and "latency" in line]
    assert row.split() == ["matvec", "1024", "cpu", "latency", "100", "µs", "110", "µs", *row.split()[8:]]
    assert "1.100x [1.094, 1.106]" in row
    assert row.rstrip().endswith("worse >5%")


@pytest.mark.parametrize("limit", ["10%", "0.1", " 10 %", "10.0%", "1e-1"])
def test_the_limit_is_a_percentage_or_a_share(report: Said, limit: str) -> None:
    code, out, _ = report([arm("cpu", 1.08)], [arm("cpu")], "--fail-over", limit)
    assert code == 0
    assert out.splitlines()[-1] == "0 worse beyond 10%, 2 worse within 10%, 0 better, 0 same, 0 undecided"
    assert "worse ≤10%" in out
    assert report([arm("cpu", 1.12)], [arm("cpu")], "--fail-over", limit)[0] == 1


def test_what_is_not_sure_does_not_fail(report: Said) -> None:
    code, out, _ = report([arm("cpu", 1.3, by=0.3)], [arm("cpu", by=0.3)])
    assert code == 0
    assert "2 undecided: neither a change nor its absence is sure" in out


def test_one_pass_decides_nothing_and_says_why(report: Said) -> None:
    code, out, _ = report([arm("cpu", 2.0, passes=1)], [arm("cpu")])
    assert code == 0
    assert f"2 undecided: {ONE_PASS}" in out
    assert out.splitlines()[-1] == "0 worse beyond 5%, 0 better, 0 same, 2 undecided"


def test_of_several_records_of_an_arm_the_latest_ok_one_counts(report: Said) -> None:
    old = arm("cpu", 3.0, started_at="2026-01-01T00:00:00+00:00", sweep_id="old")
    new = arm("cpu", 1.0, started_at="2026-01-02T00:00:00+00:00", sweep_id="new")
    broken = make_failed("cpu", started_at="2026-01-03T00:00:00+00:00", sweep_id="broken")
    assert report([new, broken, old], [new])[0] == 0
    assert report([new], [broken, old, new])[0] == 0
    assert report([broken, old], [new])[0] == 1


# --- what is not compared --------------------------------------------------------------------------


def test_what_has_no_counterpart_is_listed(report: Said) -> None:
    new = [arm("cpu"), arm("gpu"), arm("cpu", case=make_case(7))]
    base = [arm("cpu"), make_failed("gpu", message="no such [thing]"), arm("cpu", case=make_case(8))]
    code, out, _ = report(new, base)
    assert code == 0
    lines = out.splitlines()
    assert "not compared, only in NEW: matvec 7 float32 highest on the cpu" in lines
    assert "not compared, only in BASE: matvec 8 float32 highest on the cpu" in lines
    assert "not compared, failed in BASE: no such [thing]: matvec 1024 float32 highest on the gpu" in lines
    assert lines[-1] == "0 worse beyond 5%, 0 better, 2 same, 0 undecided"


def test_nothing_in_common_is_bad_input_and_still_listed(report: Said) -> None:
    code, out, err = report([arm("cpu")], [arm("gpu")])
    assert code == 2
    assert "only in NEW" in out
    assert "only in BASE" in out
    assert err.startswith("jaxaccel: `--baseline` must have")
    assert err.count("\n") == 1


# --- refusals --------------------------------------------------------------------------------------

JOULES = "energy, while calls are queued"  # the title of a table below the others
ELSEWHERE = {**CPU_ENVIRONMENT, "host_id": "def", "cpu": {"model": "EPYC", "cores": 16}}
UPDATED = {**CPU_ENVIRONMENT, "python": "3.13.0", "packages": {"jax": "0.12.0"}}


@pytest.mark.parametrize(
    ("changes", "needed", "told"),
    [
        ({"environment": ELSEWHERE}, "machine", "other machine: host_id abc → def, cpu.cores 8 → 16"),
        (
            {"environment": UPDATED},
            "versions",
            "other versions: python 3.12.4 → 3.13.0, jax unknown → 0.12.0",
        ),
        ({"case": make_case(precision="default")}, "precision", "precision highest → default"),
    ],
)
def test_what_could_explain_a_change_is_refused_unless_it_is_allowed(
    report: Said, changes: Any, needed: str, told: str
) -> None:
    new, base = [arm("cpu", 1.1, **changes)], [arm("cpu")]
    others = ",".join(sorted({"machine", "versions", "precision"} - {needed}))
    assert f"--allow {needed})" in refused(report(new, base))
    line = refused(report(new, base, "--allow", others))
    assert told in line
    assert f"--allow {others},{needed})" in line
    code, out, err = report(new, base, "--allow", needed)
    assert (code, err) == (1, "")
    assert told in out
    assert "2 worse beyond 5%" in out


def test_all_that_differs_is_refused_in_one_line(report: Said) -> None:
    new = [arm("cpu", environment={**ELSEWHERE, "python": "3.13.0"})]
    line = refused(report(new, [arm("cpu")]))
    assert "machine" in line
    assert "python 3.12.4 → 3.13.0" in line
    assert "--allow machine,versions)" in line
    assert report(new, [arm("cpu")], "--allow", "machine, versions")[0] == 0


def test_only_what_is_compared_can_be_refused(report: Said) -> None:
    elsewhere = arm("cpu", case=make_case(7), environment=ELSEWHERE)
    assert report([arm("cpu")], [arm("cpu"), elsewhere])[0] == 0


def test_allowed_precisions_are_shown_at_each_case(report: Said) -> None:
    new = [arm("cpu", case=make_case(precision="default")), arm("gpu")]
    base = [arm("cpu"), arm("gpu")]
    code, out, _ = report(new, base, "--allow", "precision")
    assert code == 0
    assert "! other precision: precision highest → default" in out
    assert out.count("(base") == 2
    rows = list(csv.DictReader(io.StringIO(report(new, base, "--allow", "precision", "--format", "csv")[1])))
    found = [(row["device"], row["precision"], row["base_precision"]) for row in rows[::2]]
    assert found == [("cpu", "default", "highest"), ("gpu", "highest", "highest")]


def test_other_flags_are_told_and_not_refused(report: Said) -> None:
    base = arm("cpu")
    new = replace(base, arm=replace(base.arm, flags={**base.arm.flags, "XLA_FLAGS": "--fast"}))
    code, out, _ = report([new], [base])
    assert code == 0
    assert "! other flags: XLA_FLAGS not set → --fast" in out


# --- arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limit", ["", "x", "%", "5%%", "5% ish", "nan", "inf", "nan%", "inf%", "5", "1", "-0.1"]
)
def test_a_wrong_limit_is_refused(report: Said, limit: str) -> None:
    line = refused(report([arm()], [arm()], f"--fail-over={limit}"))
    assert (
        f"`--fail-over` must be a percentage such as 5%, or a share from 0 to below 1, got {limit!r}" in line
    )


def test_a_limit_of_zero_and_of_a_multiple_are_allowed() -> None:
    assert read(["new", "--baseline", "base", "--fail-over", "0"]).fail_over == 0
    assert read(["new", "--baseline", "base", "--fail-over", "150%"]).fail_over == 1.5
    assert read(["new", "--baseline", "base"]).fail_over == 0.05


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--allow", "weather"), "`--allow` must be one of machine, versions, precision, got 'weather'"),
        (("--allow", "machine,"), "`--allow` must be one of machine, versions, precision, got ''"),
        (("--allow="), "`--allow` must be one of machine, versions, precision, got ''"),
        (("--format", "pdf"), "`--format` must be one of html, markdown, table, csv, json, got 'pdf'"),
        (("--fail-over",), "--fail-over: expected one argument"),
        (("--nonsense",), "--nonsense"),
    ],
)
def test_other_wrong_options_are_refused(report: Said, options: Any, told: str) -> None:
    options = (options,) if isinstance(options, str) else options
    assert told in refused(report([arm()], [arm()], *options))


@pytest.mark.parametrize("options", [("--fail-over", "5%"), ("--allow", "machine")])
def test_options_of_a_baseline_need_one(report: Said, options: tuple[str, ...]) -> None:
    assert f"`{options[0]}` is for comparing with a `--baseline`" in refused(report([arm()], None, *options))


def test_places_that_hold_no_records_are_refused(report: Said, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "record.json").write_text("{}")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    for place in ("gone", "empty", "record.json", "bytes.json"):
        line = refused(report([arm()], None, "--baseline", place))
        assert "`--baseline`" in line
        assert place in line or place == "bytes.json"


def test_nothing_at_all_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "NEW" in capsys.readouterr().err


@pytest.mark.slow
def test_help_is_quick_to_import_and_needs_no_numbers(environment: dict[str, str]) -> None:
    look = "import sys, jaxaccel.report as r; r.make_parser(); print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", look], env=environment, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"numpy", "scipy", "rich", "jax", "hydra"}


def test_help_names_all_choices(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for word in (
        "--price",
        "--price-date",
        "--currency",
        "--baseline",
        "--fail-over",
        "5%",
        "machine,versions,precision",
        "table, csv, json",
    ):
        assert word in said


# --- the table -------------------------------------------------------------------------------------


def test_the_table_fits_and_is_grouped_by_workload(report: Said) -> None:
    long = {"variant": "a_rather_long_variant", "dtype": "bfloat16", "precision": "default"}
    cases = [make_case(2**20, workload=name, **long) for name in ("matvec", "mlp", "matvec")]
    cases[2] = replace(cases[2], size=1)
    records = [arm(device, case=case) for case in cases for device in ("cpu", "gpu")]
    code, out, _ = report(records, records)
    assert code == 0
    table = out.splitlines()
    assert max(map(len, table)) <= 100
    order = [line.split()[0] for line in table if "latency" in line]
    assert order == ["matvec"] * 4 + ["mlp"] * 2


def test_nothing_in_a_row_is_cut_off(report: Said) -> None:
    timings = {"latency": spread(1.0, 5, 1.0), "throughput": spread(1.0, 5, 1.0)}
    slow = {"latency": spread(123.4, 5, 1.0), "throughput": spread(123.4, 5, 1.0)}
    _, out, _ = report([arm(timings=slow)], [arm(timings=timings)])
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 100


def test_cases_that_only_differ_in_parameters_or_seed_can_be_told_apart(report: Said) -> None:
    cases = [
        make_case(params={"batch": 8}),
        make_case(params={"batch": 16}),
        make_case(9),
        make_case(9, seed=1),
    ]
    records = [arm(case=case) for case in cases]
    _, out, _ = report(records, records)
    for words in ("batch=8", "batch=16", "seed=0", "seed=1"):
        assert out.count(words) == 2, words


def test_names_with_brackets_and_colons_are_shown_as_they_are(report: Said) -> None:
    records = [arm(case=make_case(params={"kind": kind})) for kind in ("[red]:net:", "[/b]")]
    code, out, _ = report(records, [*records, arm("gpu", case=make_case(params={"kind": "[x]:cat:"}))])
    assert code == 0
    for name in ("[red]:net:", "[/b]", "[x]:cat:"):
        assert f"kind={name}" in out


def test_severe_flags_are_marked(report: Said) -> None:
    new = arm(warnings=(Flag(name="bimodal", metric="latency", message=""),))
    _, out, _ = report([new], [arm()])
    assert [
        line.rstrip().endswith("!") for line in out.splitlines() if "100 µs" in line or "80.0 µs" in line
    ] == [
        True,
        False,
    ]
    assert "! look twice" in out


# --- other formats ---------------------------------------------------------------------------------


def test_csv_has_a_row_a_ratio_and_one_for_each_that_is_missing(report: Said) -> None:
    new = [arm("cpu", 1.1, environment=ELSEWHERE), arm("cpu", case=make_case(7), passes=1)]
    base = [arm("cpu"), arm("cpu", case=make_case(7)), arm("gpu")]
    code, out, err = report(new, base, "--allow", "machine", "--format", "csv")
    assert (code, err) == (1, "")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["verdict"] for row in rows] == ["worse", "worse", "undecided", "undecided", ""]
    first, single, missing = rows[0], rows[2], rows[4]
    assert (first["case_id"], first["device"], first["metric"]) == (new[0].case_id, "cpu", "latency")
    assert float(first["ratio"]) == pytest.approx(1.1)
    assert float(first["new_s"]) == pytest.approx(1.1e-4)
    assert float(first["ratio_ci_family_low"]) < float(first["ratio_ci95_low"]) < 1.1
    assert (first["beyond_limit"], first["differs"]) == ("True", "machine")
    assert (single["reason"], single["ratio_ci95_low"], single["new_passes"]) == (ONE_PASS, "", "1")
    assert (missing["device"], missing["reason"], missing["ratio"]) == ("gpu", "only in BASE", "")


def test_json_is_the_whole_comparison(report: Said) -> None:
    new = [arm("cpu", 1.1, environment=ELSEWHERE), arm("gpu")]
    code, out, err = report(new, [arm("cpu")], "--allow", "machine", "--format", "json")
    assert (code, err) == (1, "")
    found = json.loads(out)
    assert found["failed"] is True
    assert found["summary"] == "2 worse beyond 5%, 0 better, 0 same, 0 undecided"
    assert (found["fail_over"], found["among"]) == (0.05, 2)
    assert {entry["name"] for entry in found["differences"]} == {"host_id", "cpu.cores"}
    assert [entry["reason"] for entry in found["unmatched"]] == ["only in NEW"]
    change = found["changes"][0]
    assert (change["case"]["size"], change["device"], change["metric"]) == (1024, "cpu", "latency")
    assert change["judged"]["verdict"] == "worse"
    assert change["judged"]["ratio"] == pytest.approx(1.1)
    assert len(change["judged"]["ci95"]) == 2


# --- without a baseline ----------------------------------------------------------------------------


def test_records_by_themselves_are_the_sweeps_table_and_its_failures(report: Said) -> None:
    records = [
        arm("cpu"),
        arm("gpu", 0.5),
        arm("cpu", case=make_case(7)),
        make_failed("gpu", case=make_case(7)),
    ]
    code, out, err = report(records, None)
    assert (code, err) == (0, "")
    assert "speedup" in out
    assert "2.00x" in out
    assert "failed on the gpu: matvec 7" in out
    assert "no GPU that JAX supports" in out


def test_records_by_themselves_have_the_other_formats_too(report: Said) -> None:
    records = [arm("cpu"), arm("gpu")]
    (row,) = csv.DictReader(io.StringIO(report(records, None, "--format", "csv")[1]))
    (entry,) = json.loads(report(records, None, "--format", "json")[1])
    assert float(row["latency_speedup"]) == entry["latency_speedup"]
    assert row["workload"] == entry["workload"] == "matvec"


def test_the_other_formats_have_what_the_table_leaves_out(report: Said) -> None:
    records = [
        make_record(device, timings=make_timings(device, time_s, transfer_s=transfer_s))
        for device, time_s, transfer_s in (("cpu", 3e-4, 1e-9), ("gpu", 1e-4, 4.1e-3))
    ]
    (row,) = csv.DictReader(io.StringIO(report(records, None, "--format", "csv")[1]))
    (entry,) = json.loads(report(records, None, "--format", "json")[1])
    assert (row["break_even_calls"], entry["break_even_calls"]) == ("23", 23)
    assert (row["gpu_limit"], entry["gpu_limit"]) == ("memory", "memory")
    assert (row["cpu_energy_per_call_j"], entry["cpu_energy_per_call_j"]) == ("", None)
    assert entry.keys() == row.keys()


# --- several machines ------------------------------------------------------------------------------

GPU_BOX = {
    **CPU_ENVIRONMENT,
    "host_id": "def",
    "cpu": {"model": "Xeon", "cores": 16},
    "os": "Linux 6.18",
    "gpu": {"name": "H100", "driver": "580.1"},
    "packages": {"jax": "0.11.2", "jaxlib": "0.11.2"},
}
CPU_BOX = {**CPU_ENVIRONMENT, "packages": {"jax": "0.11.2", "jaxlib": "0.11.2"}}


def boxes(*, passes: int = 5, **changes: Any) -> list[Record]:
    """A CPU of one machine, and a GPU of another that is three times as fast."""
    return [
        arm("cpu", passes=passes, environment=CPU_BOX),
        arm("gpu", 1 / 3, passes=passes, **({"environment": GPU_BOX} | changes)),
    ]


def line_of(text: str, start: str) -> list[str]:
    """The words of the only line that starts with `start`."""
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    return line.split()


def test_folders_of_two_machines_pair_and_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    cpu, gpu = boxes()
    for record, name in ((cpu, "cpu_box"), (gpu, "gpu_box")):
        store.save_all([record], tmp_path / name)
    assert main([str(tmp_path / "cpu_box"), str(tmp_path / "gpu_box")]) == 0
    said = capsys.readouterr().out.partition(JOULES)[0]
    assert "\ntwo machines: CPU on A, GPU on B\n" in said
    assert "two machines: measured apart" in said
    found = line_of(said, "matvec 1024")
    assert found[2:10] == ["100", "µs", "33.3", "µs", "3.00x", "[2.98,", "3.02]", "gpu"]
    assert max(map(len, said.splitlines())) <= 100


def test_both_environments_stand_side_by_side_with_marks_where_they_differ(report: Said) -> None:
    _, out, _ = report(boxes(), None)
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[:15] if line.strip()}
    assert rows["machine"] == ["A", "B"]
    assert rows["host"] == ["abc", "def", "≠"]
    assert rows["CPU"] == ["EPYC", "Xeon", "≠"]
    assert rows["cores"] == ["8", "16", "≠"]
    assert rows["GPU"] == ["–", "H100"]  # that of A is not known, so it does not differ
    assert rows["driver"] == ["–", "580.1"]
    assert rows["OS"] == ["–", "Linux", "6.18"]
    assert rows["Python"] == ["3.12.4", "3.12.4"]
    assert rows["jax"] == rows["jaxlib"] == ["0.11.2", "0.11.2"]
    assert "speedup is of these versions" not in out


def test_what_no_record_tells_has_no_row(report: Said) -> None:
    records = [arm("cpu"), arm("gpu", environment=ELSEWHERE)]
    _, out, _ = report(records, None)
    table = out.split("≠: not the same")[0]
    for name in ("host", "CPU", "cores", "Python"):
        assert f"\n{name} " in table
    for name in ("GPU", "driver", "OS", "jax"):
        assert f"\n{name} " not in table


def test_other_versions_of_jax_are_told_in_words(report: Said) -> None:
    packages = {"jax": "0.12.0", "jaxlib": "0.12.0", "numpy": "9"}
    newer = {**GPU_BOX, "packages": packages}
    told = "jax and jaxlib 0.11.2 for the CPU (machine A), 0.12.0 for the GPU (machine B)"
    _, out, _ = report(boxes(environment=newer), None)
    assert f"! {told}: the speedup is of these versions too" in " ".join(out.split())
    (entry,) = json.loads(report(boxes(environment=newer), None, "--format", "json")[1])
    assert entry["other_versions"] == told
    at_home = [arm("cpu", environment=CPU_BOX), arm("gpu", environment={**CPU_BOX, "packages": packages})]
    _, out, _ = report(at_home, None)
    assert "! jax and jaxlib 0.11.2 for the CPU, 0.12.0 for the GPU: the speedup" in out
    assert "machine" not in out


def test_two_commands_on_one_machine_are_not_two_machines(report: Said) -> None:
    records = [arm("cpu", sweep_id="1"), arm("gpu", sweep_id="2", paired=False)]
    _, out, _ = report(records, None)
    assert "machine" not in out
    (entry,) = json.loads(report(records, None, "--format", "json")[1])
    assert (entry["machines"], entry["interleaved"]) == ("one machine", False)
    assert (entry["cpu_machine"], entry["gpu_machine"]) == ("A", "A")


def test_one_pass_on_two_machines_is_undecided_and_says_why(report: Said) -> None:
    _, out, _ = report(boxes(passes=1), None)
    assert "3.00x  ?" in out
    reason = "one pass on each side: how processes differ is unknown"
    assert f"! no interval between A and B (1 case): {reason}" in out
    (entry,) = json.loads(report(boxes(passes=1), None, "--format", "json")[1])
    assert (entry["latency_verdict"], entry["latency_reason"]) == ("undecided", reason)
    assert (entry["latency_speedup_ci95_low"], entry["latency_ci_over"]) == (None, "passes")


def test_rows_say_what_was_measured_where(report: Said) -> None:
    (row,) = csv.DictReader(io.StringIO(report(boxes(), None, "--format", "csv")[1]))
    assert (row["machines"], row["interleaved"]) == ("two machines", "False")
    assert (row["cpu_machine"], row["cpu_host_id"], row["cpu_jax"]) == ("A", "abc", "0.11.2")
    assert (row["gpu_machine"], row["gpu_host_id"], row["gpu_driver"]) == ("B", "def", "580.1")
    assert (row["gpu_os"], row["gpu_python"], row["gpu_cores"]) == ("Linux 6.18", "3.12.4", "16")
    (alone,) = csv.DictReader(io.StringIO(report([arm("cpu")], None, "--format", "csv")[1]))
    assert alone.keys() == row.keys()
    assert (alone["machines"], alone["cpu_machine"], alone["gpu_machine"]) == ("", "A", "")


def test_a_cpu_of_two_machines_is_shown_under_each_and_never_averaged(report: Said) -> None:
    small = {**CPU_BOX, "host_id": "third", "cpu": {"model": "Arm", "cores": 4}}
    third = arm("cpu", 2.0, environment=small, arm_id="third")
    both_on_b = arm("cpu", 0.5, environment=GPU_BOX, arm_id="b")
    _, out, _ = report([*boxes(), third, both_on_b], None)
    titles = [line for line in out.splitlines() if line.startswith(("two machines: CPU", "machine B"))]
    assert titles == ["machine B", "two machines: CPU on A, GPU on B", "two machines: CPU on C, GPU on B"]
    ratios = [line.split()[6] for line in out.partition(JOULES)[0].splitlines() if line.startswith("matvec")]
    assert ratios == ["1.50x", "3.00x", "6.00x"]
    for words in ("4 cores", "8 cores", "16 cores"):
        assert out.count(words) == 1, words  # in the title of its own table
    rows = json.loads(report([*boxes(), third, both_on_b], None, "--format", "json")[1])
    assert [row["latency_speedup"] for row in rows] == pytest.approx([1.5, 3, 6])


def test_a_failure_elsewhere_is_told_though_it_stands_in_no_row(report: Said) -> None:
    cpu, gpu = boxes()
    _, out, _ = report([cpu, make_failed("gpu"), replace(gpu, sweep_id="another")], None)
    assert "two machines: CPU on A, GPU on B" in out
    table, _, rest = out.partition(JOULES)
    assert (table.count("matvec 1024 "), rest.count("matvec 1024 ")) == (1, 2)  # and the failure
    assert "failed on the gpu: matvec 1024 float32 highest\n  no GPU that JAX supports" in out


# --- money -----------------------------------------------------------------------------------------

PRICES = ("--price", "cpu=0.40", "--price", "gpu=2.10", "--price-date", "2026-11-26")


def test_the_prices_and_their_date_stand_above_what_calls_cost(report: Said) -> None:
    code, out, err = report([arm("cpu"), arm("gpu", 0.1)], None, *PRICES, "--currency", "EUR")
    assert (code, err) == (0, "")
    times, costs = out.split("prices of ")
    assert "cost" not in times
    assert costs.startswith("2026-11-26, as given, per hour: cpu 0.40 EUR, gpu 2.10 EUR\n")
    # A million calls of 80 µs are 80 s: 0.40 / 45 = 0.00889; on the GPU 8 s, 2.10 / 450 = 0.00467.
    found = line_of(costs, "matvec 1024")
    assert (found[2], found[4]) == ("0.00889", "0.00467")
    assert found[3] == "±0.7%"
    assert found[6:9] == ["gpu", "1.90x", "10.0"]
    assert "by throughput (calls are queued)" in costs
    assert "here it is 5.25" in costs


def test_costs_are_in_the_other_formats_under_names_with_units(report: Said) -> None:
    records = [arm("cpu"), arm("gpu", 0.1)]
    (row,) = csv.DictReader(io.StringIO(report(records, None, *PRICES, "--format", "csv")[1]))
    (entry,) = json.loads(report(records, None, *PRICES, "--format", "json")[1])
    assert entry.keys() == row.keys()
    assert (entry["price_date"], entry["price_currency"]) == ("2026-11-26", None)
    assert (entry["cpu_price_per_hour"], entry["gpu_price_per_hour"]) == (0.40, 2.10)
    assert entry["price_ratio_gpu_over_cpu"] == pytest.approx(5.25)
    assert entry["cpu_cost_per_million_calls"] == pytest.approx(0.40 * 80 / 3600)
    assert entry["gpu_cost_per_million_calls"] == pytest.approx(2.10 * 8 / 3600)
    low, high = (entry[f"gpu_cost_per_million_calls_ci95_{side}"] for side in ("low", "high"))
    assert low < 2.10 * 8 / 3600 < high
    assert (entry["cpu_cost_by"], entry["cpu_cost_ci_over"]) == ("throughput", "passes")
    assert entry["cost_ratio_cpu_over_gpu"] == pytest.approx(10 / 5.25)
    assert entry["cheaper"] == "gpu"
    assert entry["flip_price_ratio_gpu_over_cpu"] == entry["throughput_speedup"] == pytest.approx(10)
    for side in ("low", "high"):
        assert entry[f"flip_price_ratio_ci95_{side}"] == entry[f"throughput_speedup_ci95_{side}"]
        expected = entry[f"throughput_speedup_ci95_{side}"] / 5.25
        assert entry[f"cost_ratio_ci95_{side}"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("factor", "expected", "verdict"),
    [(1 / 4, "cpu 1.31x", "cpu"), (1 / 5.25, "equal", "equivalent"), (1 / 8, "gpu 1.52x", "gpu")],
)
def test_the_faster_side_is_not_always_the_cheaper_one(
    report: Said, factor: float, expected: str, verdict: str
) -> None:
    records = [arm("cpu", by=0.001), arm("gpu", factor, by=0.001)]
    _, out, _ = report(records, None, *PRICES)
    assert expected in out.split("prices of")[1]
    (entry,) = json.loads(report(records, None, *PRICES, "--format", "json")[1])
    assert (entry["cheaper"], entry["latency_verdict"]) == (verdict, "gpu")


def test_an_arm_alone_and_a_device_without_a_price_have_what_is_known(report: Said) -> None:
    alone = report([arm("cpu")], None, *PRICES)[1].split("prices of")[1]
    assert line_of(alone, "matvec 1024")[2] == "0.00889"
    assert "GPU: cost" not in alone
    assert "cheaper" not in alone
    one_price = report([arm("cpu"), arm("gpu")], None, "--price", "gpu=2.10")[1].split("prices of")[1]
    assert "CPU: cost" not in one_price
    assert "cheaper" not in one_price
    none = report([arm("cpu")], None, "--price", "gpu=2.10")
    assert (none[0], none[2]) == (0, "")
    assert "no cost: nothing here was measured on the gpu" in none[1]


def test_without_throughput_costs_are_by_latency_and_say_so(report: Said) -> None:
    waits = [arm(device, timings={"latency": spread(1e-4)}) for device in ("cpu", "gpu")]
    _, out, _ = report(waits, None, *PRICES)
    assert "by latency (one waits for each call)" in out
    _, out, _ = report([*waits, arm("cpu", case=make_case(7))], None, *PRICES)
    assert "by throughput" in out
    assert "² by latency (one waits for each call)" in out
    assert line_of(out.split("prices of")[1], "matvec 1024")[3].endswith("²")


def test_two_machines_with_one_pass_each_have_costs_and_no_verdict(report: Said) -> None:
    _, out, _ = report(boxes(passes=1), None, *PRICES)
    costs = out.split("prices of")[1]
    assert "\ntwo machines: CPU on A, GPU on B\n" in costs
    found = line_of(costs, "matvec 1024")
    assert found[-2:] == ["?", "3.00"]
    assert "! no interval between A and B (1 case): one pass on each side" in costs


def test_a_price_for_devices_of_several_machines_says_so(report: Said) -> None:
    third = arm("cpu", environment={**CPU_BOX, "host_id": "third"}, arm_id="third")
    _, out, _ = report([*boxes(), third], None, *PRICES)
    assert "one price for all: the cpus of 2 machines are taken to cost the same" in out
    assert "the gpus of" not in out


def test_costs_at_unmatched_precision_are_marked(report: Said) -> None:
    cpu, gpu = arm("cpu"), arm("gpu", 0.1)
    assert cpu.accuracy is not None
    rough = replace(gpu, accuracy=replace(cpu.accuracy, relative_error=1e-2))
    costs = report([cpu, rough], None, *PRICES)[1].split("prices of")[1]
    assert "10.0†" in costs
    assert "† the sides did not compute at one precision" in costs
    assert "†" not in report([cpu, gpu], None, *PRICES)[1]


def test_nothing_in_a_table_of_costs_is_cut_off_where_all_is_wide(report: Said) -> None:
    case = make_case(2**30, variant="a_rather_long_variant", dtype="bfloat16", precision="default")
    for price in ("1e-12", "123456.789", "1e12"):
        records = [arm("cpu", by=1.5, case=case), arm("gpu", 1e-6, by=1.5, case=case), arm("gpu", passes=1)]
        _, out, _ = report(records, None, "--price", f"cpu={price}", "--price", "gpu=0.000123")
        costs = out.split("prices of")[1]
        assert "…" not in costs
        assert max(map(len, costs.splitlines())) <= 100, costs


def test_the_date_is_todays_where_none_is_given() -> None:
    found = read(["new", "--price", "gpu=1"], today=lambda: date(2026, 3, 4)).prices
    assert found is not None
    assert (found.date, found.per_hour, found.currency) == ("2026-03-04", {"gpu": 1.0}, None)
    assert read(["new"]).prices is None


@pytest.mark.parametrize(
    "text",
    ["", "cpu", "=1", "tpu=1", "CPU=1", "cpu=", "cpu=x", "cpu=0", "cpu=-1", "cpu=nan", "cpu=inf", "cpu=0,4",
     "cpu=1_0", "cpu=1=2", "cpu=1e13", "cpu=1 EUR"],
)  # fmt: skip
def test_a_wrong_price_is_refused(report: Said, text: str) -> None:
    line = refused(report([arm()], None, f"--price={text}"))
    assert "`--price` must be one of cpu, gpu with a price per hour above 0" in line
    assert line.rstrip().endswith(f"such as cpu=0.40, got {text!r}")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--price", "cpu=1", "--price", "cpu=2"), "`--price` must be given once a device, got 'cpu=2'"),
        (("--price", "cpu=1", "--price-date", "today"), "`--price-date` must be a date such as 2026-11-26"),
        (("--price", "cpu=1", "--price-date", "2026-02-30"), "got '2026-02-30'"),
        (("--price", "cpu=1", "--price-date="), "`--price-date` must be a date such as 2026-11-26, got ''"),
        (("--price", "cpu=1", "--currency", "US dollars"), "`--currency` must be one word"),
        (("--price", "cpu=1", "--currency="), "`--currency` must be one word"),
        (("--price-date", "2026-11-26"), "`--price-date` is for a `--price`, and there is none"),
        (("--currency", "EUR"), "`--currency` is for a `--price`, and there is none"),
        (("--price",), "--price: expected one argument"),
    ],
)
def test_options_of_a_price_that_are_wrong_are_refused(
    report: Said, options: tuple[str, ...], told: str
) -> None:
    assert told in refused(report([arm()], None, *options))


def test_a_price_beside_a_baseline_is_refused(report: Said) -> None:
    line = refused(report([arm()], [arm()], "--price", "cpu=1"))
    assert "`--price` is not for comparing with a `--baseline`, got 'cpu=1'" in line


def test_markup_in_a_currency_is_shown_as_it_is(report: Said) -> None:
    assert "cpu 1.00 [red]" in report([arm()], None, "--price", "cpu=1", "--currency", "[red]")[1]


@pytest.mark.slow
def test_it_runs_as_a_module(tmp_path: Path, environment: dict[str, str]) -> None:
    for name, factor in (("new", 1.1), ("base", 1.0)):
        store.save_all([arm("cpu", factor)], tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-m", "jaxaccel.report", "new", "--baseline", "base"],
        cwd=tmp_path,
        env={**environment, "COLUMNS": "60", "PYTHONIOENCODING": os.environ.get("PYTHONIOENCODING", "utf-8")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "2 worse beyond 5%" in done.stdout


# --- only some cases -------------------------------------------------------------------------------


def columns_of(said: tuple[int, str, str], name: str) -> list[str]:
    assert said[0] == 0, said
    return [row[name] for row in csv.DictReader(io.StringIO(said[1]))]


def test_only_the_cases_that_are_asked_for_are_shown(report: Said) -> None:
    cases = [
        make_case(size=size, dtype=dtype) for size in (256, 512, 1024) for dtype in ("float32", "float64")
    ]
    records = [arm(case=case) for case in cases]
    one = report(records, None, "--format", "csv", "--only", "dtype=float64", "size=256,1024")
    assert list(zip(columns_of(one, "size"), columns_of(one, "dtype"), strict=True)) == [
        ("256", "float64"),
        ("1024", "float64"),
    ]
    assert columns_of(report(records, None, "--format", "csv", "--only", "size=512"), "size") == [
        "512",
        "512",
    ]


def test_what_is_asked_for_in_two_places_holds_together(report: Said) -> None:
    cases = [make_case(size=size, dtype=dtype) for size in (256, 512) for dtype in ("float32", "float64")]
    records = [arm(case=case) for case in cases]
    said = report(records, None, "--format", "csv", "--only", "size=256", "--only", "dtype=float64")
    assert (columns_of(said, "size"), columns_of(said, "dtype")) == (["256"], ["float64"])
    said = refused(report(records[:3], None, "--only", "size=512", "dtype=float64"))
    assert "`--only KEY=` must leave some cases; none has size=512 dtype=float64" in said


def test_a_value_that_only_one_side_has_is_no_mistake(report: Said) -> None:
    new = [arm(case=make_case(size=size)) for size in (256, 512)]
    code, out, _ = report(new, new[:1], "--format", "json", "--only", "size=256,512")
    assert code == 0
    assert {change["case"]["size"] for change in json.loads(out)["changes"]} == {256}


def test_cases_can_be_chosen_by_their_parameters(report: Said) -> None:
    records = [arm(case=make_case(params={"batch": batch})) for batch in (32, 64)]
    said = report([*records, arm()], None, "--format", "csv", "--only", "batch=64")
    assert columns_of(said, "params") == ["batch=64"]


def test_a_baseline_is_chosen_from_as_well(report: Said) -> None:
    records = [arm(case=make_case(size=size)) for size in (256, 512)]
    code, out, _ = report(records, records, "--format", "json", "--only", "size=512")
    assert code == 0
    assert {change["case"]["size"] for change in json.loads(out)["changes"]} == {512}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["dtype=float3"], "`--only dtype=` must be of float32 here, got 'float3'"),
        (["dype=float32"], "`--only KEY=` must name some of case_id, workload, size,"),
        (["float32"], "`--only` must be KEY=VALUE, or KEY=VALUE,VALUE, got 'float32'"),
        (["size="], "`--only` must be KEY=VALUE, or KEY=VALUE,VALUE, got 'size='"),
        (["size=1,"], "got 'size=1,'"),
        (["=1"], "got '=1'"),
    ],
)
def test_cases_that_are_not_there_are_refused(report: Said, words: list[str], told: str) -> None:
    assert told in refused(report([arm()], None, "--only", *words))


@pytest.mark.parametrize("name", ["record.json", "records.jsonl", "kept.jsonl"])
def test_a_file_of_records_is_never_written_over(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = store.save_all([make_record("cpu"), make_record("gpu")], tmp_path)
    place = path.rename(tmp_path / name)
    content = place.read_bytes()
    for form in ("csv", "json", "markdown", "html"):
        assert main([str(place), "--format", form, "--output", str(place)]) == 2
    assert place.read_bytes() == content
    assert f"`--output` must not be a file that holds records, got {str(place)!r}" in capsys.readouterr().err
