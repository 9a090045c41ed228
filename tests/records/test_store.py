import csv
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import make_case, make_failed, make_record, make_timings

from jaxaccel.analyze.compare import pair
from jaxaccel.records import Code, Flag, Metric, Problem, Record, store
from jaxaccel.records.errors import BadInputError
from jaxaccel.render import rows

# --- whole or not at all ---------------------------------------------------------------------------


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_with_its_folders_and_for_all_to_read(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    store.write_whole(path, b"content")
    assert path.read_bytes() == b"content"
    assert entries(path.parent) == ["file"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    store.write_whole(tmp_path / "file", b"a long old content")
    store.write_whole(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("broken", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_whatever_breaks_the_old_file_stays_and_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    store.write_whole(tmp_path / "file", b"old")
    monkeypatch.setattr(*((os, "fsync") if broken == "fsync" else (Path, "replace")), fail)
    with pytest.raises(type(error)):
        store.write_whole(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert entries(tmp_path) == ["file"]


def test_nothing_is_left_behind_where_a_folder_has_the_name_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "file" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="file"):
        store.write_whole(tmp_path / "file", b"content")
    assert entries(tmp_path) == ["file"]


# --- records ---------------------------------------------------------------------------------------


def test_a_record_comes_back_from_its_file(tmp_path: Path) -> None:
    record = make_record()
    path = store.save(record, tmp_path / "outputs" / "cpu")
    assert path == tmp_path / "outputs" / "cpu" / "record.json"
    assert store.load_records([path]) == [record]


def test_a_sweep_is_a_record_a_line(tmp_path: Path) -> None:
    records = [make_record("cpu"), make_failed("gpu", message="a line, and a µ")]
    path = store.save_all(records, tmp_path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert path.name == "records.jsonl"
    assert [json.loads(line)["status"] for line in lines] == ["ok", "failed"]
    assert store.load_records([path]) == records


def test_a_record_stays_a_line_whatever_its_words_hold(tmp_path: Path) -> None:
    # All of these end a line for str.splitlines, and none but \n does for JSON lines.
    odd = "a\nb\rc\x0bd\x0ce\x1cf\x85g\u2028h\u2029i"
    records = [make_failed("cpu", message=odd), make_failed("gpu", message=odd)]
    found = store.load_records([store.save_all(records, tmp_path)])
    assert [record.arm for record in found] == [record.arm for record in records]
    shown = r"a\nb\rc\x0bd\x0ce\x1cf\x85g\u2028h\u2029i"
    assert {record.error.message for record in found if record.error} == {shown}


def test_all_records_below_a_folder_are_found(tmp_path: Path) -> None:
    records = [make_record("cpu"), make_record("gpu"), make_record("cpu", case=make_case(size=7))]
    store.save(records[0], tmp_path / "0" / "cpu")
    store.save(records[1], tmp_path / "0" / "gpu")
    store.save_all(records[2:], tmp_path / "deep" / "er")
    (tmp_path / "notes.json").write_text("{}")
    found = store.load_records([tmp_path])
    assert sorted(record.arm_id for record in found) == sorted(record.arm_id for record in records)


def test_what_a_sweep_wrote_twice_is_there_once(tmp_path: Path) -> None:
    records = [make_record("cpu"), make_record("gpu")]
    for record in records:
        store.save(record, tmp_path / record.arm.requested)
    store.save_all(records, tmp_path)
    assert len(store.load_records([tmp_path])) == 2
    assert len(store.load_records([tmp_path, tmp_path, tmp_path / "cpu" / "record.json"])) == 2


def test_the_same_arm_of_two_commands_is_there_twice(tmp_path: Path) -> None:
    store.save(make_record(sweep_id="first"), tmp_path / "0")
    store.save(make_record(sweep_id="second"), tmp_path / "1")
    assert len(store.load_records([tmp_path])) == 2


def test_a_place_may_be_given_as_text(tmp_path: Path) -> None:
    store.save(make_record(), tmp_path)
    assert len(store.load_records([str(tmp_path)])) == 1


def test_an_empty_folder_holds_no_records(tmp_path: Path) -> None:
    assert store.load_records([tmp_path]) == []
    assert store.load_records([]) == []


def test_a_missing_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="gone"):
        store.load_records([tmp_path, tmp_path / "gone"])


def test_a_folder_without_a_record_has_none(tmp_path: Path) -> None:
    assert store.load_if_there(tmp_path) is None
    assert store.load_if_there(tmp_path / "gone") is None
    store.save(make_record(), tmp_path)
    assert store.load_if_there(tmp_path) == make_record()


def test_the_other_arms_of_a_sweep_are_those_that_are_not_measured_again(tmp_path: Path) -> None:
    before = [make_record("cpu"), make_record("gpu"), make_record("cpu", case=make_case(size=7))]
    assert store.others(tmp_path, before) == []
    store.save_all(before, tmp_path)
    again = [make_record("cpu", sweep_id="again")]
    assert store.others(tmp_path, again) == before[1:]


# --- comparisons -----------------------------------------------------------------------------------


def saved(records: list[Record], folder: Path) -> list[dict[str, str]]:
    path = rows.save_comparisons(pair(records), folder)
    assert path == folder / "comparison.csv"
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_comparison_is_a_row_that_holds_what_the_records_hold(tmp_path: Path) -> None:
    cpu = make_record("cpu", case=make_case(params={"batch": 512, "depth": 3}))
    gpu = make_record("gpu", case=cpu.case)
    (row,) = saved([cpu, gpu], tmp_path)
    (comparison,) = pair([cpu, gpu])
    assert row["case_id"] == cpu.case_id
    assert (row["workload"], row["size"], row["params"]) == ("matvec", "1024", "batch=512 depth=3")
    for metric, speedup in comparison.speedups.items():
        assert float(row[f"{metric}_speedup"]) == speedup.ratio
        assert speedup.ci95 is not None
        assert float(row[f"{metric}_speedup_ci95_low"]) == speedup.ci95[0]
        assert float(row[f"{metric}_speedup_ci95_high"]) == speedup.ci95[1]
        assert row[f"{metric}_verdict"] == str(speedup.verdict)
        assert row[f"{metric}_ci_over"] == "rounds"
    for device, record in (("cpu", cpu), ("gpu", gpu)):
        assert float(row[f"{device}_latency_median_s"]) == record.timings["latency"].median_s
        assert row[f"{device}_throughput_n"] == str(record.timings["throughput"].n)
        assert row[f"{device}_latency_converged"] == "True"
        assert row[f"{device}_kind"] == record.arm.kind
        assert row[f"{device}_status"] == "ok"
        assert float(row[f"{device}_compile_s"]) == 0.5
        assert float(row[f"{device}_relative_error"]) == 1e-7
        assert row[f"{device}_flags"] == "latency: noisy"
    assert row["cpu_cores"] == "8"


def whole(device: str, latency_s: float, transfer_s: float, **changes: Any) -> Record:
    timings = make_timings(device, latency_s, transfer_s=transfer_s)
    return make_record(device, **({"timings": timings} | changes))


def test_a_row_has_the_timings_the_ceilings_and_the_energy_of_both_arms(tmp_path: Path) -> None:
    cpu, gpu = whole("cpu", 3e-4, 1e-7), whole("gpu", 1e-4, 4e-3)
    assert cpu.transfers is not None
    cpu = replace(cpu, transfers=replace(cpu.transfers, h2d="partly aliased"))
    (row,) = saved([cpu, gpu], tmp_path)
    for device, record in (("cpu", cpu), ("gpu", gpu)):
        for metric in Metric:
            timing = record.timings.get(metric)
            told = row.get(f"{device}_{metric}_median_s")
            assert told == (None if timing is None else str(timing.median_s))
        assert row[f"{device}_limit"] == "memory"
        assert float(row[f"{device}_of_memory_ceiling"]) == 0.5
        assert float(row[f"{device}_of_compute_ceiling"]) == 0.05
        assert float(row[f"{device}_memory_ceiling_bytes_per_s"]) == 1e11
        assert float(row[f"{device}_compute_ceiling_flops_per_s"]) == 5e11
        assert (row[f"{device}_h2d_bytes"], row[f"{device}_d2h_bytes"]) == ("4000000", "4096")
        assert row[f"{device}_peak_bytes"] == "4004096"
    assert (row["cpu_h2d_how"], row["gpu_h2d_how"]) == ("partly aliased", "copied")
    assert (row["cpu_d2h_how"], row["gpu_d2h_how"]) == ("aliased", "copied")
    assert (row["cpu_device_source"], row["gpu_device_source"]) == ("slope", "profiler")
    assert (row["cpu_device_slope_s"], row["gpu_device_slope_s"]) == ("", "4.1e-05")
    for name, value in (
        ("energy_per_call_j", "0.0125"),
        ("energy_above_idle_per_call_j", "0.009"),
        ("energy_uncertainty_j", "0.0005"),
    ):
        assert (row[f"cpu_{name}"], row[f"gpu_{name}"]) == ("", value)


def test_a_row_says_what_the_data_s_place_makes_of_the_speedup(tmp_path: Path) -> None:
    cpu, gpu = whole("cpu", 3e-4, 1e-9), whole("gpu", 1e-4, 4.1e-3)
    assert gpu.compile is not None
    gpu = replace(gpu, compile=replace(gpu.compile, compile_s=0.6))  # 0.1 s longer than the CPU's
    (row,) = saved([cpu, gpu], tmp_path)
    # A call saves 0.2 ms, transfers cost 4.51 ms, pinned a quarter of that.
    assert row["break_even_calls"] == "23"
    assert row["break_even_calls_pinned"] == "6"
    assert row["break_even_calls_with_compile"] == "523"
    for calls in (10, 100, 1000):
        expected = 3e-4 * calls / (1e-4 * calls + 4.51e-3)
        assert float(row[f"once_{calls}_speedup"]) == pytest.approx(expected, rel=1e-4)
    assert float(row["end_to_end_speedup"]) == pytest.approx(3e-4 / 4.61e-3, rel=1e-4)
    assert float(row["end_to_end_pinned_speedup"]) == pytest.approx(3e-4 / (1e-4 + 4.51e-3 / 4), rel=1e-4)
    assert row["end_to_end_pinned_verdict"] == "cpu"
    cached = replace(gpu, compile=replace(gpu.compile, cache="hit"))
    (row,) = saved([cpu, cached], tmp_path)
    assert (row["break_even_calls"], row["break_even_calls_with_compile"]) == ("23", "")


def test_no_column_is_of_what_no_device_can_have(tmp_path: Path) -> None:
    (row,) = saved([whole("cpu", 3e-4, 1e-9), whole("gpu", 1e-4, 4.1e-3)], tmp_path)
    pinned = [name for name in row if "pinned" in name]
    assert [name for name in pinned if name.startswith("cpu_")] == []
    assert [name for name in pinned if name.endswith("_speedup")] == ["end_to_end_pinned_speedup"]
    assert [name for name in row if name.endswith(("_speedup", "_median_s")) and not row[name]] == []


@pytest.mark.parametrize(
    ("cpu_s", "cpu_transfer_s", "gpu_s", "gpu_transfer_s", "told"),
    [(1e-4, 1e-9, 3e-4, 1e-4, "never"), (1e-4, 1.1e-3, 3e-4, 1e-4, "up to 5")],
)
def test_a_gpu_that_is_not_ahead_from_some_call_on_says_so(
    tmp_path: Path, cpu_s: float, cpu_transfer_s: float, gpu_s: float, gpu_transfer_s: float, told: str
) -> None:
    records = [whole("cpu", cpu_s, cpu_transfer_s), whole("gpu", gpu_s, gpu_transfer_s)]
    assert saved(records, tmp_path)[0]["break_even_calls"] == told


def test_a_row_at_unmatched_precision_says_why(tmp_path: Path) -> None:
    cpu, gpu = whole("cpu", 3e-4, 1e-9), whole("gpu", 1e-4, 1e-9)
    assert gpu.accuracy is not None
    other = replace(gpu, accuracy=replace(gpu.accuracy, relative_error=3e-4))
    assert saved([cpu, gpu], tmp_path)[0]["unmatched"] == ""
    told = saved([cpu, other], tmp_path)[0]["unmatched"]
    assert told == "precision=highest: error 3e-04 on the GPU, 1e-07 on the CPU"


def test_what_is_unknown_is_an_empty_field(tmp_path: Path) -> None:
    (row,) = saved([make_record("cpu"), make_failed("gpu")], tmp_path)
    assert row["gpu_status"] == "failed"
    assert row["gpu_error"] == "no GPU that JAX supports"
    for name in ("latency_speedup", "latency_verdict", "break_even_calls", "once_10_speedup", "unmatched"):
        assert row[name] == ""
    for name in (
        "latency_median_s",
        "compile_s",
        "kind",
        "limit",
        "h2d_bytes",
        "device_source",
        "peak_bytes",
    ):
        assert row[f"gpu_{name}"] == ""


def test_an_arm_that_was_not_asked_for_has_its_columns_too(tmp_path: Path) -> None:
    (row,) = saved([make_record("cpu")], tmp_path)
    (other,) = saved([make_record("cpu"), make_record("gpu")], tmp_path)
    assert row.keys() == other.keys()
    assert row["gpu_status"] == ""


def test_a_row_a_case_in_the_order_of_the_sweep(tmp_path: Path) -> None:
    sizes = [4096, 16, 256]
    records = [make_record(d, case=make_case(size=size)) for size in sizes for d in ("cpu", "gpu")]
    assert [row["size"] for row in saved(records, tmp_path)] == ["4096", "16", "256"]


def test_commas_quotes_and_line_breaks_stay_in_their_field(tmp_path: Path) -> None:
    odd = 'a "b", c;\nd'
    error = Problem(type="Runtime", message=odd)
    flags = (Flag(name="noisy, very", metric=None, message="x"),)
    (row,) = saved([make_failed("gpu", error=error, warnings=flags)], tmp_path)
    assert row["gpu_error"] == odd.replace("\n", r"\n")
    assert row["gpu_flags"] == "all: noisy, very"


def test_no_comparisons_make_an_empty_file(tmp_path: Path) -> None:
    assert rows.save_comparisons([], tmp_path).read_bytes() == b""


def of_code(digest: str, **changes: Any) -> Record:
    return make_record("cpu", code=Code(digest=digest, modules=("mine",)), **changes)


def test_a_record_of_another_source_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    first, second = of_code("one"), of_code("two")
    for record in (first, second, second, first, second):
        store.save(record, tmp_path)
    assert entries(tmp_path) == ["record-one-2.json", "record-one.json", "record-two.json", "record.json"]
    assert store.load_records([tmp_path]) == [second]
    assert store.load_records([tmp_path / "record-one.json"]) == [first]


def test_a_record_that_tells_its_source_as_earlier_ones_do_is_kept_too(tmp_path: Path) -> None:
    case = make_case(workload="custom", params={"fn": "mine:step"})
    before = make_record("cpu", case=replace(case, params={**case.params, "source": "earlier"}))
    for record in (before, of_code("two", case=case), make_record("cpu")):
        store.save(record, tmp_path)
    assert entries(tmp_path) == ["record-earlier.json", "record.json"]
    store.save_all([before], tmp_path)
    assert store.others(tmp_path, [of_code("two", case=case)]) == []
