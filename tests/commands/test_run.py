"""`python -m jaxaccel.run` from end to end, on a machine whose GPUs are out of sight."""

import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
import psutil
import pytest
from filelock import FileLock
from processes import QUICK, Ran, RunCli, python_path, settings

from jaxaccel import run
from jaxaccel.cli import commands, spelling
from jaxaccel.cli.compose import Composed, compose
from jaxaccel.cli.config import CeilingsMode
from jaxaccel.cli.keeping import Keeper
from jaxaccel.records import SCHEMA_VERSION, Metric, Record, store
from jaxaccel.records.errors import BadInputError
from jaxaccel.workloads.matvec import Matvec

BOTH = ("device=both", "size=16", *QUICK)
SINGLE = ("size=16", *QUICK)
SWEEP = ("-m", "device=cpu,gpu", "size=16,32", *QUICK)
CPU_SWEEP = ("size=16,17", *QUICK, "-m")
FULL = settings("size=16", *QUICK, "metrics=all", "ceilings=auto")

# For workers to find the workloads of this file.
HERE = python_path(Path(__file__).parent)


@dataclass(frozen=True, kw_only=True)
class Brittle(Matvec):
    """Takes its worker with it at size 17."""

    def inputs(self, seed: int) -> Any:
        if self.size == 17:
            os.abort()
        return super().inputs(seed)


@dataclass(frozen=True, kw_only=True)
class Saboteur(Matvec):
    """Puts a file where the results should go, as a disk that is unmounted might."""

    def inputs(self, seed: int) -> Any:
        for folder in [*Path().glob("outputs/*/*"), *Path().glob("multirun/*/*")]:
            shutil.rmtree(folder)
            folder.write_text("in the way")
        return super().inputs(seed)


def of_kind(name: str, folder: Path) -> list[str]:
    """Arguments that choose a workload of this file, by a config of one's own."""
    config = folder / "configs" / "workload" / f"{name.lower()}.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(
        f"name: {name.lower()}\n_target_: {__name__}:{name}\ndefault_size: 16\nvariant: direct\n"
    )
    return [f"--config-dir={config.parent.parent}", f"workload={name.lower()}"]


@pytest.fixture
def single(run_once: RunCli) -> Ran:
    return run_once(*SINGLE)


@pytest.fixture
def both(run_once: RunCli) -> Ran:
    return run_once(*BOTH)


@pytest.fixture
def sweep(run_once: RunCli) -> Ran:
    return run_once(*SWEEP)


@pytest.fixture
def cpu_sweep(run_once: RunCli) -> Ran:
    return run_once(*CPU_SWEEP)


@pytest.fixture
def own_cache(shared_folder: Path) -> dict[str, str]:
    """Variables for a cache folder of the tests' own, but for compiled programs."""
    xla = Path(platformdirs.user_cache_dir("jaxaccel")) / "xla"
    return {"XDG_CACHE_HOME": str(shared_folder / "cache"), "JAX_COMPILATION_CACHE_DIR": str(xla)}


