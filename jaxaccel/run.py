"""`python -m jaxaccel.run`: measure a case, or with -m every combination of the values that are given.

Hydra composes the jobs; only then are all their cases measured, in one session, so that the arms of a case
meet and take turns whether they were asked for by `device=both` or by `-m device=cpu,gpu`.
"""

import shlex
import sys
import tempfile
import traceback
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from jaxaccel.config import BadInputError
from jaxaccel.measure.client import Worker
from jaxaccel.records import DEVICES, Record, Status

if TYPE_CHECKING:
    from jaxaccel.compose import Composed
    from jaxaccel.measure.session import Group

OK, INCOMPLETE, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

Place = tuple[int, str]  # which group of arms, which device


def main(argv: Sequence[str] | None = None) -> int:
    """Compose, measure, save, show, publish. Returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command_id = uuid.uuid4().hex[:8]
    with ExitStack() as workers:
        # Workers take longest to start: they do it while this process imports and composes.
        launch = launcher(likely_devices(arguments), workers)
        try:
            from jaxaccel.compose import compose

            composed = compose(arguments, command_id)
        except BadInputError as error:
            if "debug=true" in arguments:
                traceback.print_exc()
            print(f"jaxaccel: {error}", file=sys.stderr)
            return BAD_INPUT
        if not composed.jobs:
            return OK
        line = shlex.join(["python", "-m", "jaxaccel.run", *arguments])
        return measure_jobs(composed, line, command_id, launch)


def measure_jobs(composed: "Composed", line: str, sweep_id: str, launch: Callable[[str], Worker]) -> int:
    """Measure the cases of all jobs in one session. Each record is on disk as soon as it is there."""
    from jaxaccel.measure.session import Plan, measure
    from jaxaccel.measure.tally import Command
    from jaxaccel.publish import console

    groups, folders = group_arms(composed)
    plan = Plan(
        groups=groups, command=Command(line=line, sweep_id=sweep_id, started=psutil.Process().create_time())
    )
    found: dict[Place, Record] = {}
    interrupted = False
    try:
        with console.ShowProgress(console.make_console()) as progress:
            for place, record in measure(plan, launch, progress):
                found[place] = record
                # Refused arms wait: where nothing at all was measured, nothing is left behind.
                if record.status is not Status.refused:
                    keep(record, folders[place])
    except KeyboardInterrupt:
        interrupted = True
    return finish(composed, found, folders, interrupted=interrupted)


def finish(
    composed: "Composed",
    found: Mapping[Place, Record],
    folders: Mapping[Place, Sequence[Path]],
    *,
    interrupted: bool,
) -> int:
    """Show what was measured, write what a sweep adds, publish. Returns the exit code."""
    from jaxaccel.analyze.compare import pair
    from jaxaccel.publish import console, store, wandb_runs

    screen, records = console.make_console(), list(found.values())
    refused = {place: record for place, record in found.items() if record.status is Status.refused}
    if records and len(refused) == len(records):
        composed.discard()
        console.show_failures(screen, records)
        return BAD_INPUT
    for place, record in refused.items():
        keep(record, folders[place])
    if composed.sweep_folder:
        comparisons = pair(records)
        store.save_all(records, composed.sweep_folder)
        store.save_comparisons(comparisons, composed.sweep_folder)
        console.show_comparisons(screen, comparisons)
    elif records:
        console.show_records(screen, records)
    console.show_failures(screen, records)
    console.show_places(
        screen, composed.folder, found=len(records), asked=len(folders), interrupted=interrupted
    )
    published = wandb_runs.log(records, composed.jobs[0].config.wandb, composed.folder)
    if published.message:
        screen.print(published.message, soft_wrap=True, markup=False)
    if interrupted:
        return INTERRUPTED
    return OK if len(records) == len(folders) and all(record.ok for record in records) else INCOMPLETE


def group_arms(composed: "Composed") -> tuple[list["Group"], dict[Place, list[Path]]]:
    """The arms of all jobs, those of one case and timing together, and the folders of each one's record.

    An arm that several jobs ask for is measured once, and its record goes to each of them.
    """
    from jaxaccel.measure.sampling import Stop
    from jaxaccel.measure.session import Group

    groups: dict[tuple[str, Stop], Group] = {}
    folders: dict[Place, list[Path]] = {}
    for job in composed.jobs:
        timing = job.config.timing
        stop = Stop(relative_ci=timing.relative_ci, limit_s=timing.limit_s)
        for arm in job.config.arms:
            key = (arm.case.case_id, stop)
            groups.setdefault(key, Group(stop=stop)).arms.setdefault(arm.device, arm)
            # A pair has a folder a device.
            folder = job.folder / arm.device if len(job.config.devices) > 1 else job.folder
            folders.setdefault((list(groups).index(key), arm.device), []).append(folder)
    return list(groups.values()), folders


def keep(record: Record, folders: Sequence[Path]) -> None:
    """Save a record in each folder; where one can't be written any more, in a temporary one."""
    from jaxaccel.publish import store

    for folder in folders:
        try:
            store.save(record, folder)
        except OSError as error:
            rescue = Path(tempfile.mkdtemp(prefix="jaxaccel-"))
            print(
                f"jaxaccel: can't write to {folder}: {error.strerror}; the record is in {rescue}",
                file=sys.stderr,
            )
            store.save(record, rescue)


def likely_devices(arguments: Sequence[str]) -> list[str]:
    """The devices that the arguments seem to ask for: a wrong guess costs an idle process, no more."""
    if any(argument.startswith("-") and argument not in ("-m", "--multirun") for argument in arguments):
        return []  # Hydra's own options: most only show something
    asked = [argument.partition("=")[2] for argument in arguments if argument.startswith("device=")]
    words = asked[-1].split(",") if asked else ["cpu"]
    return [device for device in DEVICES if device in words or "both" in words]


def launcher(devices: Sequence[str], workers: ExitStack) -> Callable[[str], Worker]:
    """A function that gives a new worker for a device: those of `devices` are started at once.

    Whatever is left of them ends with `workers`.
    """
    early = {device: workers.enter_context(Worker(device)) for device in devices}
    return lambda device: early.pop(device, None) or workers.enter_context(Worker(device))


if __name__ == "__main__":
    sys.exit(main())
