"""W&B workspaces as code: what they show is what runs hold, and saving them twice makes one."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import loopback
import pytest
from fakes import make_case, make_record, make_timings
from loopback import Fault, serving

from jaxaccel import dashboard
from jaxaccel.records.errors import BadInputError
from jaxaccel.wandb import workspace
from jaxaccel.wandb.layout import runs_of
from jaxaccel.wandb.runs import Run

# Of the library's own, as it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")

WORKLOADS = ("matvec", "dot", "mlp")


def command(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jaxaccel.dashboard", *arguments],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def specs() -> list[dict[str, Any]]:
    found = workspace.workspaces("team", "gpus", WORKLOADS, ["speedup by size"])
    return [workspace.spec(view) for view in found]


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    """Those of a sweep over all that has a section."""
    return runs_of(
        make_record(device, case=case, timings=make_timings(device, latency_s, transfer_s=1e-3))
        for case in (make_case(size, workload=name) for name in WORKLOADS for size in (256, 1024))
        for device, latency_s in (("cpu", 1e-4), ("gpu", 5e-5))
    )


def panels(spec: dict[str, Any], kind: str | None = None) -> list[dict[str, Any]]:
    sections = spec["spec"]["section"]["panelBankConfig"]["sections"]
    found = [panel for section in sections for panel in section["panels"]]
    return [panel for panel in found if kind in (None, panel["viewType"])]


@pytest.mark.slow
def test_the_spec_is_one_that_the_library_s_own_model_takes(specs: list[dict[str, Any]]) -> None:
    from wandb_workspaces.workspaces import internal

    for spec in specs:
        again = internal.WorkspaceViewspec.model_validate(spec["spec"])
        assert json.loads(again.model_dump_json(by_alias=True, exclude_none=True)) == spec["spec"]
    assert [spec["name"] for spec in specs] == ["CPU vs GPU", "CPU vs GPU, by machine"]


def test_there_is_a_section_a_workload_below_the_overview(specs: list[dict[str, Any]]) -> None:
    for spec in specs:
        sections = spec["spec"]["section"]["panelBankConfig"]["sections"]
        assert [section["name"] for section in sections] == ["Overview", *WORKLOADS]
        kinds = [panel["viewType"] for panel in sections[0]["panels"]]
        assert kinds == ["Bar Chart", "Scatter Plot", "Weave", "Weave", "Run Comparer", "Media Browser"]
        assert all(
            panel["viewType"] == "Run History Line Plot" for s in sections[1:] for panel in s["panels"]
        )
        assert [len(section["panels"]) for section in sections[1:]] == [5, 5, 6]  # mlp: its loss


def test_lines_are_by_size_on_logarithmic_axes_with_a_line_a_device(
    specs: list[dict[str, Any]], runs: list[Run]
) -> None:
    devices, machines = specs
    for spec, key in ((devices, "line"), (machines, "machine")):
        for panel in panels(spec, "Run History Line Plot"):
            config = panel["config"]
            assert config["groupBy"] == f"{key}.value", panel
            assert (config["groupAgg"], config["groupArea"]) == ("median", "minmax")
            assert config["limit"] >= 1000  # 10 if nobody says otherwise
            if "loss" not in config["chartTitle"]:
                assert (config["xAxis"], config["xLogScale"], config["yLogScale"]) == ("size", True, True)
    assert all(key in run.config for run in runs if run.rows for key in ("line", "machine"))


def test_every_key_that_a_panel_reads_is_one_that_runs_hold(
    specs: list[dict[str, Any]], runs: list[Run]
) -> None:
    history = {key for run in runs for row in run.rows for key in row}
    summary = {key for run in runs for key in (*run.summary, *run.tables)}
    config = {key for run in runs for key in run.config}
    for spec in specs:
        for panel in panels(spec, "Run History Line Plot"):
            read = {panel["config"]["xAxis"], *panel["config"]["metrics"]}
            assert read <= history
            assert panel["config"]["groupBy"].removesuffix(".value") in config
        (bar,) = panels(spec, "Bar Chart")
        assert set(bar["config"]["metrics"]) <= summary
        assert bar["config"]["groupBy"].removesuffix(".value") in config
        (scatter,) = panels(spec, "Scatter Plot")
        assert scatter["config"]["xAxis"] == "config:size.value"
        assert scatter["config"]["yAxis"].removeprefix("summary:") in summary
        shown = [set(re.findall(r'"val": "(\w+)"', json.dumps(panel))) for panel in panels(spec, "Weave")]
        assert [names & {"pairs", "crossovers"} for names in shown] == [{"crossovers"}, {"pairs"}]
        (media,) = panels(spec, "Media Browser")
        assert media["config"]["mediaKeys"] == ["speedup by size"]
        pinned = spec["spec"]["section"]["runSets"][0]["runFeed"]["columnPinned"]
        named = {name.partition(":")[2] for name in pinned if not name.startswith("run:")}
        assert named <= config | summary


def test_the_same_view_is_the_same_spec(specs: list[dict[str, Any]]) -> None:
    again = [workspace.spec(v) for v in workspace.workspaces("team", "gpus", WORKLOADS, ["speedup by size"])]

    def settled(spec: dict[str, Any]) -> Any:
        return [{**panel, "config": None} for panel in panels(spec)]  # a query has random node ids

    assert [settled(spec) for spec in again] == [settled(spec) for spec in specs]


# --- the command -----------------------------------------------------------------------------------


@pytest.fixture
def server(environment: dict[str, str]) -> Iterator[tuple[loopback.Backend, dict[str, str]]]:
    with serving() as backend:
        yield backend, environment | {"WANDB_BASE_URL": backend.url, "WANDB_API_KEY": loopback.KEY}


@pytest.mark.slow
def test_saved_twice_there_is_one_of_each(server: tuple[loopback.Backend, dict[str, str]]) -> None:
    backend, env = server
    first = command("team/gpus", env=env)
    assert (first.returncode, first.stderr) == (0, "")
    assert [line.partition(", http")[0] for line in first.stdout.splitlines()] == [
        "CPU vs GPU: created",
        "CPU vs GPU, by machine: created",
    ]
    again = command("team/gpus", "--workload", "matvec", env=env)
    assert again.returncode == 0
    assert again.stdout == first.stdout.replace("created", "renewed")
    assert sorted(view["displayName"] for view in backend.views.values()) == sorted(
        [workspace.DEVICES_VIEW, workspace.MACHINES_VIEW]
    )
    for view in backend.views.values():
        assert (view["entity"], view["project"]) == ("team", "gpus")
        sections = json.loads(view["spec"])["section"]["panelBankConfig"]["sections"]
        assert [section["name"] for section in sections] == ["Overview", "matvec"]


@pytest.mark.slow
def test_a_refusal_is_a_line_and_an_exit_code(server: tuple[loopback.Backend, dict[str, str]]) -> None:
    backend, env = server
    backend.trouble = lambda *_: Fault(403)
    done = command("gpus", env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("jaxaccel: W&B did not take the workspaces: Failed to verify credentials")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_without_an_account_it_says_so_and_a_dry_run_needs_none(environment: dict[str, str]) -> None:
    done = command("gpus", env=environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "jaxaccel: nobody is logged in to W&B: wandb login, or WANDB_API_KEY\n"
    shown = command("gpus", "--dry-run", env=environment)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert [view["entity"] for view in json.loads(shown.stdout)] == ["ENTITY", "ENTITY"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a/b/c"], "`PROJECT` must be PROJECT or ENTITY/PROJECT, got 'a/b/c'"),
        (["p", "--workload", "matvec,bogus"], "`--workload` must be of attention, chain,"),
        ([], "PROJECT"),
    ],
)
def test_arguments_that_can_t_be_are_refused(arguments: list[str], words: str) -> None:
    with pytest.raises(BadInputError, match=re.escape(words)):
        dashboard.read(arguments)


def test_the_usual_workloads_have_configs() -> None:
    assert set(dashboard.WORKLOADS) <= set(dashboard.known_workloads())