@pytest.fixture
def full(run_once: RunCli, own_cache: dict[str, str]) -> Ran:
    """All metrics, and ceilings measured anew."""
    return run_once(*FULL, env=own_cache)


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """composed(*arguments) is what Hydra makes of them, in this process."""
    monkeypatch.setattr(sys, "argv", ["run"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: compose(arguments, "0123abcd")


def only(ran: Ran) -> dict[str, Any]:
    (record,) = ran.records().values()
    return record


# --- one job ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_single_job_measures_and_exits_with_0(single: Ran) -> None:
    assert single.code == 0, single.said
    assert [path.name for path in single.folder.iterdir() if path.name[0] != "."] == ["record.json"]
    assert single.folder.parent.parent == single.cwd / "outputs"
    assert str(single.folder) in single.out
    assert "matvec 16" in single.out
    assert "Traceback" not in single.said


def test_its_record_says_what_was_asked_for(single: Ran) -> None:
    record = only(single)
    assert record["schema_version"] == SCHEMA_VERSION
    assert record["status"] == "ok"
    assert record["error"] is None
    assert record["case"] == {
        "workload": "matvec",
        "size": 16,
        "dtype": "float32",
        "precision": "highest",
        "variant": "direct",
        "params": {},
        "seed": 0,
    }
    assert record["arm"]["requested"] == record["arm"]["platform"] == "cpu"
    assert record["arm"]["flags"]["JAX_PLATFORMS"] == "cpu"
    assert record["command"] == f"python -m jaxaccel.run {shlex.join(SINGLE)}"
    assert record["paired"] is False
    assert single.folder.name.endswith(record["sweep_id"])


def test_its_record_holds_all_samples_and_what_follows_from_them(single: Ran) -> None:
    record = only(single)
    assert set(record["timings"]) == {"latency", "throughput"}
    for timing in record["timings"].values():
        assert timing["n"] == len(timing["samples_s"]) == sum(n for _, _, n in timing["rounds"]) > 0
        assert timing["min_s"] == min(timing["samples_s"])
        assert timing["min_s"] <= timing["p5_s"] <= timing["median_s"] <= timing["p95_s"]
        assert timing["ci_over"] == "rounds"
    assert record["timings"]["latency"]["depth"] == 1
    assert record["timings"]["throughput"]["depth"] > 1
    assert record["cost"] == {"flops": 512, "bytes": 1152, "source": "declared", "steps": 1}
    throughput_s = record["timings"]["throughput"]["median_s"]
    assert record["rates"]["flops_per_s"] == pytest.approx(512 / throughput_s)
    assert record["rates"]["bytes_per_s"] == pytest.approx(1152 / throughput_s)
    assert record["accuracy"]["relative_error"] <= record["accuracy"]["tolerance"]
    assert record["accuracy"]["ok"] is True
    assert record["compile"]["cache"] in ("hit", "miss")
    assert set(record["invariants"].values()) & {"passed"}


@pytest.mark.slow
@pytest.mark.parametrize("ran", ["single", "full"])
def test_what_a_record_does_not_know_is_null_and_has_a_reason(
    ran: str, request: pytest.FixtureRequest
) -> None:
    record = only(request.getfixturevalue(ran))
    for name in ("energy", "ceilings", "transfers", "device_time", "rates", "compile", "cost", "memory"):
        assert (record[name] is None) == (name in record["absent"]), name
    for metric in Metric:
        assert (metric in record["timings"]) != (f"timings.{metric}" in record["absent"]), metric
    for path, reason in record["absent"].items():
        value: Any = record
        for key in path.split("."):
            value = value.get(key) if value else None
        assert value is None, path
        assert reason


def test_the_time_that_was_spent_adds_up(full: Ran) -> None:
    spent = only(full)["spent_s"]
    total_s = spent.pop("total")
    assert all(part_s > 0 for part_s in spent.values())
    assert sum(spent.values()) <= total_s
    assert total_s > full.wall_s / 4  # nothing long is left out


# --- all metrics, and ceilings -----------------------------------------------------------------------


def test_all_that_a_cpu_has_is_measured(full: Ran) -> None:
    assert full.code == 0, full.said
    record = only(full)
    there = {"latency", "throughput", "end_to_end", "h2d", "d2h"}
    assert set(record["timings"]) - {"device"} == there  # on a busy machine, noise hides the loop's slope
    assert record["transfers"]["h2d_bytes"] == 4 * (16 * 16 + 16)
    assert record["transfers"]["d2h_bytes"] == 4 * 16
    assert record["device_time"]["source"] == "slope"
    assert record["memory"]["working_set_bytes"] == 1152
    assert record["memory"]["peak_bytes"] > 0
    assert "energy_s is 0" in record["absent"]["energy"]
    for metric in ("end_to_end_pinned", "h2d_pinned", "d2h_pinned"):
        assert "pin" in record["absent"][f"timings.{metric}"]


def test_a_result_is_held_against_what_the_machine_reached_today(full: Ran) -> None:
    record = only(full)
    ceilings, rates = record["ceilings"], record["rates"]
    assert ceilings["transfers"] == {}
    for name, unit, workload in (
        ("memory", "bytes_per_s", "stream "),
        ("compute", "flops_per_s", "matmul "),
    ):
        if ceilings[name] is None:
            assert "noise" in record["absent"][f"ceilings.{name}"]
            continue
        assert ceilings[name]["workload"].startswith(workload)
        assert rates[f"of_{name}_ceiling"] == pytest.approx(rates[unit] / ceilings[name]["rate_per_s"])
    assert record["invariants"]["rate within the ceiling"].split(":")[0] in ("passed", "skipped")


@pytest.mark.slow
def test_ceilings_are_kept_in_the_user_s_cache_folder_for_the_next_command(
    full: Ran, own_cache: dict[str, str], run_cli: RunCli
) -> None:
    (path,) = Path(own_cache["XDG_CACHE_HOME"]).glob("jaxaccel/ceilings/*.json")
    kept = json.loads(path.read_text())
    first = only(full)["ceilings"]
    assert kept["measured_at"] == first["measured_at"]
    again = only(run_cli(*settings(*FULL, "metrics=latency"), env=own_cache))["ceilings"]
    assert again["measured_at"] == first["measured_at"]
    for name in filter(first.get, ("compute", "memory")):
        # Where a busy host's rate is above one, it is measured again, and the best stays.
        assert again[name]["rate_per_s"] >= first[name]["rate_per_s"]


def test_without_ceilings_none_are_measured(single: Ran) -> None:
    record = only(single)
    assert record["ceilings"] is None
    assert record["absent"]["ceilings"] == "not asked for: ceilings=off"
    assert record["spent_s"]["ceilings"] == 0


def test_a_record_can_be_read_back(single: Ran) -> None:
    (record,) = store.load_records([single.folder])
    assert isinstance(record, Record)
    assert record.case_id == record.case.case_id
    assert json.loads(store.encode_record(record)) == only(single)


# --- a pair, on a machine without a GPU ------------------------------------------------------------


@pytest.mark.slow
def test_a_pair_keeps_the_half_that_can_be_measured_and_exits_with_1(both: Ran) -> None:
    assert both.code == 1
    records = both.records()
    assert {name: record["status"] for name, record in records.items()} == {"cpu": "ok", "gpu": "failed"}
    assert records["gpu"]["error"]["type"] == "NoDevice"
    assert "found no GPU" in records["gpu"]["error"]["message"]
    assert records["gpu"]["error"]["hint"]
    assert records["gpu"]["timings"] == {}
    assert records["gpu"]["absent"]["timings"]
    assert "Traceback" not in both.said


def test_why_a_device_has_no_result_is_told_once_with_a_hint(both: Ran) -> None:
    error = both.records()["gpu"]["error"]
    (told,) = [line for line in both.out.splitlines() if line.startswith("failed on the gpu")]
    assert "matvec 16" in told
    assert f"  {error['message']}\n  {error['hint']}\n" in both.out


def test_both_halves_are_of_one_case_and_one_pair(both: Ran) -> None:
    cpu, gpu = both.records()["cpu"], both.records()["gpu"]
    for key in ("case", "case_id", "pair_id", "sweep_id", "command"):
        assert cpu[key] == gpu[key], key
    assert cpu["arm_id"] != gpu["arm_id"]


# --- sweeps ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_sweep_over_devices_keeps_the_cpu_s_results_and_exits_with_1(sweep: Ran) -> None:
    assert sweep.code == 1
    assert {name.partition("-")[2]: record["status"] for name, record in sweep.records().items()} == {
        "matvec-16-cpu": "ok",
        "matvec-16-gpu": "failed",
        "matvec-32-cpu": "ok",
        "matvec-32-gpu": "failed",
    }


def test_the_arms_of_a_case_pair_across_the_jobs_of_a_sweep(sweep: Ran, both: Ran) -> None:
    by_size: dict[int, list[dict[str, Any]]] = {16: [], 32: []}
    for record in sweep.records().values():
        by_size[record["case"]["size"]].append(record)
    for cpu, gpu in by_size.values():
        assert cpu["case_id"] == gpu["case_id"]
        assert cpu["pair_id"] == gpu["pair_id"]
    assert by_size[16][0]["pair_id"] != by_size[32][0]["pair_id"]
    # What is measured has one name in all commands; who was measured with whom is told by the command.
    cpu = both.records()["cpu"]
    assert by_size[16][0]["case_id"] == cpu["case_id"]
    assert by_size[16][0]["arm_id"] == cpu["arm_id"]
    assert by_size[16][0]["pair_id"] != cpu["pair_id"]


def test_a_sweep_writes_one_row_a_case(sweep: Ran) -> None:
    with (sweep.folder / "comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["size"] for row in rows] == ["16", "32"]
    for row in rows:
        assert (row["cpu_status"], row["gpu_status"]) == ("ok", "failed")
        assert float(row["cpu_latency_median_s"]) > 0
        assert row["gpu_latency_median_s"] == row["latency_speedup"] == ""
        assert "found no GPU" in row["gpu_error"]


def test_a_sweep_gathers_its_records_in_one_file(sweep: Ran) -> None:
    lines = (sweep.folder / "records.jsonl").read_text().splitlines()
    gathered = [json.loads(line) for line in lines]
    assert len(gathered) == 4
    assert sorted(gathered, key=str) == sorted(sweep.records().values(), key=str)


def test_a_sweep_leaves_a_page_and_says_where(sweep: Ran) -> None:
    page = sweep.folder / "report.html"
    assert f"Page: {page}" in sweep.out.splitlines()
    assert "default-src 'none'" in page.read_text()


def test_a_sweep_shows_a_table_of_all_cases_and_each_reason_once(sweep: Ran) -> None:
    assert "matvec 16" in sweep.out
    assert "matvec 32" in sweep.out
    (told,) = [line for line in sweep.out.splitlines() if line.startswith("failed on the gpu")]
    assert "matvec 16" in told
    assert "matvec 32" in told
    assert max(len(line) for line in sweep.out.splitlines() if "│" in line or "─" in line) <= 100


@pytest.mark.slow
def test_options_may_come_after_the_arguments_and_a_sweep_that_is_whole_exits_with_0(cpu_sweep: Ran) -> None:
    assert cpu_sweep.code == 0, cpu_sweep.said
    records = cpu_sweep.records().values()
    assert [record["case"]["size"] for record in records] == [16, 17]
    assert {record["status"] for record in records} == {"ok"}
    with (cpu_sweep.folder / "comparison.csv").open(newline="") as file:
        assert [row["gpu_status"] for row in csv.DictReader(file)] == ["", ""]


def test_progress_goes_to_standard_error_and_results_to_standard_output(cpu_sweep: Ran) -> None:
    assert "matvec 16" in cpu_sweep.err
    assert str(cpu_sweep.folder) in cpu_sweep.out
    assert str(cpu_sweep.folder) not in cpu_sweep.err


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_case_and_no_other(run_cli: RunCli, tmp_path: Path) -> None:
    ran = run_cli("-m", "size=17,18", *of_kind("Brittle", tmp_path), *QUICK, env={"PYTHONPATH": HERE})
    assert ran.code == 1
    statuses = {record["case"]["size"]: record["status"] for record in ran.records().values()}
    assert statuses == {17: "failed", 18: "ok"}
    (failed,) = [record for record in ran.records().values() if record["status"] == "failed"]
    assert failed["error"]["type"] == "WorkerDied"
    assert f"signal {int(signal.SIGABRT)}" in failed["error"]["message"]
    assert failed["error"]["message"] in ran.out


@pytest.mark.slow
def test_a_refused_case_among_others_becomes_a_record(run_cli: RunCli) -> None:
    ran = run_cli("-m", "size=16,1000000000000", *QUICK)
    assert ran.code == 1
    statuses = {record["case"]["size"]: record["status"] for record in ran.records().values()}
    assert statuses == {16: "ok", 10**12: "refused"}
    assert "does not fit" in ran.out


# --- how jobs become arms --------------------------------------------------------------------------


def test_a_pair_is_one_group_whether_asked_for_as_both_or_as_two(composed: Any) -> None:
    for arguments in (["device=both"], ["-m", "device=cpu,gpu"]):
        groups, folders = run.group_arms(composed("size=16", *arguments))
        assert [list(group.arms) for group in groups] == [["cpu", "gpu"]]
        assert set(folders) == {(0, "cpu"), (0, "gpu")}
        assert len({folder for places in folders.values() for folder in places}) == 2


def test_what_several_jobs_ask_for_is_measured_once_and_written_for_each(composed: Any) -> None:
    whole: Composed = composed("-m", "size=16", "device=cpu,both")
    groups, folders = run.group_arms(whole)
    assert len(groups) == 1
    assert len(folders[0, "cpu"]) == 2
    assert len(folders[0, "gpu"]) == 1


def test_other_cases_and_other_timings_are_groups_of_their_own(composed: Any) -> None:
    groups, _ = run.group_arms(composed("-m", "size=16,32", "timing=quick,thorough"))
    assert len(groups) == 4


@pytest.mark.parametrize(
    "argument", ["metrics=latency,[device,latency],all", "timing.energy_s=0,1,2"], ids=["metrics", "energy"]
)
def test_other_metrics_and_another_count_of_energy_are_groups_of_their_own(
    argument: str, composed: Any
) -> None:
    groups, folders = run.group_arms(composed("-m", "size=16", argument))
    assert len(groups) == 3
    assert [len(folders[index, "cpu"]) for index in range(3)] == [1, 1, 1]
    if "metrics" in argument:
        assert [group.metrics for group in groups] == [
            (Metric.latency,),
            (Metric.latency, Metric.device),
            tuple(Metric),
        ]
    else:
        assert [group.energy_s for group in groups] == [0, 1, 2]


@pytest.mark.parametrize(("mode", "fresh"), [("auto", False), ("fresh", True), ("off", None)])
def test_the_book_of_ceilings_is_in_the_user_s_cache_folder(
    mode: str, fresh: bool | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / name))
    book = commands.open_book(CeilingsMode(mode))
    if fresh is None:
        assert book is None
    else:
        assert book is not None
        assert (book.folder, book.fresh) == (tmp_path / "jaxaccel/ceilings", fresh)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "devices"),
    [
        ([], ["cpu"]),
        (["size=4"], ["cpu"]),
        (["device=gpu"], ["gpu"]),
        (["device=both"], ["cpu", "gpu"]),
        (["-m", "device=gpu,cpu"], ["cpu", "gpu"]),
        (["device=cpu", "device=gpu"], ["gpu"]),
        (["--help"], []),
        (["--cfg", "job"], []),
        (["device=nonsense"], []),
        (["device=both", "device.flags.cpu=[--xla_a]"], []),
        (["device=both", "device.cpu_cores=2"], ["gpu"]),
        (["device.cpu_cores=2"], []),
        (["fn=a:b", "device=gpu"], ["gpu"]),
        (["fn=a:b"], ["cpu", "gpu"]),
        (["fn=a:b", "device.cpu_cores=2"], ["gpu"]),
        (["fn=nonsense", "args="], ["cpu", "gpu"]),
        (["fn=a:b", "--cfg", "job"], []),
    ],
)
def test_workers_start_early_for_the_devices_that_the_arguments_name(
    arguments: list[str], devices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spelling, "has_gpu", lambda: True)
    assert run.likely_devices(arguments) == devices
    monkeypatch.setattr(spelling, "has_gpu", lambda: False)
    assert run.likely_devices(["fn=a:b"]) == ["cpu"]


