"""Measures the cases of all jobs with JAX and its peers, a device after the other, and shows them."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jaxaccel.cli.commands import (
    costs_a_warning,
    keep_measured,
    last_lines,
    process_start,
    ready_to_write,
    say_waiting,
    stop_by,
    to_its_end,
)
from jaxaccel.cli.config import ResumeChanged, RunConfig
from jaxaccel.cli.exit import BAD_INPUT, INCOMPLETE, OK
from jaxaccel.cli.keeping import Keeper
from jaxaccel.peers.frameworks import LIBRARIES, WORKLOADS, Framework, chosen, missing_lines
from jaxaccel.peers.launching import SharedLauncher, arm_name, starter
from jaxaccel.process import signals
from jaxaccel.records import JAX, RESIDENT, Record, Status
from jaxaccel.records.errors import BadInputError

if TYPE_CHECKING:
    from jaxaccel.cli.compose import Composed
    from jaxaccel.session.session import Group, Place


@dataclass(kw_only=True)
class Session:
    """What is measured on one device: groups of arms, and the folder of each one's record.

    lacking: how many arms were asked for by name that can't be, for their library is not installed.
    """

    device: str
    lacking: int = 0
    groups: list["Group"] = field(default_factory=list)
    folders: dict["Place", Path] = field(default_factory=dict)


def measure_jobs(composed: "Composed", line: str, sweep_id: str, stack: ExitStack) -> int:
    """Measure, save, show. Each record is on disk as soon as it is there. Returns the exit code.

    **Raises** BadInputError for what no peer is written for.
    """
    from jaxaccel.render.terminal import make_console
    from jaxaccel.render.terminal.progress import ShowProgress
    from jaxaccel.session.arm_run import Command
    from jaxaccel.session.device_locks import hold_devices
    from jaxaccel.session.session import Plan, measure

    config = composed.jobs[0].config
    with ready_to_write(composed):
        sessions, notes = plan(composed)
    command = Command(line=line, sweep_id=sweep_id, started=process_start())
    restart = config.resume_changed is ResumeChanged.restart
    found: dict[Path, Record] = {}
    asked = sum(len(session.folders) + session.lacking for session in sessions)
    with Keeper() as keeper:
        with to_its_end(composed, lambda: found):
            for session in sessions:
                with (
                    hold_devices([session.device], wait_s=config.wait_s, waiting=say_waiting),
                    ShowProgress(make_console()) as progress,
                ):
                    launcher = SharedLauncher(
                        starter(name for group in session.groups for name in group.arms)
                    )
                    stack.callback(launcher.stop)
                    for place, record in measure(
                        Plan(groups=session.groups, command=command, restart=restart), launcher, progress
                    ):
                        folder = session.folders[place]
                        found[folder] = record
                        keep_measured(keeper, record, sweep_id, [folder])
        return finish(composed, found, notes, keeper, asked=asked)


def finish(
    composed: "Composed", found: Mapping[Path, Record], notes: Sequence[str], keeper: Keeper, *, asked: int
) -> int:
    """Leave what was measured in one file, and show it. Returns the exit code."""
    from jaxaccel.analyze.peers import beside
    from jaxaccel.records import store
    from jaxaccel.render import terminal
    from jaxaccel.render.terminal.peers import failure_lines, show_peers

    screen, records = terminal.make_console(), list(found.values())
    refused = records and all(record.status is Status.refused for record in records)
    with signals.caught(), signals.held():
        if refused and not signals.stopped():
            composed.discard()
        else:
            for folder, record in found.items():
                if record.status is Status.refused:
                    keeper.keep(record, [folder])
            keeper.settle()
            with costs_a_warning(f"can't write to {composed.folder}"):  # each record is kept by itself
                if records:
                    store.save_all(records, composed.folder)
    with costs_a_warning("the results could not be shown"):
        show_peers(screen, beside(records))
        for line in notes:
            screen.print(line, style="yellow", markup=False, soft_wrap=True)
        for line in failure_lines(records):
            screen.print(line, style="red", markup=False, soft_wrap=True)
    if refused and not signals.stopped():
        return BAD_INPUT
    last_lines(keeper, composed.folder, made=len(found), asked=asked)
    complete = all(record.ok and not record.lacks_passes for record in records)
    whole = complete and len(found) == asked and keeper.complete
    return signals.exit_code() or (OK if whole else INCOMPLETE)


def plan(composed: "Composed") -> tuple[list[Session], list[str]]:
    """The sessions, one a device, and what is left out, in words.

    **Raises** BadInputError for a workload, framework or metric that is not for peers.
    """
    from jaxaccel.session.session import Group

    sessions: dict[str, Session] = {}
    notes: dict[str, None] = {}
    resumed = composed.jobs[0].config.resume
    earlier = records_of(resumed) if resumed else {}
    for job in composed.jobs:
        config = job.config
        if config.workload.name not in WORKLOADS:
            allowed = ", ".join(WORKLOADS)
            raise BadInputError(f"`workload` must be one of {allowed} here, got {config.workload.name!r}")
        metrics = tuple(metric for metric in config.metrics if metric in RESIDENT)
        if not metrics:
            raise BadInputError(f"`metrics` must have one of {', '.join(RESIDENT)}, got none of them")
        if config.flags:
            raise BadInputError("`device.flags` is not for peers: XLA's flags would be those of JAX alone")
        if config.cpu_cores is not None:
            raise BadInputError(
                f"`device.cpu_cores` must be null here, got {config.cpu_cores}: peers run on all cores"
            )
        for arm in config.arms:
            session = sessions.setdefault(arm.device, Session(device=arm.device))
            frameworks = _frameworks(config, arm.device, notes)
            session.lacking += _lacking(config, arm.device)
            group = Group(stop=stop_by(config.timing), passes=config.passes, metrics=metrics)
            for framework in (JAX, *(one.name for one in frameworks)):
                name = arm_name(arm.device, framework)
                group.arms[name] = replace(arm, framework=framework)
                session.folders[len(session.groups), name] = job.folder / name.replace(":", "-")
                if prior := earlier.get((arm.case.case_id, arm.device, framework)):
                    group.prior[name] = prior
            session.groups.append(group)
    return list(sessions.values()), list(notes)


def records_of(folder: Path) -> dict[tuple[str, str, str], Record]:
    """The records of an earlier run that count, by case, device and framework."""
    from jaxaccel.analyze.machines import latest_by_framework
    from jaxaccel.cli.record_arguments import load_and_tell

    return latest_by_framework(load_and_tell([folder], peers=True))


def _frameworks(config: RunConfig, device: str, notes: dict[str, None]) -> list[Framework]:
    """Those that are measured on a device; why others are not is added to `notes`.

    **Raises** BadInputError where none of those that are asked for runs there, or feeds a training so.
    """
    asked = config.peers.frameworks if config.peers else None
    of_device = [framework for framework in chosen(asked) if device in framework.devices]
    if asked and not of_device:
        raise BadInputError(f"`peers.frameworks` must have one that runs on the {device}, got {list(asked)}")
    able, feed = _fed(config, of_device), config.case.params.get("feed")
    if not able:
        known = ", ".join(dict.fromkeys(way for framework in of_device for way in framework.feeds))
        raise BadInputError(
            f"`workload.feed` must be one of {known} for a peer on the {device}, got {feed!r}"
        )
    if unable := [framework.name for framework in of_device if framework not in able]:
        notes[f"not measured with workload.feed={feed}, which they have not: {', '.join(unable)}"] = None
    notes.update(dict.fromkeys(missing_lines(able)))
    found = [framework for framework in able if LIBRARIES[framework.library].installed]
    dtype = str(config.dtype)
    for framework in found:
        if framework.dtypes and dtype not in framework.dtypes:
            notes[f"not measured: {framework.name} in {dtype}, of which it has no fast product"] = None
    return [one for one in found if one.dtypes is None or dtype in one.dtypes]


def _lacking(config: RunConfig, device: str) -> int:
    """How many frameworks were asked for by name that run on the device and are not installed."""
    asked = config.peers.frameworks if config.peers else None
    of_device = [one for one in chosen(asked) if device in one.devices] if asked else []
    return sum(not LIBRARIES[one.library].installed for one in _fed(config, of_device))


def _fed(config: RunConfig, frameworks: Sequence[Framework]) -> list[Framework]:
    """Those that feed a training as the case says; of another workload, all."""
    feed = config.case.params.get("feed")
    return [framework for framework in frameworks if feed is None or feed in framework.feeds]
