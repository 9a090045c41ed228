"""`python -m jaxaccel.run`: measure a case, or with -m every combination of the values that are given.

Hydra composes the jobs; only then are all their cases measured, in one session, so that the arms of a case
meet and take turns whether they were asked for by `device=both` or by `-m device=cpu,gpu`.
"""

import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxaccel.cli.commands import (
    Launcher,
    command_line,
    costs_a_warning,
    keep_measured,
    last_lines,
    leave_page,
    open_book,
    process_start,
    ready_to_write,
    send,
    stop_by,
    to_its_end,
)
from jaxaccel.cli.config import ResumeChanged
from jaxaccel.cli.exit import BAD_INPUT, INCOMPLETE, OK, command
from jaxaccel.cli.keeping import Keeper
from jaxaccel.cli.spelling import device_of, in_words_typed
from jaxaccel.process import signals
from jaxaccel.process.saying import say
from jaxaccel.records import DEVICES, Record, Status
from jaxaccel.records.errors import BadInputError

if TYPE_CHECKING:
    from jaxaccel.cli.compose import Composed
    from jaxaccel.session.session import Group, Place


HELP = (["--help"], ["-h"])  # with other arguments Hydra gives it, in which these are the defaults


@command
def main(arguments: Sequence[str]) -> int:
    """Compose, measure, save, show, publish. Returns the exit code."""
    if list(arguments) in HELP:
        from jaxaccel.cli.conf_folder import usage

        say(usage())
        return OK
    command_id = uuid.uuid4().hex[:8]
    line = command_line("jaxaccel.run", arguments)
    with ExitStack() as workers:
        # Workers take longest to start: they do it while this process imports and composes.
        launcher = Launcher(likely_devices(arguments), workers)
        from jaxaccel.cli.compose import compose

        composed = compose(arguments, command_id)
        return measure_jobs(composed, line, command_id, launcher) if composed.jobs else OK


def measure_jobs(composed: "Composed", line: str, sweep_id: str, launcher: "Launcher") -> int:
    """Measure the cases of all jobs in one session. Each record is on disk as soon as it is there.

    **Raises** BadInputError where an earlier run that is to be resumed is not one of these jobs, or the CPU
    is to use more cores than there are.
    """
    from jaxaccel.render.terminal import make_console
    from jaxaccel.render.terminal.progress import ShowProgress
    from jaxaccel.session.arm_run import Command
    from jaxaccel.session.device_locks import hold_devices
    from jaxaccel.session.session import Plan, measure

    config = composed.jobs[0].config
    with ready_to_write(composed):
        launcher.use(config.flags)
        launcher.keep_cpu_to(composed.cpu_cores)
        groups, folders = group_arms(composed)
    devices = [device for group in groups for device in group.arms]
    found: dict[Place, Record] = {}
    with Keeper() as keeper:
        with (
            to_its_end(composed, lambda: found),
            hold_devices(devices, wait_s=config.wait_s, waiting=launcher.make_way),
            ShowProgress(make_console()) as progress,
        ):
            plan = Plan(
                groups=groups,
                command=Command(line=line, sweep_id=sweep_id, started=process_start()),
                book=open_book(config.ceilings),
                restart=config.resume_changed is ResumeChanged.restart,
            )
            for place, measured in measure(plan, launcher, progress):
                found[place] = record = in_words_typed(measured)
                keep_measured(keeper, record, sweep_id, folders[place])
        return finish(composed, found, folders, sweep_id, keeper)


def finish(
    composed: "Composed",
    found: Mapping["Place", Record],
    folders: Mapping["Place", Sequence[Path]],
    sweep_id: str,
    keeper: Keeper,
) -> int:
    """Write what a sweep adds, show what was measured, publish what is new. Returns the exit code."""
    from jaxaccel.analyze.compare import pair
    from jaxaccel.records import store
    from jaxaccel.render import rows, terminal
    from jaxaccel.render.terminal import rates
    from jaxaccel.render.words.sections import as_text

    screen, records = terminal.make_console(), list(found.values())
    details = any(job.config.debug for job in composed.jobs)
    sweep_folder = composed.sweep_folder if records else None
    compared = cache(lambda: pair(records))  # once, and again only where it failed
    refused = {place: record for place, record in found.items() if record.status is Status.refused}
    if records and len(refused) == len(records) and not signals.stopped():
        composed.discard()
        with costs_a_warning("what failed could not be shown"):
            terminal.show_failures(screen, records, details=details)
        return BAD_INPUT
    with signals.caught(), signals.held():
        for place, record in refused.items():
            keeper.keep(record, folders[place])
        keeper.settle()
        if sweep_folder:
            with costs_a_warning(f"can't write to {sweep_folder}"):  # each record is kept by itself
                if composed.jobs[0].config.resume:
                    records += store.others(sweep_folder, records)
                store.save_all(records, sweep_folder)
                rows.save_comparisons(compared(), sweep_folder)
    with costs_a_warning("the results could not be shown"):
        if sweep_folder:
            terminal.show_comparisons(screen, compared())
            if more := as_text(rates.sections(records)):
                say(more)
        elif records:
            terminal.show_records(screen, records)
        terminal.show_failures(screen, records, details=details)
    if sweep_folder:
        leave_page(records, sweep_folder)
    send(records, composed.jobs[0].config.wandb, composed.folder, sweep_id=sweep_id, keeper=keeper)
    last_lines(keeper, composed.folder, made=len(found), asked=len(folders))
    complete = all(record.ok and not record.lacks_passes for record in found.values())
    whole = complete and len(found) == len(folders) and keeper.complete
    return signals.exit_code() or (OK if whole else INCOMPLETE)


def group_arms(composed: "Composed") -> tuple[list["Group"], dict["Place", list[Path]]]:
    """The arms of all jobs, those of one case and timing together, and the folders of each one's record.

    An arm that several jobs ask for is measured once, and its record goes to each of them.

    **Raises** BadInputError for a record in a folder to be resumed that can't be read.
    """
    from jaxaccel.analyze.machines import latest
    from jaxaccel.cli.record_arguments import load_and_tell
    from jaxaccel.records import store
    from jaxaccel.records.source import without_source
    from jaxaccel.session.session import Group

    resumed = composed.jobs[0].config.resume
    earlier = latest(load_and_tell([resumed])) if resumed else {}
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
