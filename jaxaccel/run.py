"""`python -m jaxaccel.run`: measure a case, or with -m every combination of the values that are given.

Hydra composes the jobs; only then are all their cases measured, in one session, so that the arms of a case
meet and take turns whether they were asked for by `device=both` or by `-m device=cpu,gpu`.
"""

import os
import shlex
import sys
import tempfile
import traceback
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
import psutil
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from jaxaccel.config import Dtype, Precision, RunConfig, parse
from jaxaccel.measure.client import Worker
from jaxaccel.records import Record, Status

OK, INCOMPLETE, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

_ASK_HYDRA = {"--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc"}

Place = tuple[int, str]  # which group of arms, which device


@dataclass
class Schema:
    """What Hydra checks while it composes. Mutable, as Hydra needs it; config.py has the real one."""

    workload: dict[str, Any] = MISSING
    device: dict[str, Any] = MISSING
    timing: dict[str, Any] = MISSING
    wandb: dict[str, Any] = MISSING
    size: Any = MISSING  # 1e6 is a whole number too: config.py decides
    dtype: Dtype = MISSING
    precision: Precision = MISSING
    seed: Any = MISSING
    debug: bool = False


@dataclass(frozen=True, kw_only=True)
class Job:
    """One Hydra job: what it asked for, and the folder that Hydra gave it."""

    config: RunConfig
    folder: Path


@dataclass(kw_only=True)
class Composed:
    """What Hydra made of the arguments: each job's raw configuration and folder, and the sweep's folder."""

    jobs: list[tuple[Mapping[str, Any], Path]] = field(default_factory=list)
    sweep_folder: Path | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Compose, measure, save, show, publish. Returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command_id = uuid.uuid4().hex[:8]
    composed = Composed()
    try:
        compose(arguments, command_id, composed)
        if not composed.jobs and not _ASK_HYDRA.intersection(arguments):
            raise ValueError("these arguments describe a sweep of 0 jobs")
        jobs = [Job(config=parse(raw), folder=folder) for raw, folder in composed.jobs]
    except (HydraException, OmegaConfBaseException, ValueError, OSError) as error:
        discard(composed)
        if "debug=true" in arguments:
            traceback.print_exc()
        print(f"jaxaccel: {in_one_line(error)}", file=sys.stderr)
        return BAD_INPUT
    if not jobs:
        return OK
    line = shlex.join(["python", "-m", "jaxaccel.run", *arguments])
    return measure_jobs(jobs, composed, line, command_id)


def measure_jobs(jobs: Sequence[Job], composed: Composed, line: str, sweep_id: str) -> int:
    """Measure the cases of all jobs in one session. Each record is on disk as soon as it is there."""
    # Workers start while this process imports what it needs itself.
    early = {device: Worker(device) for device in dict.fromkeys(d for job in jobs for d in job.config.devices)}
    from jaxaccel.measure.session import Command, Plan, measure
    from jaxaccel.publish import console, wandb_runs

    groups, folders = group_arms(jobs)
    plan = Plan(groups=groups, command=Command(line=line, sweep_id=sweep_id, started=psutil.Process().create_time()))
    wandb_runs.prepare(job.config.wandb.mode for job in jobs)
    screen = console.make_console()
    found: dict[Place, Record] = {}
    interrupted = False
    try:
        with console.ShowProgress(screen) as progress:
            for place, record in measure(plan, lambda device: early.pop(device, None) or Worker(device), progress):
                found[place] = record
                # Refused arms wait: where nothing at all was measured, nothing is left behind.
                if record.status is not Status.refused:
                    folders[place] = [keep(record, folder) for folder in folders[place]]
    except KeyboardInterrupt:
        interrupted = True
    finally:
        for worker in early.values():
            worker.stop()
    records = list(found.values())
    if records and all(record.status is Status.refused for record in records):
        discard(composed)
        console.show_failures(screen, records)
        return BAD_INPUT
    return finish(found, folders, jobs, composed, interrupted=interrupted)


def finish(
    found: Mapping[Place, Record],
    folders: Mapping[Place, Sequence[Path]],
    jobs: Sequence[Job],
    composed: Composed,
    *,
    interrupted: bool,
) -> int:
    """Show what was measured, write what a sweep adds, publish. Returns the exit code."""
    from jaxaccel.analyze.compare import pair
    from jaxaccel.publish import console, store, wandb_runs

    screen, records = console.make_console(), list(found.values())
    for place, record in found.items():
        if record.status is Status.refused:
            for folder in folders[place]:
                keep(record, folder)
    if composed.sweep_folder:
        comparisons = pair(records)
        store.save_all(records, composed.sweep_folder)
        store.save_comparisons(comparisons, composed.sweep_folder)
        console.show_comparisons(screen, comparisons)
    elif records:
        console.show_records(screen, records)
    console.show_failures(screen, records)
    asked = sum(len(places) for places in [folders])
    if interrupted:
        screen.print(f"interrupted: {len(records)} of {asked} results are there", style="yellow")
    screen.print(f"Records: {composed.sweep_folder or jobs[0].folder}", soft_wrap=True)
    placed = [(record, folders[place][0]) for place, record in found.items()]
    published = wandb_runs.log(placed, jobs[0].config.wandb)
    if published.message:
        screen.print(published.message, soft_wrap=True, markup=False)
    if interrupted:
        return INTERRUPTED
    return OK if len(records) == asked and all(record.ok for record in records) else INCOMPLETE