@pytest.mark.slow
@pytest.mark.parametrize(("gpu", "devices"), [(True, ("cpu", "gpu")), (False, ("cpu",))])
def test_own_code_is_measured_on_both_devices_where_there_is_a_gpu(
    gpu: bool, devices: tuple[str, ...], composed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spelling, "has_gpu", lambda: gpu)
    (job,) = composed("fn=jax.numpy:tanh").jobs
    assert job.config.devices == devices
    assert job.config.workload.params["args"] == "jax.numpy:make_args"
    assert composed("fn=jax.numpy:tanh", "device=cpu").jobs[0].config.devices == ("cpu",)
    assert composed("experiment=own_code", "fn=jax.numpy:tanh").jobs[0].config.devices == ("cpu", "gpu")


@pytest.mark.slow
@pytest.mark.parametrize(
    "typed",
    [
        ("fn=18-a.py:double,18-a.py:half", "args=make"),
        ("fn=./18-a.py:double,./18-a.py:half", "args=./18-a.py:make", "workload=custom"),
        ("workload=custom", "workload.fn=18-a.py:double,18-a:half", "workload.args=make"),
        ("workload=custom", "workload.fn=18-a:double,18-a:half", "workload.args=18-a:make"),
    ],
)
def test_a_sweep_of_own_functions_is_the_same_however_they_are_spelled(
    typed: tuple[str, ...], composed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "18-a.py").touch()
    monkeypatch.setenv("SZ", "8")
    jobs = composed("-m", *typed, "size=${oc.env:SZ},9").jobs
    found = [(job.config.size, job.config.workload.params["fn"]) for job in jobs]
    assert sorted(found) == [(8, "18-a:double"), (8, "18-a:half"), (9, "18-a:double"), (9, "18-a:half")]
    assert {job.config.workload.params["args"] for job in jobs} == {"18-a:make"}


