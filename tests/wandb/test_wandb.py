"""What W&B runs hold, and the real client without an account. On its way: test_wandb_faults.py."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import make_case, make_failed, make_record, make_timing, make_timings
from processes import LEAN, ROOT, Ran, RunCli

from jaxaccel import report
from jaxaccel.analyze.compare import pair
from jaxaccel.records import Metric, Record, store
from jaxaccel.records.errors import BadInputError
from jaxaccel.render import rows
from jaxaccel.wandb import client, point_run, process, publish
from jaxaccel.wandb.comparison import CROSSOVER_COLUMNS, PAIR_COLUMNS, crossover_rows
from jaxaccel.wandb.config import WandbConfig, WandbMode
from jaxaccel.wandb.layout import comparisons_by_sweep, runs_of
from jaxaccel.wandb.process import Outcome, outcome_of
from jaxaccel.wandb.runs import CONTENT, Run, There, lacks
from jaxaccel.wandb.send_job import Event, Kind, Limits, Order

ARGUMENTS = ("size=16", "timing=quick", "timing.limit_s=0.1", *LEAN)
PLAIN = (*ARGUMENTS, "wandb=disabled")
SECRET = "0123456789abcdef" * 3  # as long as a key must be


@pytest.fixture
def anonymous(run_once: RunCli) -> Ran:
    return run_once(*ARGUMENTS, "wandb=auto")


@pytest.fixture
def with_key(run_once: RunCli) -> Ran:
    return run_once(*ARGUMENTS, "wandb=offline", env={"WANDB_API_KEY": SECRET})


@pytest.fixture
def record(run_once: RunCli) -> Record:
    (record,) = store.load_records([run_once(*PLAIN).cwd])
    return record


@pytest.fixture
def config() -> WandbConfig:
    return WandbConfig(mode=WandbMode.offline, project="jaxaccel")


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))


def offline_runs(folder: Path) -> list[Path]:
    return sorted(folder.glob("wandb/offline-run-*"))


def inspect(run: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(run)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# --- the real client -------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_an_account_runs_are_kept_offline_and_a_line_says_how_to_publish(anonymous: Ran) -> None:
    assert anonymous.code == 0, anonymous.said
    assert len(offline_runs(anonymous.folder)) == 1
    (line,) = [line for line in anonymous.said.splitlines() if "W&B" in line]
    assert "1 run kept offline" in line
    assert f"wandb leet {anonymous.folder}/wandb" in line
    assert line.endswith(f"wandb login && python -m jaxaccel.report {anonymous.folder} --wandb")


@pytest.mark.slow
def test_a_run_is_flat_so_that_dashboards_can_group_and_plot_it(anonymous: Ran) -> None:
    (record,) = anonymous.records().values()
    found = inspect(offline_runs(anonymous.folder)[0])
    config = {key: found["config"][key] for key in ("workload", "size", "device", "dtype", "precision")}
    assert config == {
        "workload": "matvec",
        "size": 16,
        "device": "cpu",
        "dtype": "float32",
        "precision": "highest",
    }
    assert not [value for value in found["config"].values() if isinstance(value, dict | list)]
    for key in ("case_id", "arm_id", "pair_id", "sweep_id"):
        assert found["config"][key] == record[key]
    for metric, timing in record["timings"].items():
        for name in ("median_s", "p95_s", "n", "converged"):
            assert found["summary"][f"{metric}/{name}"] == pytest.approx(timing[name])
    assert found["summary"]["status"] == "ok"
    assert not [value for value in found["summary"].values() if isinstance(value, dict | list)]
    assert found["name"] == "matvec-16-cpu"
    assert set(found["tags"]) == {"matvec", "cpu"}
    assert found["state"] == "finished"


def test_a_summary_has_every_block_under_flat_names_with_units() -> None:
    record = make_record("gpu", timings=make_timings("gpu", 1e-4, transfer_s=4e-3))
    found = point_run.point_summary(record)
    medians = {metric: found[f"{metric}/median_s"] for metric in Metric}
    assert medians == {metric: record.timings[metric].median_s for metric in Metric}
    for name, value in {
        "rate/metric": "throughput",
        "rate/flops_per_s": 2.5e10,
        "rate/of_compute_ceiling": 0.05,
        "rate/of_memory_ceiling": 0.5,
        "limit": "memory",
        "ceiling/memory_bytes_per_s": 1e11,
        "ceiling/compute_flops_per_s": 5e11,
        "ceiling/h2d_bytes_per_s": 2.5e10,
        "transfer/h2d_bytes": 4_000_000,
        "transfer/d2h": "copied",
        "device/source": "profiler",
        "device/slope_s": 4.1e-5,
        "energy/per_call_j": 0.0125,
        "energy/above_idle_per_call_j": 0.009,
        "energy/uncertainty_j": 0.0005,
        "energy/source": "NVML total energy",
        "memory/peak_bytes": 4_004_096,
        "memory/capacity_bytes": 16 << 30,
    }.items():
        assert found[name] == value, name
    assert {type(value) for value in found.values()} <= {str, int, float, bool}


def test_a_summary_leaves_out_what_is_not_known() -> None:
    blank = dict.fromkeys(("rates", "ceilings", "transfers", "device_time", "energy", "memory"))
    found = point_run.point_summary(make_record(**blank))
    assert not [name for name in found if name.partition("/")[0] in ("rate", "limit", "ceiling", "transfer")]
    assert not [name for name in found if name.partition("/")[0] in ("device", "energy", "memory")]
    assert None not in found.values()


@pytest.mark.slow
def test_an_environment_that_disables_it_wins(run_cli: RunCli) -> None:
    ran = run_cli(*ARGUMENTS, "wandb=online", env={"WANDB_MODE": "disabled"})
    assert ran.code == 0
    assert "W&B" not in ran.said
    assert not (ran.folder / "wandb").exists()


@pytest.mark.slow
def test_a_malformed_key_costs_a_line_and_nothing_else(run_cli: RunCli) -> None:
    ran = run_cli(*ARGUMENTS, "wandb=auto", env={"WANDB_API_KEY": "too-short"})
    assert ran.code == 0
    assert "Traceback" not in ran.said
    (line,) = [line for line in ran.said.splitlines() if "W&B" in line or "wandb" in line]
    assert "WANDB_API_KEY" in line
    assert "all records are on disk" in line
    assert "1 run kept offline" in line
    assert "too-short" not in ran.said
    (record,) = ran.records().values()
    assert record["status"] == "ok"


@pytest.mark.slow
def test_a_key_is_in_no_file_and_in_no_output(with_key: Ran) -> None:
    assert with_key.code == 0, with_key.said
    assert len(offline_runs(with_key.folder)) == 1
    assert SECRET not in with_key.said
    files = [path for path in with_key.cwd.rglob("*") if path.is_file()]
    assert len(files) > 4
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


@pytest.mark.slow
def test_offline_runs_have_their_history_and_their_table(tmp_path: Path, config: WandbConfig) -> None:
    import plotly.graph_objects as go

    records = sweep()
    figures = {"bars": go.Figure(go.Bar(x=["a"], y=[1.0]))}

    def draw(_: Any) -> dict[str, str]:
        return {name: figure.to_json() for name, figure in figures.items()}

    found = publish.publish(records, config, tmp_path, figures=draw)
    wanted = {run.id: run for run in runs_of(records, figures=draw)}
    assert found.message.startswith(f"W&B: {len(wanted)} runs kept offline; to look at: wandb leet")
    there = {path.name.split("-", 3)[-1]: path for path in offline_runs(tmp_path)}
    assert there.keys() == wanted.keys()
    (compared,) = [path for name, path in there.items() if name.startswith("comparison")]
    names = {path.name.partition("_")[0] for path in compared.glob("files/media/*/*")}
    assert names == {"pairs", "crossovers", "bars"}
    (curve,) = [path for name, path in there.items() if wanted[name].name == "matvec-gpu-pass0"]
    assert inspect(curve)["summary"]["size"] == 4096


# --- what runs hold --------------------------------------------------------------------------------


def sweep(**changes: Any) -> list[Record]:
    return [
        make_record(device, case=case, timings=make_timings(device, latency_s, transfer_s=1e-3), **changes)
        for case, cpu_s in ((make_case(256), 2e-5), (make_case(1024), 1e-4), (make_case(4096), 1e-3))
        for device, latency_s in (("cpu", cpu_s), ("gpu", 5e-5))
    ]


def of_type(runs: list[Run], job_type: str) -> list[Run]:
    return [run for run in runs if run.job_type == job_type]


def test_a_curve_has_a_row_a_size_and_a_line_a_device() -> None:
    cpu, gpu = of_type(runs_of(sweep()), "curve")
    assert (cpu.config["line"], gpu.config["line"]) == ("cpu", "gpu")
    assert [row["size"] for row in gpu.rows] == [256, 1024, 4096]
    medians = [row["matvec/latency_median_s"] for row in cpu.rows]
    assert medians == pytest.approx([2e-5, 1e-4, 1e-3], rel=1e-3)
    assert cpu.step == "size"


def test_a_curve_run_a_pass_where_there_are_several() -> None:
    records = [
        make_record(
            "cpu",
            case=make_case(size),
            timings={"latency": make_timing(*([[k * 1e-6 * size] * 3] * 2 for k in (1, 2, 3)))},
        )
        for size in (256, 512)
    ]
    found = of_type(runs_of(records), "curve")
    assert [run.config["pass"] for run in found] == [0, 1, 2]
    assert [run.rows[0]["matvec/latency_median_s"] for run in found] == pytest.approx(
        [256e-6, 512e-6, 768e-6]
    )
    assert len({run.id for run in found}) == 3


def test_one_size_makes_no_curve_and_one_device_no_comparison() -> None:
    (record, *_) = sweep()
    assert [run.job_type for run in runs_of([record])] == ["point"]
    assert {run.job_type for run in runs_of([r for r in sweep() if r.arm.requested == "cpu"])} == {
        "point",
        "curve",
    }


def test_what_sets_a_line_apart_is_in_its_name() -> None:
    cases = [
        make_case(256),
        make_case(256, dtype="bfloat16", precision="default"),
        make_case(256, workload="mlp", params={"batch": 32, "depth": 2}),
        make_case(256, workload="mlp", params={"batch": 64, "depth": 2}),
    ]
    found = of_type(runs_of([make_record("gpu", case=case) for case in cases]), "point")
    assert [run.config["line"] for run in found] == [
        "gpu",
        "gpu bfloat16 precision=default",
        "gpu batch=32",
        "gpu batch=64",
    ]


def test_the_loss_of_a_training_is_the_history_of_its_point() -> None:
    record = make_record("cpu", case=make_case(64, workload="mlp"), series={"loss": (2.5, 1.25)})
    (run,) = runs_of([record])
    assert run.rows == ({"step": 1, "mlp/loss": 2.5}, {"step": 2, "mlp/loss": 1.25})
    assert runs_of([replace(record, series={})])[0].rows == ()


def test_a_comparison_has_the_pairs_and_where_the_winner_changes() -> None:
    records = sweep()
    (run,) = of_type(runs_of(records), "comparison")
    table = run.tables["pairs"]
    assert table.columns == PAIR_COLUMNS
    assert [row[table.columns.index("size")] for row in table.rows] == [256, 1024, 4096]
    wanted = [c.speedups[Metric.latency].ratio for c in pair(records)]
    assert [row[table.columns.index("latency_speedup")] for row in table.rows] == wanted
    assert run.summary["pairs/count"] == 3
    assert run.summary["pairs/gpu"] + run.summary["pairs/cpu"] + run.summary["pairs/undecided"] == 3
    crossovers = run.tables["crossovers"]
    assert crossovers.columns == CROSSOVER_COLUMNS
    (latency,) = [
        dict(zip(crossovers.columns, row, strict=True)) for row in crossovers.rows if "latency" in row
    ]
    assert (latency["below"], latency["bracket_low"]) == ("cpu", 256)
    assert (latency["above"], latency["bracket_high"]) == ("gpu", 1024)


def test_every_column_of_the_tables_is_one_that_rows_have() -> None:
    (first, *_) = pair(sweep())
    derived = {"cpu_machine", "gpu_machine"}
    assert set(PAIR_COLUMNS) <= rows.row(first).keys() | derived
    assert set(CROSSOVER_COLUMNS) <= {key for row in crossover_rows(pair(sweep())) for key in row}


def test_a_speedup_run_has_the_largest_size_in_its_summary() -> None:
    (run,) = of_type(runs_of(sweep()), "speedup")
    assert run.summary["speedup/at_size"] == 4096
    assert (
        run.summary["speedup/latency"]
        == run.rows[-1]["matvec/latency_speedup"]
        == pytest.approx(20, rel=0.01)
    )
    assert run.config["device"] == "cpu/gpu"


def test_sweeps_are_compared_each_by_itself() -> None:
    both = [*sweep(), *sweep(sweep_id="01d", started_at="2026-01-01T00:00:00+00:00")]
    alone = {run.id: run.content_id for run in runs_of(sweep())}
    assert {run.id: run.content_id for run in runs_of(both) if run.group == "5eed"} == alone
    assert len(of_type(runs_of(both), "comparison")) == 2


def test_a_pair_over_two_sweeps_is_of_the_later_one() -> None:
    earlier, later = sweep()[0::2], sweep(sweep_id="new", started_at="2026-02-02T00:00:00+00:00")[1::2]
    found = comparisons_by_sweep([*earlier, *later])
    assert [len(found[sweep_id]) for sweep_id in ("5eed", "new")] == [0, 3]
    (run,) = of_type(runs_of([*earlier, *later], sweep_id="new"), "comparison")
    assert run.group == "new"


def test_the_same_records_make_the_same_ids_and_others_others() -> None:
    first, again = runs_of(sweep()), runs_of(sweep())
    assert [run.id for run in first] == [run.id for run in again]
    assert len({run.id for run in first}) == len(first)
    later = runs_of(sweep(started_at="2026-01-02T03:04:06+00:00"))
    assert not {run.id for run in of_type(first, "point")} & {run.id for run in of_type(later, "point")}


def test_a_failed_arm_is_a_point_that_says_why() -> None:
    (run,) = runs_of([make_failed("gpu")])
    assert run.summary["status"] == "failed"
    assert run.summary["error"] == "no GPU that JAX supports"


def test_no_run_holds_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_PAT", "s3cr3t-value")
    record = make_record("cpu", case=make_case(params={"note": "has s3cr3t-value", "url": "http://a:b@c/d"}))
    assert "s3cr3t" not in str(runs_of([record]))
    assert "a:b" not in str(runs_of([record]))
    assert runs_of([record])[0].config["param_url"] == "http://***@c/d"


# --- the keys, as README.md has them ---------------------------------------------------------------


def documented() -> dict[str, list[re.Pattern[str]]]:
    """The keys in README's table, by the run's job_type; <...> stands for a word."""
    found: dict[str, list[re.Pattern[str]]] = {}
    for kind, rest in re.findall(r"^\| `(\w+)` \|(.*)$", README, flags=re.MULTILINE):
        rest = rest.replace("`shared`", "")
        keys = [key for text in re.findall(r"`([^`]+)`", rest) for key in text.split()]
        found.setdefault(kind, [re.compile(re.sub(r"<[^>]+>", r"[\\w.-]+", key)) for key in keys])
    return found


README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_keys_are_those_that_the_readme_documents() -> None:
    machine = {"host_id": "abc", "packages": {"jax": "0.11", "jax-cuda13-plugin": "0.11"}}
    records = [*sweep(environment=machine), make_failed("gpu", case=make_case(8))]
    records += [
        make_record(device, case=make_case(size, params={"batch": 32}))
        for device in ("cpu", "gpu")
        for size in (1, 2)
    ]
    for job_type in ("point", "curve", "speedup", "comparison"):
        table = documented()
        known = table["all"] + table[job_type] + (table["shared"] if job_type != "comparison" else [])
        keys = set[str]()
        for run in of_type(runs_of(records), job_type):
            keys |= {*run.config, *run.summary, *run.tables, *(key for row in run.rows for key in row)}
        keys.add(CONTENT)
        unknown = sorted(key for key in keys if not any(pattern.fullmatch(key) for pattern in known))
        assert unknown == [], f"README does not document these keys of {job_type} runs"
        gone = [p.pattern for p in known if not any(p.fullmatch(key) for key in keys)]
        assert gone == [], f"{job_type} runs have no such keys"


# --- what is said ----------------------------------------------------------------------------------


def test_all_that_wandb_may_add_is_a_minute() -> None:
    assert Limits().total_s + Limits().offline_s <= 57


def test_what_is_lacking_is_found() -> None:
    (run,) = runs_of([make_record(series={"loss": (1.0, 0.5)})])
    whole = There(id=run.id, finished=True, summary={CONTENT: run.content_id}, rows=2, files=frozenset())
    assert lacks(run, whole) is None
    assert lacks(run, None) == "all"
    assert lacks(run, replace(whole, summary={})) == "its summary"
    assert lacks(run, replace(whole, summary={CONTENT: "other"})) == "its summary"
    assert lacks(run, replace(whole, rows=1)) == "its history"
    assert lacks(run, replace(whole, finished=False)) == "its end"
    (compared,) = of_type(runs_of(sweep()), "comparison")
    files = {name: {"path": f"media/table/{name}.json"} for name in (*compared.tables, *compared.figures)}
    there = There(
        id=compared.id,
        finished=True,
        summary={CONTENT: compared.content_id, **files},
        rows=1,
        files=frozenset(file["path"] for file in files.values()),
    )
    assert lacks(compared, there) is None
    assert lacks(compared, replace(there, files=frozenset())) == "its pairs"


def test_events_add_up_to_an_outcome() -> None:
    events = [
        Event(kind=Kind.online, words="http://there"),
        Event(kind=Kind.there, ids=("a",)),
        Event(kind=Kind.sent, ids=("b",)),
        Event(kind=Kind.sent, ids=("c",)),
        Event(kind=Kind.confirmed, ids=("b",)),
        Event(kind=Kind.fault, words="it broke"),
    ]
    found = outcome_of(["a", "b", "c", "d"], events, "it ended")
    assert (found.there, found.confirmed, found.sent, found.missing) == (1, 1, 1, frozenset("d"))
    assert found.faults == ("it broke", "it ended")
    assert not found.complete
    done = outcome_of(["a"], [*events[:2], Event(kind=Kind.done)], "it ended")
    assert done.complete
    assert done.faults == ()


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        (Outcome(asked=2, confirmed=2, address="http://w/p"), "W&B: 2 runs sent to http://w/p"),
        (
            Outcome(asked=2, kept=2, offline="nobody is logged in"),
            (
                "W&B: 2 runs kept offline (nobody is logged in); to look at: wandb leet '/a b/wandb'; "
                "to send them: wandb login && AGAIN"
            ),
        ),
        (
            Outcome(asked=3, confirmed=1, sent=1, faults=("no answer",), address="http://w/p"),
            (
                "W&B: no answer; 1 run sent of 3 to http://w/p; 1 run sent, which W&B does not confirm; "
                "all records are on disk; to send what is missing: AGAIN"
            ),
        ),
    ],
)
def test_one_line_says_what_became_of_the_runs(outcome: Outcome, line: str) -> None:
    order = Order(runs=(), project="p", entity=None, folder="/a b", mode="auto", keep=True)
    assert publish.closing_line(outcome, order, "AGAIN") == line


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("what nobody\nthought of"), "what nobody"),
        (ConnectionResetError("gone"), "wandb-core, its own process, has ended (gone)"),
        (type("HandleAbandonedError", (Exception,), {})(), "wandb-core, its own process, has ended"),
        (ValueError(), "ValueError"),
        (Exception("x: the service process is busy and did not respond in time."), "no answer in time"),
        (Exception('Post "http://me:pw@host/graphql": EOF'), 'Post "http://***@host/graphql": EOF'),
    ],
)
def test_an_exception_of_wandb_s_is_one_true_line(error: Exception, words: str) -> None:
    assert client.in_words(error).startswith(words)
    assert "\n" not in client.in_words(error)


def test_a_later_publish_names_the_project_where_it_is_not_the_usual_one(config: WandbConfig) -> None:
    assert publish.later(config, Path("a b")) == "python -m jaxaccel.report 'a b' --wandb"
    other = replace(config, project="p", entity="e")
    assert publish.later(other, Path("d")).endswith("--wandb --wandb-project e/p")


# --- modes -----------------------------------------------------------------------------------------


def test_an_unknown_mode_in_the_environment_costs_a_line(
    config: WandbConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "bogus")
    found = publish.publish(sweep(), config, tmp_path)
    assert "WANDB_MODE must be one of auto, online, offline, disabled, got 'bogus'" in found.message


def test_disabled_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "Child", None)  # to start one would raise
    config = WandbConfig(mode=WandbMode.disabled, project="jaxaccel")
    assert publish.publish(sweep(), config, tmp_path).message == ""
    assert publish.publish([], replace(config, mode=WandbMode.online), tmp_path).message == ""


def test_records_that_make_no_runs_cost_a_line(config: WandbConfig, tmp_path: Path) -> None:
    nothing = [make_record(device, timings=make_timings(device, 1e-4)) for device in ("cpu", "gpu")]
    found = publish.publish(nothing, config, tmp_path)  # their transfers take no time at all
    assert found.message.startswith("W&B: these records make no runs: ")
    assert found.message.endswith("; all records are on disk")


def test_a_process_that_can_t_be_started_costs_a_line(
    config: WandbConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(process.tempfile, "TemporaryDirectory", full)
    found = publish.publish(sweep(), config, tmp_path)
    assert found.message == (
        "W&B: its client can't be started: No space left on device; all records are on disk"
    )


def test_a_process_that_breaks_tells_its_last_words(
    config: WandbConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho it is broken >&2\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    found = publish.publish(sweep()[:1], config, tmp_path)
    assert found.message.startswith(
        "W&B: its client ended with code 3: it is broken; all records are on disk"
    )


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_a_mode_that_is_asked_for_is_taken(mode: str) -> None:
    assert client.resolve_mode(mode) == mode


@pytest.mark.parametrize("mode", ["auto", "online"])
def test_who_is_not_logged_in_is_not_prompted_and_stays_offline(mode: str) -> None:
    assert client.resolve_mode(mode) == "offline"


def test_settings_that_this_wandb_does_not_know_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    whole = client.known(client._lean())
    assert whole["finish_timeout_raises"]
    assert whole["x_transaction_log_flush_interval"] == 1
    wandb.Settings(**whole)
    older = SimpleNamespace(Settings=SimpleNamespace(model_fields={"silent": bool, "console": str}))
    monkeypatch.setitem(sys.modules, "wandb", older)
    assert client.known(client._lean()) == {"silent": True, "console": "off"}


# --- later -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_an_account_report_says_so_and_sends_nothing(
    environment: dict[str, str], tmp_path: Path
) -> None:
    store.save_all(sweep(), tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "jaxaccel.report", str(tmp_path), "--wandb"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == (
        "W&B: nobody is logged in: wandb login, or WANDB_API_KEY; 0 runs sent; 10 of 10 are not there\n"
    )


@pytest.mark.parametrize(
    ("rounds", "line", "complete"),
    [
        ([(0, 4), (4, 4), (8, 2)], "W&B: 10 runs sent: http://w/p", True),
        ([(3, 4), (7, 0)], "W&B: up; 4 runs sent; 3 were there already; 3 of 10 are not there", False),
        ([(1, 0)], "W&B: up; 0 runs sent; 1 was there already; 9 of 10 are not there", False),
    ],
)
def test_it_goes_on_for_as_long_as_more_arrives(
    rounds: list[tuple[int, int]],
    line: str,
    complete: bool,
    config: WandbConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = iter(rounds)

    def carry_out(order: Order) -> Outcome:
        there, confirmed = next(left)
        assert (order.mode, order.keep, len(order.runs)) == ("online", False, 10)
        faults = () if there + confirmed == 10 else ("up",)
        return Outcome(asked=10, there=there, confirmed=confirmed, address="http://w/p", faults=faults)

    monkeypatch.setattr(publish, "carry_out", carry_out)
    found = publish.publish_later(sweep(), config)
    assert (found.message, found.complete) == (line, complete)
    assert list(left) == []


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_an_environment_that_says_offline_is_heard(
    mode: str, config: WandbConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    found = publish.publish_later(sweep(), config)
    assert not found.complete
    assert found.message == f"W&B: nothing is sent, for WANDB_MODE is {mode!r}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--wandb-project", "p"], "`--wandb-project` is for `--wandb`, and there is none; got 'p'"),
        (["--wandb", "--price", "cpu=1"], "not with `--price`"),
        (["--wandb", "--baseline", "b"], "not with `--baseline`"),
        (["--wandb", "--wandb-project", "a/b/c"], "`--wandb-project` must be PROJECT or ENTITY/PROJECT"),
        (["--wandb", "--wandb-project", "/p"], "`--wandb-project` must be PROJECT or ENTITY/PROJECT"),
    ],
)
def test_arguments_that_can_t_be_are_refused(arguments: list[str], words: str) -> None:
    with pytest.raises(BadInputError, match=re.escape(words)):
        report.read(["new", *arguments])


def test_the_project_may_have_an_entity() -> None:
    found = report.read(["new", "--wandb", "--wandb-project", "team/gpus"]).wandb
    assert found is not None
    assert (found.entity, found.project) == ("team", "gpus")