def group_arms(jobs: Sequence[Job]) -> tuple[list[Any], dict[Place, list[Path]]]:
    """The arms of all jobs, those of one case and timing together, and the folders of each one's record.

    An arm that several jobs ask for is measured once, and its record goes to each of them.
    """
    from jaxaccel.measure.session import Group, Stop

    groups: dict[tuple[str, Stop], Group] = {}
    folders: dict[Place, list[Path]] = {}
    for job in jobs:
        stop = Stop(relative_ci=job.config.timing.relative_ci, limit_s=job.config.timing.limit_s)
        for arm in job.config.arms:
            key = (arm.case.case_id, stop)
            groups.setdefault(key, Group(stop=stop)).arms.setdefault(arm.device, arm)
            # A pair has a folder a device.
            folder = job.folder / arm.device if len(job.config.devices) > 1 else job.folder
            folders.setdefault((list(groups).index(key), arm.device), []).append(folder)
    return list(groups.values()), folders


def keep(record: Record, folder: Path) -> Path:
    """Save a record; where its folder can't be written any more, in a temporary one. Returns the folder."""
    from jaxaccel.publish import store

    try:
        store.save(record, folder)
    except OSError as error:
        rescue = Path(tempfile.mkdtemp(prefix="jaxaccel-"))
        print(f"jaxaccel: can't write to {folder} ({error.strerror}): the record goes to {rescue}", file=sys.stderr)
        store.save(record, rescue)
        return rescue
    return folder


# --- Hydra -----------------------------------------------------------------------------------------


def compose(arguments: Sequence[str], command_id: str, composed: Composed) -> None:
    """Let Hydra read the arguments and the configs, and collect into `composed` what each job asks for.

    **Raises** what Hydra and OmegaConf raise for arguments that they can't read, OSError for a folder that
    can't be made, ValueError for an argument that would add a key.
    """
    ConfigStore.instance().store(name="schema", node=Schema)
    OmegaConf.register_new_resolver("command_id", lambda: command_id, replace=True)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise, instead of printing and exiting

    def collect(config: Any) -> None:
        settings = HydraConfig.get()
        folder = Path(settings.runtime.output_dir)
        if settings.mode is RunMode.MULTIRUN:
            composed.sweep_folder = Path(settings.sweep.dir).absolute()
        raw = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
        composed.jobs.append((raw, folder))  # type: ignore[arg-type]
        for override in settings.overrides.task:
            if override.startswith(("+", "~")):
                raise ValueError(f"`{override}` adds or removes a key, and nothing would read that: use key=value")

    run = hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="config")(collect)
    sys.argv = [sys.argv[0], *arguments]
    run()


def config_folder() -> Path:
    """The conf/ that a wheel carries inside the package, or the one beside it in a checkout."""
    inside = Path(__file__).parent / "conf"
    return inside if (inside / "config.yaml").is_file() else Path(__file__).parent.parent / "conf"


def discard(composed: Composed) -> None:
    """Remove the folders that Hydra made for jobs that came to nothing, if they hold nothing else."""
    for folder in [*(folder for _, folder in composed.jobs), composed.sweep_folder]:
        if folder is None or not folder.is_dir():
            continue
        if {entry.name for entry in folder.iterdir()} <= {".hydra", "multirun.yaml"}:
            for path in [*folder.glob(".hydra/*.yaml"), folder / "multirun.yaml"]:
                path.unlink(missing_ok=True)
            for empty in (folder / ".hydra", folder):
                if empty.is_dir():
                    empty.rmdir()


def in_one_line(error: BaseException) -> str:
    """What is wrong with the arguments, naming the argument, the value and the choices."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, value = error.missing_cfg_file.partition("/")
        return f"`{group}` must be one of {', '.join(error.options)}, got {value!r}"
    if isinstance(error, OverrideParseException):
        return f"can't read the argument `{error.override}`: {str(error).splitlines()[0]}"
    if isinstance(error, OSError):
        return f"can't write to {error.filename}: {error.strerror}"
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    first = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
    key = getattr(cause, "full_key", None)
    if "is not in struct" in first or "not in 'Schema'" in first:
        return f"unknown key `{key}`: see --help for the keys that there are"
    return f"`{key}`: {first}" if key else first


if __name__ == "__main__":
    sys.exit(main())