OWN_CODE = """\
import beside
import jax.numpy as jnp


def step(x):
    return beside.twice(x)


def branch(x):
    return x if x[0] > 0 else -x


def make_args(size):
    return jnp.ones(size)
"""


@pytest.mark.slow
def test_own_code_in_a_file_is_measured_and_what_is_wrong_is_told_as_typed(run_cli: RunCli) -> None:
    """From a folder that is neither the one of the start nor its src/, with a name that takes quotes."""
    here = run_cli("--help").cwd
    (here / "my lib").mkdir()
    (here / "my lib/18-a.py").write_text(OWN_CODE)
    (here / "my lib/beside.py").write_text("def twice(x):\n    return 2 * x\n")
    (here / "random.py").write_text("raise SystemExit('not the library one')\n")
    ran = run_cli("-m", "fn=my lib/18-a.py:step,my lib/18-a.py:branch,my lib/18-a.py:stp", "size=8", *QUICK)
    assert ran.code == 1, ran.said
    records = {record["case"]["params"]["fn"]: record for record in ran.records().values()}
    assert {name: record["status"] for name, record in records.items()} == {
        "18-a:step": "ok",
        "18-a:branch": "failed",
        "18-a:stp": "refused",
    }
    assert records["18-a:stp"]["error"]["message"] == "`fn`: 18-a has no 'stp'; did you mean step?"
    assert records["18-a:branch"]["error"]["hint"].endswith("give a setting by static=[its position]")
    assert "by static=[its position]" in ran.out
    assert "workload." not in ran.said


