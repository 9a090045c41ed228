"""Records on their way to a W&B backend on loopback, by the real client over real HTTP; and all that breaks.

Limits are short here. test_wandb.py holds the real ones against the minute that W&B may take.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import loopback
import psutil
import pytest
from fakes import make_case, make_record, make_timings
from loopback import Backend, Fault, serving
from processes import LEAN, RunCli

from jaxaccel.records import Record, store
from jaxaccel.wandb.config import WandbConfig, WandbMode
from jaxaccel.wandb.layout import runs_of
from jaxaccel.wandb.publish import Published, publish, publish_later
from jaxaccel.wandb.runs import CONTENT
from jaxaccel.wandb.send_job import Limits

PROJECT = WandbConfig(mode=WandbMode.auto, project="sizes")
SHORT = Limits(ask_s=2, init_s=2, finish_s=2, settle_s=1, online_s=15, total_s=22, offline_s=12)
UNHURRIED = replace(SHORT, finish_s=15, settle_s=5, online_s=30, total_s=40)
SLACK_S = 6.0  # for two busy cores


def none(_: object) -> dict[str, str]:
    """No figures: they take W&B's client a second or two to send."""
    return {}


def sweep(sizes: int = 2) -> list[Record]:
    """The records of a sweep over sizes on both devices."""
    return [
        make_record(device, case=case, timings=make_timings(device, latency_s, transfer_s=1e-3, seed=at))
        for at, case in enumerate(make_case(256 * 4**at) for at in range(sizes))
        for device, latency_s in (("cpu", 1e-4 * 4**at), ("gpu", 5e-5))
    ]


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    with serving() as found:
        monkeypatch.setenv("WANDB_BASE_URL", found.url)
        monkeypatch.setenv("WANDB_API_KEY", loopback.KEY)
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "results"


def timed(work: Callable[[], Published]) -> tuple[Published, float]:
    start_s = time.monotonic()
    found = work()
    return found, time.monotonic() - start_s


def require_all(backend: Backend, records: list[Record]) -> None:
    """Every run of the records is there once, whole, with what it should hold."""
    wanted = {run.id: run for run in runs_of(records, figures=none)}
    there = {name: run for (_, name), run in backend.runs.items() if run.complete}
    assert there.keys() == wanted.keys()
    for name, run in wanted.items():
        assert there[name].summary[CONTENT] == run.content_id
        media = bool(run.tables or run.figures)
        assert there[name].rows[: len(run.rows)] == [dict(row) for row in run.rows], run.name
        assert len(there[name].rows) == len(run.rows) + media, "history is doubled"


def offline_ids(folder: Path) -> list[str]:
    """The ids of the runs that are in the folder."""
    return [path.name.split("-", 3)[-1] for path in sorted(folder.glob("wandb/offline-run-*"))]


# --- it arrives ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_sweep_of_12_jobs_arrives_complete_and_a_repeat_sends_nothing(
    backend: Backend, folder: Path
) -> None:
    records = sweep(6)
    found = publish(records, PROJECT, folder, figures=none, limits=SHORT)
    assert found.complete, found.message
    assert found.message == f"W&B: 16 runs sent to {backend.url}/{loopback.ENTITY}/sizes"
    require_all(backend, records)
    assert Counter(run.job_type for run in backend.runs.values()) == {
        "point": 12,
        "curve": 2,
        "speedup": 1,
        "comparison": 1,
    }
    for run in backend.runs.values():
        assert run.group == "5eed"
        assert not [value for value in run.config.values() if isinstance(value, dict | list)]
    (point,) = [run for run in backend.of("point") if run.display_name == "matvec-256-gpu"]
    assert set(point.tags) == {"matvec", "gpu"}
    assert point.config["size"] == 256
    begun = sum(run.upserts for run in backend.runs.values())
    again = publish_later(records, PROJECT, figures=none, limits=SHORT)
    assert again.complete
    assert again.message.startswith("W&B: 0 runs sent; 16 were there already")
    assert sum(run.upserts for run in backend.runs.values()) == begun


