"""Weights & Biases through its real client, without an account and without a network; and when it fails."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import LEAN, Ran, RunCli
from fakes import make_record, make_timings

from jaxaccel.config import WandbConfig, WandbMode
from jaxaccel.publish import store, wandb_runs
from jaxaccel.records import Metric, Record

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


def test_without_an_account_runs_are_kept_offline_and_a_line_says_how_to_publish(anonymous: Ran) -> None:
    assert anonymous.code == 0, anonymous.said
    assert len(offline_runs(anonymous.folder)) == 1
    (line,) = [line for line in anonymous.said.splitlines() if "W&B" in line]
    assert "1 run kept offline" in line
    assert f"wandb sync {anonymous.folder}/wandb/offline-run-*" in line
    assert "wandb login" in line


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
    found = wandb_runs.point_summary(record)
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
    found = wandb_runs.point_summary(make_record(**blank))
    assert not [name for name in found if name.partition("/")[0] in ("rate", "limit", "ceiling", "transfer")]
    assert not [name for name in found if name.partition("/")[0] in ("device", "energy", "memory")]
    assert None not in found.values()


def test_an_environment_that_disables_it_wins(run_cli: RunCli) -> None:
    ran = run_cli(*ARGUMENTS, "wandb=online", env={"WANDB_MODE": "disabled"})
    assert ran.code == 0
    assert "W&B" not in ran.said
    assert not (ran.folder / "wandb").exists()


def test_a_malformed_key_costs_a_line_and_nothing_else(run_cli: RunCli) -> None:
    ran = run_cli(*ARGUMENTS, "wandb=auto", env={"WANDB_API_KEY": "too-short"})
    assert ran.code == 0
    assert "Traceback" not in ran.said
    (line,) = [line for line in ran.said.splitlines() if "W&B" in line or "wandb" in line]
    assert "WANDB_API_KEY" in line
    assert "the records are on disk" in line
    assert "too-short" not in ran.said
    (record,) = ran.records().values()
    assert record["status"] == "ok"


def test_a_key_is_in_no_file_and_in_no_output(with_key: Ran) -> None:
    assert with_key.code == 0, with_key.said
    assert len(offline_runs(with_key.folder)) == 1
    assert SECRET not in with_key.said
    files = [path for path in with_key.cwd.rglob("*") if path.is_file()]
    assert len(files) > 4
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_a_server_out_of_reach_leaves_the_runs_offline(
    record: Record, environment: dict[str, str], tmp_path: Path
) -> None:
    store.save(record, tmp_path)
    script = (
        "import pathlib\n"
        "from jaxaccel.config import WandbConfig, WandbMode\n"
        "from jaxaccel.publish import store, wandb_runs\n"
        "wandb_runs.INIT_TIMEOUT_S = 1.0\n"
        "config = WandbConfig(mode=WandbMode.auto, project='jaxaccel')\n"
        "published = wandb_runs.log(store.load_records(['.']), config, pathlib.Path().absolute())\n"
        "print(published.mode, published.logged)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        # Nothing listens there.
        env=environment | {"WANDB_API_KEY": SECRET, "WANDB_BASE_URL": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "offline 1"
    (run,) = offline_runs(tmp_path)
    assert inspect(run)["config"]["size"] == 16
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


# --- when it fails ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("what nobody\nthought of"),
        ConnectionResetError("gone"),
        OSError(28, "no space left"),
        ValueError(),
    ],
)
def test_an_exception_out_of_wandb_never_gets_through(
    error: Exception, record: Record, config: WandbConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> None:
        raise error

    monkeypatch.setattr("wandb.init", fail)
    published = wandb_runs.log([record, record], config, tmp_path)
    assert published.logged == 0
    assert published.message.startswith("W&B took 0 of 2 runs, then: ")
    assert published.message.endswith("all records are on disk")
    assert "\n" not in published.message


def test_what_fails_while_a_run_is_written_or_finished_does_not_get_through_either(
    record: Record, config: WandbConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        @property
        def summary(self) -> Any:
            return {}

        def __enter__(self) -> "Broken":
            return self

        def __exit__(self, *_: object) -> None:
            raise TimeoutError("finish took too long")

    monkeypatch.setattr("wandb.init", lambda **_: Broken())
    assert "finish took too long" in wandb_runs.log([record], config, tmp_path).message


def test_a_server_that_does_not_answer_is_asked_once_and_the_runs_stay_offline(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    tried: list[str] = []

    class Logged:
        summary: dict[str, Any] = {}  # noqa: RUF012

        def __enter__(self) -> "Logged":
            return self

        def __exit__(self, *_: object) -> None: ...

    def init(*, mode: str, **_: Any) -> Logged:
        tried.append(mode)
        if mode == "online":
            raise wandb.errors.CommError("no answer")
        return Logged()

    monkeypatch.setattr("wandb.init", init)
    monkeypatch.setattr("wandb.login", lambda **_: True)
    config = WandbConfig(mode=WandbMode.online, project="jaxaccel")
    published = wandb_runs.log([record, record], config, tmp_path)
    assert tried == ["online", "offline", "offline"]
    assert (published.mode, published.logged) == ("offline", 2)
    assert "2 runs kept offline (no answer); to publish: wandb login && wandb sync" in published.message


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_a_mode_that_is_asked_for_is_taken(mode: str) -> None:
    assert wandb_runs.resolve_mode(mode) == mode


@pytest.mark.parametrize("mode", ["auto", "online"])
def test_who_is_not_logged_in_is_not_prompted_and_stays_offline(mode: str) -> None:
    assert wandb_runs.resolve_mode(mode) == "offline"


def test_asked_to_be_online_the_closing_line_says_why_it_is_not(record: Record, tmp_path: Path) -> None:
    config = WandbConfig(mode=WandbMode.online, project="jaxaccel")
    assert "kept offline (nobody is logged in)" in wandb_runs.log([record], config, tmp_path).message


def test_an_unknown_mode_in_the_environment_costs_a_line(
    record: Record, config: WandbConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "bogus")
    published = wandb_runs.log([record], config, tmp_path)
    assert published.logged == 0
    assert "WANDB_MODE must be one of auto, online, offline, disabled, got 'bogus'" in published.message


def test_disabled_does_not_even_import_it(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # to import it would raise
    config = WandbConfig(mode=WandbMode.disabled, project="jaxaccel")
    assert wandb_runs.log([record], config, tmp_path).logged == 0
    assert wandb_runs.log([], WandbConfig(mode=WandbMode.online, project="x"), tmp_path).logged == 0


def test_settings_that_this_wandb_does_not_know_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    whole = wandb_runs._settings()
    assert whole["init_timeout"] <= 15
    assert whole["finish_timeout"] <= 30
    wandb.Settings(**whole)
    older = SimpleNamespace(Settings=SimpleNamespace(model_fields={"silent": bool, "console": str}))
    monkeypatch.setitem(sys.modules, "wandb", older)
    assert wandb_runs._settings() == {"silent": True, "console": "off"}