def test_an_early_worker_is_given_once_and_all_end_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    class Noted:
        def __init__(self, device: str, *, flags: Sequence[str] = (), cores: int | None = None) -> None:
            self.device = device
            on = [] if cores is None else [f"on {cores}"]
            events.append(" ".join(["start", device, *flags, *on]))

        def __enter__(self) -> "Noted":
            return self

        def __exit__(self, *_: object) -> None:
            events.append(f"end {self.device}")

        def stop(self) -> None:
            events.append(f"stop {self.device}")

    monkeypatch.setattr(commands, "Worker", Noted)
    with ExitStack() as workers:
        launch = commands.Launcher(["cpu"], workers)
        assert events == ["start cpu"]
        first = launch("cpu")
        assert events == ["start cpu"]
        assert launch("cpu") is not first
    assert events == ["start cpu", "start cpu", "end cpu", "end cpu"]
    events.clear()
    with ExitStack() as workers:
        launch = commands.Launcher(["cpu", "gpu"], workers)
        launch.use({"cpu": ("--xla_a=1",)})
        launch("cpu")
        launch("gpu")
        assert events == ["start cpu", "start gpu", "stop cpu", "start cpu --xla_a=1"]
    events.clear()
    with ExitStack() as workers:
        launch = commands.Launcher(["cpu", "gpu"], workers)
        launch.keep_cpu_to(None)
        launch.keep_cpu_to(1)
        launch("gpu")
        launch("gpu")
        launch("cpu")
    assert events[:5] == ["start cpu", "start gpu", "stop cpu", "start gpu", "start cpu on 1"]
    with ExitStack() as workers, pytest.raises(BadInputError, match=r"`device.cpu_cores` must be at most"):
        commands.Launcher([], workers).keep_cpu_to(100_000)