@pytest.mark.slow
def test_the_figures_of_the_page_arrive_with_a_sweep(backend: Backend, folder: Path) -> None:
    records = sweep(3)
    found = publish(records, PROJECT, folder, limits=UNHURRIED)
    assert found.complete, found.message
    (run,) = (run for run in backend.runs.values() if run.job_type == "comparison")
    assert {"latency/matvec", "speedup/matvec float32 highest", "roofline/gpu"} <= run.summary.keys()
    assert "plotly" in run.summary["latency/matvec"]["path"]


@pytest.mark.slow
def test_tables_and_figures_arrive_as_files(backend: Backend, folder: Path) -> None:
    import plotly.graph_objects as go

    figures = {"speedup by size": go.Figure(go.Scatter(x=[1, 2], y=[3.0, 4.5]))}
    records = sweep()

    def draw(_: object) -> dict[str, str]:
        return {name: figure.to_json() for name, figure in figures.items()}

    found = publish(records, PROJECT, folder, figures=draw, limits=UNHURRIED)
    assert found.complete, found.message
    (run,) = backend.of("comparison")
    documents = {name: run.files[run.summary[name]["path"]] for name in ("pairs", "crossovers", *figures)}
    pairs = json.loads(documents["pairs"])
    assert [row[pairs["columns"].index("size")] for row in pairs["data"]] == [256, 1024]
    ratio = pairs["data"][0][pairs["columns"].index("latency_speedup")]
    assert ratio == pytest.approx(2.0, rel=0.01)
    crossovers = json.loads(documents["crossovers"])
    assert {row[crossovers["columns"].index("question")] for row in crossovers["data"]} >= {"latency"}
    figure = json.loads(documents["speedup by size"])
    assert list(figure["data"][0]["y"]) == [3.0, 4.5]


@pytest.mark.slow
def test_an_upload_that_fails_is_noticed_and_mended(backend: Backend, folder: Path) -> None:
    backend.trouble = lambda kind, _: Fault(403) if kind == "upload" else None
    records = sweep()
    found = publish(records, PROJECT, folder, figures=none, limits=SHORT)
    assert not found.complete
    assert "of comparison-5eed, for one, its pairs did not arrive" in found.message
    backend.trouble = lambda *_: None
    assert publish_later(records, PROJECT, figures=none, limits=SHORT).complete
    require_all(backend, records)


@pytest.mark.slow
def test_a_record_that_has_changed_is_the_same_run_anew(backend: Backend, folder: Path) -> None:
    (record, *_) = sweep()
    assert publish([record], PROJECT, folder, figures=none, limits=SHORT).complete
    more = replace(record, timings=make_timings("cpu", 2e-4, transfer_s=1e-3))  # another pass of it
    found = publish([more], PROJECT, folder, figures=none, limits=SHORT)
    assert found.complete, found.message
    assert len(backend.runs) == 1
    require_all(backend, [more])


@pytest.mark.slow
def test_of_what_others_measured_only_the_sweep_s_own_runs_are_sent(backend: Backend, folder: Path) -> None:
    records = sweep()
    earlier = [replace(record, sweep_id="01d") for record in records]
    assert publish(
        [*earlier, *records], PROJECT, folder, sweep_id="5eed", figures=none, limits=SHORT
    ).complete
    assert {run.group for run in backend.runs.values()} == {"5eed"}


@pytest.mark.slow
def test_a_user_s_own_run_in_the_environment_is_left_alone(
    backend: Backend, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "WANDB_RUN_ID": "mine",
        "WANDB_RESUME": "must",
        "WANDB_NAME": "mine",
        "WANDB_PROJECT": "other",
    }.items():
        monkeypatch.setenv(name, value)
    assert publish(sweep()[:1], PROJECT, folder, figures=none, limits=SHORT).complete
    assert [(project, run.display_name) for (project, _), run in backend.runs.items()] == [
        ("sizes", "matvec-256-cpu")
    ]


# --- it does not -----------------------------------------------------------------------------------


def on(kind: str, fault: Fault, until_s: float = 1e9) -> Callable[[str, float], Fault | None]:
    """A fault of requests of a kind, for so long."""
    return lambda asked, since_s: fault if asked.startswith(kind) and since_s < until_s else None


