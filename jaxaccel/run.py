"""`python -m jaxaccel.run`: measure a case, or with -m every combination of the values that are given.

Hydra composes the jobs; only then are all their cases measured, in one session, so that the arms of a case
meet and take turns whether they were asked for by `device=both` or by `-m device=cpu,gpu`.
"""

import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxaccel import foreign
from jaxaccel.commands import (
    BAD_INPUT,
    INCOMPLETE,
    INTERRUPTED,
    OK,
    Launcher,
    exit_code_of,
    keep,
    keep_measured,
    leave_page,
    open_book,
    process_start,
    stop_by,
)
from jaxaccel.config import BadInputError, ResumeChanged
from jaxaccel.records import DEVICES, Record, Status
from jaxaccel.redact import without_secrets
from jaxaccel.redact.outlets import speaks_safely
from jaxaccel.saying import say, warn
from jaxaccel.spelling import device_of, in_words_typed

if TYPE_CHECKING:
    from jaxaccel.compose import Composed
    from jaxaccel.measure.session import Group, Place


HELP = (["--help"], ["-h"])  # with other arguments Hydra gives it, in which these are the defaults


@speaks_safely
def main(argv: Sequence[str] | None = None) -> int:
    """Compose, measure, save, show, publish. Returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments in HELP:
        from jaxaccel.conf_folder import usage

        say(usage())
        return OK
    command_id = uuid.uuid4().hex[:8]
    with ExitStack() as workers:
        # Workers take longest to start: they do it while this process imports and composes.
        launcher = Launcher(likely_devices(arguments), workers)

        def work() -> int:
            from jaxaccel.compose import compose

            composed = compose(arguments, command_id)
            if not composed.jobs:
                return OK
            line = without_secrets(foreign.shell(["python", "-m", "jaxaccel.run", *arguments]))
            return measure_jobs(composed, line, command_id, launcher)

        return exit_code_of(work, arguments)


def measure_jobs(composed: "Composed", line: str, sweep_id: str, launcher: "Launcher") -> int:
    """Measure the cases of all jobs in one session. Each record is on disk as soon as it is there.

    **Raises** BadInputError where an earlier run that is to be resumed is not one of these jobs, or the CPU
    is to use more cores than there are.
    """
    from jaxaccel.measure.host import DeviceBusyError, hold_devices
    from jaxaccel.measure.session import Plan, measure
    from jaxaccel.measure.tally import Command
    from jaxaccel.publish.console import make_console
    from jaxaccel.publish.progress import ShowProgress

    try:
        launcher.use(composed.jobs[0].config.flags)
        launcher.keep_cpu_to(composed.cpu_cores)
    except BadInputError:
        composed.discard()
        raise
    groups, folders = group_arms(composed)
    devices = [device for group in groups for device in group.arms]
    command = Command(line=line, sweep_id=sweep_id, started=process_start())
    found: dict[Place, Record] = {}
    interrupted = False
    try:
        with (
            hold_devices(devices, wait_s=composed.jobs[0].config.wait_s, waiting=launcher.make_way),
            ShowProgress(make_console()) as progress,
        ):
            config = composed.jobs[0].config
            plan = Plan(
                groups=groups,
                command=command,
                book=open_book(config.ceilings),
                restart=config.resume_changed is ResumeChanged.restart,
            )
            for place, measured in measure(plan, launcher, progress):
                found[place] = record = in_words_typed(measured)
                keep_measured(record, sweep_id, folders[place])
    except KeyboardInterrupt:
        interrupted = True
    except DeviceBusyError as error:
        composed.discard()
        warn(str(error))
        return INCOMPLETE
    return finish(composed, found, folders, sweep_id, interrupted=interrupted)


def finish(
    composed: "Composed",
    found: Mapping["Place", Record],
    folders: Mapping["Place", Sequence[Path]],
    sweep_id: str,
    *,
    interrupted: bool,
) -> int:
    """Show what was measured, write what a sweep adds, publish what is new. Returns the exit code."""
    from jaxaccel.analyze.compare import pair
    from jaxaccel.publish import console, store
    from jaxaccel.publish.console import beside
    from jaxaccel.publish.sections import as_text
    from jaxaccel.publish.wandb.publishing import publish

    screen, records = console.make_console(), list(found.values())
    details = any(job.config.debug for job in composed.jobs)
    refused = {place: record for place, record in found.items() if record.status is Status.refused}
    if records and len(refused) == len(records):
        composed.discard()
        console.show_failures(screen, records, details=details)
        return BAD_INPUT
    for place, record in refused.items():
        keep(record, folders[place])
    if composed.sweep_folder and records:
        if composed.jobs[0].config.resume:
            records += store.others(composed.sweep_folder, records)
        comparisons = pair(records)
        try:
            store.save_all(records, composed.sweep_folder)
            store.save_comparisons(comparisons, composed.sweep_folder)
        except OSError as error:  # each record has been saved by itself
            warn(f"can't write to {composed.sweep_folder}: {error.strerror}")
        console.show_comparisons(screen, comparisons)
        if more := as_text(beside.sections(records)):
            say(more)
    elif records:
        console.show_records(screen, records)
    console.show_failures(screen, records, details=details)
    console.show_places(
        screen, composed.folder, found=len(found), asked=len(folders), interrupted=interrupted
    )
    if composed.sweep_folder and records:
        leave_page(records, composed.sweep_folder)
    wandb = composed.jobs[0].config.wandb
    published = publish(records, wandb, composed.folder, sweep_id=sweep_id)
    if published.message:
        screen.print(published.message, soft_wrap=True, markup=False)
    if interrupted:
        return INTERRUPTED
    complete = all(record.ok and not record.lacks_passes for record in found.values())
    return OK if complete and len(found) == len(folders) else INCOMPLETE


def group_arms(composed: "Composed") -> tuple[list["Group"], dict["Place", list[Path]]]:
    """The arms of all jobs, those of one case and timing together, and the folders of each one's record.

    An arm that several jobs ask for is measured once, and its record goes to each of them.

    **Raises** BadInputError for a record in a folder to be resumed that can't be read.
    """
    from jaxaccel.analyze.differences import without_source
    from jaxaccel.analyze.machines import latest
    from jaxaccel.measure.session import Group
    from jaxaccel.publish import store

    resumed = composed.jobs[0].config.resume
    earlier = latest(store.load_records([resumed])) if resumed else {}
    groups: dict[tuple[Any, ...], Group] = {}
    folders: dict[Place, list[Path]] = {}
    for job in composed.jobs:
        timing = job.config.timing
        stop = stop_by(timing)
        for arm in job.config.arms:
            key = (arm.case.case_id, stop, job.config.metrics, timing.energy_s)
            group = groups.setdefault(
                key, Group(stop=stop, metrics=job.config.metrics, energy_s=timing.energy_s)
            )
            group.arms.setdefault(arm.device, arm)
            group.passes = max(group.passes, job.config.passes)
            # A pair has a folder a device.
            folder = job.folder / arm.device if len(job.config.devices) > 1 else job.folder
            folders.setdefault((list(groups).index(key), arm.device), []).append(folder)
            there = store.load_if_there(folder) if resumed else None
            if there and there.case_id != arm.case.case_id:
                restarts = job.config.resume_changed is ResumeChanged.restart
                if not (restarts and without_source(there.case) == arm.case):  # as earlier jaxaccels had it
                    raise BadInputError(f"`resume`: {folder} holds {there.case}, not {arm.case}")
            if prior := earlier.get((arm.case.case_id, arm.device)):
                group.prior[arm.device] = prior
    return list(groups.values()), folders


def likely_devices(arguments: Sequence[str]) -> list[str]:
    """The devices that the arguments seem to ask for: a wrong guess costs an idle process, no more."""
    if any(argument.startswith("-") and argument not in ("-m", "--multirun") for argument in arguments):
        return []  # Hydra's own options: most only show something
    if any(argument.startswith("device.flags") for argument in arguments):
        return []  # which are read before a worker starts, and not here
    asked = [argument.partition("=")[2] for argument in arguments if argument.startswith("device=")]
    words = (asked[-1] if asked else device_of(arguments) or "cpu").split(",")
    # A CPU's worker that is to be kept to some cores must begin so: which ones, composing tells.
    kept = {"cpu"} if any(argument.startswith("device.cpu_cores=") for argument in arguments) else set[str]()
    return [device for device in DEVICES if (device in words or "both" in words) and device not in kept]


if __name__ == "__main__":
    sys.exit(main())