@pytest.mark.slow
def test_flags_of_xla_are_in_the_record_and_make_another_arm_of_the_same_case(
    run_cli: RunCli, single: Ran
) -> None:
    ran = run_cli(*SINGLE, "device.flags.cpu={xla_cpu_multi_thread_eigen:false}")
    assert ran.code == 0, ran.said
    assert "XLA flags" in ran.out
    found, plain = only(ran), only(single)
    assert found["arm"]["flags"]["XLA_FLAGS"].endswith("--xla_cpu_multi_thread_eigen=false")
    assert found["case_id"] == plain["case_id"]
    assert found["arm_id"] != plain["arm_id"]


@pytest.mark.slow
def test_a_flag_that_xla_does_not_know_is_a_failed_record_and_exit_code_1(run_cli: RunCli) -> None:
    ran = run_cli(*SINGLE, "device.flags.cpu={xla_nonsense:1}")
    assert ran.code == 1
    assert "XLA knows no flag --xla_nonsense=1" in ran.out
    record = only(ran)
    assert (record["status"], record["error"]["type"]) == ("failed", "XlaFlags")


@pytest.mark.slow
def test_the_best_variant_is_measured_and_named(run_cli: RunCli) -> None:
    ran = run_cli(*SINGLE, "workload.variant=best")
    assert ran.code == 0, ran.said
    record = only(ran)
    assert record["case"]["variant"] == "best"
    tried = {name: trial["time_s"] for name, trial in record["variants"].items() if trial["ok"]}
    assert record["arm"]["variant"] == min(tried, key=tried.__getitem__)
    assert f"{record['arm']['variant']}, the best of {len(record['variants'])}" in ran.out