FAULTS = {
    "401 at the start": (on("", Fault(401)), "Failed to verify credentials"),
    "403 at the start": (on("", Fault(403)), "Failed to verify credentials"),
    "429": (on("", Fault(429)), "no answer in time"),
    "an outage": (on("", Fault(drop=True)), "no answer in time"),
    "a stall": (on("", Fault(delay_s=30)), "no answer in time"),
    "401 on file_stream": (on("file_stream", Fault(401)), "its summary did not arrive"),
    "404 on file_stream": (on("file_stream", Fault(404)), "its summary did not arrive"),
    "500 on file_stream": (on("file_stream", Fault(500)), "Timed out finishing run"),
    "429 on file_stream": (on("file_stream", Fault(429)), "Timed out finishing run"),
    "a stall of run starts": (on("graphql UpsertBucket", Fault(delay_s=30)), "Timed out initializing run"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_costs_a_true_line_and_a_later_publish_completes_it(
    name: str, backend: Backend, folder: Path
) -> None:
    backend.trouble, words = FAULTS[name]
    records = sweep(1)
    store.save_all(records, folder)
    found, took_s = timed(lambda: publish(records, PROJECT, folder, figures=none, limits=SHORT))
    assert took_s < SHORT.total_s + SHORT.offline_s + SLACK_S
    assert "\n" not in found.message
    assert words in found.message
    assert "all records are on disk" in found.message
    assert f"python -m jaxaccel.report {folder} --wandb --wandb-project sizes" in found.message
    assert loopback.KEY not in found.message
    assert not found.complete
    outcome = found.outcome
    assert outcome is not None
    assert outcome.confirmed == 0
    assert outcome.kept + outcome.sent == outcome.asked, found.message
    ids = offline_ids(folder)
    assert len(ids) == len(set(ids)) == outcome.kept
    if outcome.kept:
        assert f"{outcome.kept} runs kept offline" in found.message
    if outcome.sent:
        assert f"{outcome.sent} runs sent, which W&B does not confirm" in found.message
    assert store.load_records([folder]) == records
    backend.trouble = lambda *_: None
    assert publish_later(records, PROJECT, figures=none, limits=SHORT).complete
    require_all(backend, records)


@pytest.mark.slow
def test_an_outage_that_ends_in_time_is_waited_for(backend: Backend, folder: Path) -> None:
    backend.trouble = on("", Fault(drop=True), until_s=1.5)
    found = publish(sweep()[:1], PROJECT, folder, figures=none, limits=replace(SHORT, ask_s=10))
    assert found.complete, found.message


@pytest.mark.slow
def test_an_outage_in_the_middle_leaves_the_rest_offline(backend: Backend, folder: Path) -> None:
    begun = Counter[str]()

    def trouble(kind: str, _: float) -> Fault | None:
        begun[kind] += 1
        return Fault(drop=True) if begun["graphql UpsertBucket"] > 16 else None

    backend.trouble = trouble
    records = sweep(6)
    found = publish(records, PROJECT, folder, figures=none, limits=SHORT)
    outcome = found.outcome
    assert outcome is not None
    assert not outcome.missing
    assert 0 < outcome.kept < outcome.asked
    assert outcome.kept + outcome.sent + outcome.confirmed == outcome.asked
    backend.trouble = lambda *_: None
    assert publish_later(records, PROJECT, figures=none, limits=SHORT).complete
    require_all(backend, records)


@pytest.mark.slow
def test_a_client_that_hangs_is_ended(backend: Backend, folder: Path) -> None:
    backend.trouble = on("", Fault(delay_s=30))
    hopeful = replace(SHORT, ask_s=60, total_s=4)
    found, took_s = timed(lambda: publish(sweep(), PROJECT, folder, figures=none, limits=hopeful))
    assert took_s < 4 + SHORT.offline_s + SLACK_S
    assert "it took longer than 4 s; 8 runs kept offline" in found.message
    assert not [p for p in psutil.Process().children(recursive=True) if "wandb-core" in p.name()]


@pytest.mark.slow
def test_wandb_core_killed_in_the_middle_costs_a_line(backend: Backend, folder: Path) -> None:
    begun = Counter[str]()

    def kill(kind: str, _: float) -> Fault | None:
        begun[kind] += 1
        if kind == "graphql UpsertBucket" and begun[kind] == 3:
            for process in psutil.Process().children(recursive=True):
                if "wandb-core" in process.name():
                    process.kill()
        return None

    backend.trouble = kill
    records = sweep()
    found = publish(records, PROJECT, folder, figures=none, limits=SHORT)
    assert "wandb-core, its own process, has ended" in found.message
    assert "8 runs kept offline" in found.message
    backend.trouble = lambda *_: None
    assert publish_later(records, PROJECT, figures=none, limits=SHORT).complete
    require_all(backend, records)


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No file that the client writes may be longer than 8 kB: a disk that is full at that."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/bash\nulimit -f 8\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))


def long_sweep() -> list[Record]:
    return [replace(record, series={"loss": tuple(map(float, range(1, 150)))}) for record in sweep()]


@pytest.mark.slow
def test_what_was_sent_from_a_full_disk_is_confirmed_only_where_it_arrived(
    backend: Backend, folder: Path, no_room: None
) -> None:
    found = publish(long_sweep(), PROJECT, folder, figures=none, limits=SHORT)
    outcome = found.outcome
    assert outcome is not None
    wanted = {run.id: run for run in runs_of(long_sweep(), figures=none)}
    whole = [
        run
        for (_, name), run in backend.runs.items()
        if run.complete and len(run.history) >= len(wanted[name].rows)
    ]
    assert outcome.confirmed <= len(whole)
    assert found.complete is (outcome.confirmed == len(wanted))


@pytest.mark.slow
def test_offline_files_that_are_cut_short_are_noticed(
    folder: Path, no_room: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline = replace(PROJECT, mode=WandbMode.offline)
    found = publish(long_sweep(), offline, folder, figures=none, limits=SHORT)
    assert not found.complete
    assert "all records are on disk" in found.message
    assert "is the disk full?" in found.message
    outcome = found.outcome
    assert outcome is not None
    assert outcome.confirmed == 0
    monkeypatch.undo()
    assert outcome.kept < outcome.asked
    cut = [path for path in folder.glob("wandb/offline-run-*/*.wandb") if path.stat().st_size == 8 * 1024]
    assert 0 < len(cut) <= outcome.asked - outcome.kept


@pytest.mark.slow
def test_a_full_disk_is_told(backend: Backend, folder: Path) -> None:
    (folder / "wandb").mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(folder / "wandb")]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("it takes root to mount a small disk")
    try:
        records = sweep()
        store.save_all(records, folder)
        found = publish(records, PROJECT, folder, figures=none, limits=SHORT)
    finally:
        subprocess.run(["umount", "-l", str(folder / "wandb")], check=True)
    assert not found.complete
    assert "no space left on device" in found.message.lower()
    assert "all records are on disk" in found.message
    assert store.load_records([folder]) == records
    assert publish_later(records, PROJECT, figures=none, limits=SHORT).complete
    require_all(backend, records)


# --- the command -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_sends_its_sweep_and_a_refusal_does_not_change_its_exit_code(
    backend: Backend, run_cli: RunCli, tmp_path: Path
) -> None:
    account = {"WANDB_BASE_URL": backend.url, "WANDB_API_KEY": loopback.KEY}
    arguments = ("-m", "size=8,16", "timing=quick", "timing.limit_s=0.1", *LEAN)
    ran = run_cli(*arguments, cwd=tmp_path / "sent", env=account)
    assert ran.code == 0, ran.said
    assert f"W&B: 3 runs sent to {backend.url}/somebody/jaxaccel" in ran.said
    require_all(backend, store.load_records([ran.folder]))
    backend.trouble = on("", Fault(403))
    ran = run_cli(*arguments, cwd=tmp_path / "refused", env=account)
    assert ran.code == 0, ran.said
    (line,) = [line for line in ran.said.splitlines() if "W&B" in line]
    assert "3 runs kept offline" in line
    assert len(ran.records()) == 2
    backend.trouble = lambda *_: None
    done = subprocess.run(
        [sys.executable, "-m", "jaxaccel.report", str(ran.folder), "--wandb"],
        env=os.environ | account,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("W&B: 3 runs sent: ")
    assert len(backend.runs) == 6
