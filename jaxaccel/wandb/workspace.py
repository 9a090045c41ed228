"""Saved W&B workspaces as code: CPU beside GPU in one project, and machine beside machine.

The one module that imports wandb_workspaces. What the panels read are the keys of points, curves and
comparison; a test holds them against each other.
"""

import json
from collections.abc import Sequence
from typing import Any

from jaxaccel.records import Metric, digest
from jaxaccel.wandb.comparison import CROSSOVERS, PAIRS
from jaxaccel.wandb.curve_runs import SIZE
from jaxaccel.wandb.point_run import STEP

DEVICES_VIEW, MACHINES_VIEW = "CPU vs GPU", "CPU vs GPU, by machine"
SHOWN = (Metric.latency, Metric.throughput, Metric.device, Metric.end_to_end)
TRAINED = ("mlp", "mlp_article")  # those with a loss
ANSWER_S = 15
MAX_RUNS = 1000  # a panel shows 10 if nobody says otherwise


def workspaces(entity: str, project: str, workloads: Sequence[str], figures: Sequence[str] = ()) -> list[Any]:
    """Both views of a project, unsaved; a section a workload. `figures` are keys of comparison runs."""
    return [
        _view(entity, project, DEVICES_VIEW, "line", workloads, figures),
        _view(entity, project, MACHINES_VIEW, "machine", workloads, figures),
    ]


def default_entity() -> str | None:
    """Whose account this is, None where nobody is logged in. Never prompts.

    **Raises** what wandb raises where it can't be asked.
    """
    import wandb

    wandb.setup(settings=wandb.Settings(silent=True))
    if not wandb.login(prompt=False, verify=False):
        return None
    found = wandb.Api(timeout=ANSWER_S).default_entity
    return None if found is None else str(found)


def spec(workspace: Any) -> dict[str, Any]:
    """What would be saved, by the library's own model, without asking anybody."""
    view = workspace._to_model()
    document = json.loads(view.spec.model_dump_json(by_alias=True, exclude_none=True))
    return {"name": view.display_name, "entity": view.entity, "project": view.project, "spec": document}


def save(workspace: Any) -> tuple[str, bool]:
    """Save the workspace, over an earlier one of its name; its address, and whether it is new.

    **Raises** what wandb raises where it can't be: no such project, no answer.
    """
    from wandb_workspaces.workspaces import internal

    name = view_name(workspace)
    try:
        there = internal.View.from_name(workspace.entity, workspace.project, name)
    except ValueError as error:
        if "Workspace" not in str(error):  # it is the project that is not there
            raise
        there = None
    # The library has no public way to save over a view that it has not loaded, and a loaded one would keep
    # what was there.
    workspace._internal_name = name
    workspace._internal_id = there.id if there else ""
    workspace.save()
    return str(workspace.url), there is None


def view_name(workspace: Any) -> str:
    """The name by which W&B knows the view: always the same, so that a second save finds the first."""
    return f"nw-{digest([workspace.entity, workspace.project, workspace.name])[:11]}-v"


def _view(
    entity: str, project: str, name: str, by: str, workloads: Sequence[str], figures: Sequence[str]
) -> Any:
    import wandb_workspaces.workspaces as ws

    sections = [_overview(by, figures), *(_section(workload, by) for workload in workloads)]
    for section in sections:
        for at, panel in enumerate(section.panels):
            panel._id = digest([name, section.name, at])  # else random: the same view would differ each time
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis=SIZE, max_runs=MAX_RUNS),
        runset_settings=ws.RunsetSettings(
            # Grouped runs get bands: passes of one sweep, and sweeps of one machine.
            groupby=[ws.Config("machine")] if by == "machine" else [],
            pinned_columns=[
                *(f"config:{key}" for key in ("workload", "size", "device", "machine", "dtype", "precision")),
                "summary:latency/median_s",
            ],
        ),
    )


def _overview(by: str, figures: Sequence[str]) -> Any:
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    size = wr.Config(SIZE)
    panels = [
        wr.BarPlot(
            title="speedup, CPU time / GPU time, at the largest size, by latency",
            metrics=["speedup/latency"],
            groupby=wr.Config("workload" if by == "line" else "machine"),
            groupby_aggfunc="median",
            groupby_rangefunc="minmax",
            max_runs_to_show=MAX_RUNS,
            layout=wr.Layout(x=0, y=0, w=12, h=8),
        ),
        wr.ScatterPlot(
            title="latency of every point, by size",
            x=size,
            y=wr.SummaryMetric("latency/median_s"),
            log_x=True,
            log_y=True,
            layout=wr.Layout(x=12, y=0, w=12, h=8),
        ),
        wr.WeavePanelSummaryTable(table_name=CROSSOVERS, layout=wr.Layout(x=0, y=8, w=24, h=8)),
        wr.WeavePanelSummaryTable(table_name=PAIRS, layout=wr.Layout(x=0, y=16, w=24, h=10)),
        wr.RunComparer(diff_only="split", layout=wr.Layout(x=0, y=26, w=24, h=10)),
    ]
    if figures:
        panels.append(
            wr.MediaBrowser(media_keys=list(figures), num_columns=2, layout=wr.Layout(x=0, y=36, w=24, h=12))
        )
    return ws.Section(name="Overview", panels=panels, is_open=True)


def _section(workload: str, by: str) -> Any:
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    lines = [(f"{metric}, s", [f"{workload}/{metric}_median_s"]) for metric in SHOWN]
    lines += [("speedup, CPU time / GPU time", [f"{workload}/{metric}_speedup" for metric in SHOWN])]
    panels = [_lines(f"{workload}: {title}", SIZE, keys, by) for title, keys in lines]
    if workload in TRAINED:
        panels.append(_lines(f"{workload}: loss", STEP, [f"{workload}/loss"], by, log=False))
    for at, panel in enumerate(panels):
        panel.layout = wr.Layout(x=8 * (at % 3), y=8 * (at // 3), w=8, h=8)
    return ws.Section(name=workload, panels=panels, is_open=True)


def _lines(title: str, x: str, keys: Sequence[str], by: str, *, log: bool = True) -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.LinePlot(
        title=title,
        x=x,
        y=list(keys),
        log_x=log,
        log_y=log,
        groupby=wr.Config(by),
        groupby_aggfunc="median",
        groupby_rangefunc="minmax",
        max_runs_to_show=MAX_RUNS,
        smoothing_type="none",
    )