# --- going on --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_can_be_resumed_with_more_passes(run_cli: RunCli, single: Ran, tmp_path: Path) -> None:
    folder = tmp_path / "earlier"
    shutil.copytree(single.folder, folder)
    ran = run_cli(*SINGLE, "passes=2", f"resume={folder}")
    assert ran.code == 0, ran.said
    before, after = only(single), json.loads((folder / "record.json").read_text())
    assert after["arm_id"] == before["arm_id"]
    for metric in ("latency", "throughput"):
        old, new = before["timings"][metric]["samples_s"], after["timings"][metric]["samples_s"]
        assert new[: len(old)] == old
        assert len(new) > len(old)
        assert {entry[0] for entry in after["timings"][metric]["rounds"]} == {0, 1}
    assert not (ran.cwd / "outputs").exists()


@pytest.mark.slow
def test_a_run_is_not_resumed_with_other_metrics(run_cli: RunCli, single: Ran, tmp_path: Path) -> None:
    folder = tmp_path / "earlier"
    shutil.copytree(single.folder, folder)
    before = (folder / "record.json").read_text()
    ran = run_cli(*settings(*SINGLE, "metrics=[latency]"), "passes=2", f"resume={folder}")
    assert ran.code == 2
    (told,) = [line for line in ran.err.splitlines() if line.startswith("jaxaccel:")]
    assert told.startswith("jaxaccel: `resume`: matvec 16")
    assert "with metrics=[latency,throughput]: its record would be lost" in told
    assert "Traceback" not in ran.said
    assert (folder / "record.json").read_text() == before


def test_a_folder_of_another_case_is_not_resumed(composed: Any, single: Ran, tmp_path: Path) -> None:
    folder = tmp_path / "earlier"
    shutil.copytree(single.folder, folder)
    with pytest.raises(BadInputError, match=r"`resume`: .* holds matvec 16 .*, not matvec 32"):
        run.group_arms(composed("size=32", *QUICK, f"resume={folder}"))


@pytest.mark.slow
def test_what_can_not_be_read_in_a_folder_is_passed_over_and_measured_again(
    composed: Any, run_cli: RunCli, single: Ran, tmp_path: Path
) -> None:
    folder = tmp_path / "earlier"
    shutil.copytree(single.folder, folder)
    torn = (folder / "record.json").read_bytes()[:400]
    (folder / "record.json").write_bytes(torn)
    os.mkfifo(folder / "records.jsonl")
    ran = run_cli(*SINGLE, f"resume={folder}")
    assert ran.code == 0, ran.said
    (told,) = [line for line in ran.err.splitlines() if line.startswith("jaxaccel:")]
    assert told.startswith("jaxaccel: passed over 2 records that can't be read: ")
    assert store.load_records([folder / "record.json"])[0].case.size == 16
    assert (folder / "record.json.unreadable").read_bytes() == torn


def test_a_folder_to_be_resumed_has_no_link_that_leads_out(
    single: Ran, composed: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "earlier"
    shutil.copytree(single.folder, folder, ignore=shutil.ignore_patterns(".hydra"))
    (tmp_path / "private").mkdir()
    (folder / ".hydra").symlink_to(tmp_path / "private")
    with pytest.raises(BadInputError, match="leads out of the folder"):
        composed(*SINGLE, f"resume={folder}")
    assert list((tmp_path / "private").iterdir()) == []


@pytest.mark.slow
def test_a_device_that_another_command_measures_on_is_waited_for(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "here-tmp").mkdir()
    with FileLock(tmp_path / "here-tmp/jaxaccel-cpu.lock"):
        ran = run_cli(*SINGLE, "wait_s=0.5")
    assert ran.code == 1
    assert "waiting for the cpu" in ran.err
    assert "another jaxaccel" in ran.err
    assert "Traceback" not in ran.said
    assert [path for path in ran.cwd.rglob("*") if path.is_file()] == []


# --- being interrupted, and a disk that fails ------------------------------------------------------


@pytest.fixture
def long_sweep(environment: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    arguments = settings("-m", f"size={','.join(map(str, range(16, 24)))}", *QUICK, "timing.limit_s=2")
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxaccel.run", *arguments],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_ctrl_c_ends_a_sweep_in_order(long_sweep: subprocess.Popen[str], tmp_path: Path) -> None:
    deadline = time.monotonic() + 120
    while not list(tmp_path.rglob("record.json")):
        assert time.monotonic() < deadline
        assert long_sweep.poll() is None
        time.sleep(0.05)
    workers = psutil.Process(long_sweep.pid).children(recursive=True)
    assert workers
    long_sweep.send_signal(signal.SIGINT)
    said, _ = long_sweep.communicate(timeout=60)
    assert long_sweep.returncode == 130, said
    assert "Traceback" not in said
    records = list(tmp_path.rglob("record.json"))
    assert 1 <= len(records) < 8
    assert f"interrupted: {len(records)} of 8 results are there" in said
    (gathered,) = tmp_path.rglob("records.jsonl")
    assert len(gathered.read_text().splitlines()) == len(records)
    gone, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive, "workers were left behind"
    assert gone


def test_ctrl_c_while_arguments_are_read_ends_in_order(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "Launcher", lambda *_: None)
    monkeypatch.setattr("jaxaccel.cli.compose.compose", interrupted)
    try:
        code = run.main(["size=16"])
    except KeyboardInterrupt:
        pytest.fail("it came out of main")
    assert code == 130


def test_a_record_that_can_not_be_written_is_rescued(
    single: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (record,) = store.load_records([single.folder])
    blocked, good = tmp_path / "blocked", tmp_path / "good"
    blocked.write_text("a file where a folder should be")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Keeper() as keeper:
        keeper.keep(record, [blocked, good])
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert f"can't write to {blocked}" in told
        rescued = Path(told.rpartition("the record is in ")[2].strip())
        assert store.load_records([rescued]) == store.load_records([good]) == [record]
    assert not keeper.complete
    assert capsys.readouterr().err == "", "it is told once"


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [["size=16"], ["-m", "size=16"]],
)
def test_a_folder_that_goes_away_costs_no_measurement(
    arguments: list[str], run_cli: RunCli, tmp_path: Path
) -> None:
    ran = run_cli(*arguments, *of_kind("Saboteur", tmp_path), *QUICK, env={"PYTHONPATH": HERE})
    assert "can't write to" in ran.err
    assert "the record is in " in ran.err
    assert "Traceback" not in ran.said
    assert "latency" in ran.out
    rescued = Path(ran.err.rpartition("the record is in ")[2].splitlines()[0])
    assert store.load_records([rescued])[0].case.size == 16
