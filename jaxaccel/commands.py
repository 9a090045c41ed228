"""What the commands that measure share: workers that start early, ceilings, records that are never lost."""

import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from jaxaccel.config import BadInputError, CeilingsMode, TimingConfig
from jaxaccel.measure.client import Worker
from jaxaccel.records import Record, Status
from jaxaccel.saying import say, tell, warn
from jaxaccel.spelling import as_typed

if TYPE_CHECKING:
    from jaxaccel.measure.ceilings import Book
    from jaxaccel.measure.sampling import Stop

OK, INCOMPLETE, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def exit_code_of(work: Callable[[], int], arguments: Sequence[str]) -> int:
    """What `work` returns, or what its end says: an interrupt, or bad input, which is told in one line."""
    try:
        return work()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BadInputError as error:
        if any(argument.lower() == "debug=true" for argument in arguments):
            tell(traceback.format_exc())
        warn(as_typed(str(error), arguments))
        return BAD_INPUT


def stop_by(timing: TimingConfig) -> "Stop":
    """When a metric has been sampled enough, by a config's word."""
    from jaxaccel.measure.sampling import Stop

    return Stop(relative_ci=timing.relative_ci, limit_s=timing.limit_s, max_rounds=timing.max_rounds)


def open_book(mode: CeilingsMode) -> "Book | None":
    """The ceilings of this user's devices; None where results are to be held against none."""
    import platformdirs

    from jaxaccel.measure.ceilings import Book

    if mode is CeilingsMode.off:
        return None
    folder = Path(platformdirs.user_cache_dir("jaxaccel")) / "ceilings"
    return Book(folder=folder, fresh=mode is CeilingsMode.fresh)


def keep_measured(record: Record, sweep_id: str, folders: Sequence[Path]) -> None:
    """Save a record as soon as it is there, if this sweep made it.

    Refused arms wait: where nothing at all was measured, nothing is left behind.
    """
    if record.status is not Status.refused and record.sweep_id == sweep_id:
        keep(record, folders)


def keep(record: Record, folders: Sequence[Path]) -> None:
    """Save a record in each folder; where one can't be written any more, in a temporary one."""
    from jaxaccel.publish import store

    for folder in folders:
        try:
            store.save(record, folder)
        except OSError as error:
            rescue = Path(tempfile.mkdtemp(prefix="jaxaccel-"))
            warn(f"can't write to {folder}: {error.strerror}; the record is in {rescue}")
            store.save(record, rescue)


def leave_page(records: Sequence[Record], folder: Path) -> None:
    """Write the page of what was measured, and say where; what goes wrong costs a warning, no more."""
    try:
        from jaxaccel.publish.page import PAGE, write_page

        path = write_page(records, folder / PAGE)
    except Exception as error:  # the measurement stands, whatever becomes of its picture
        told = str(error).strip().splitlines() or [type(error).__name__]
        warn(f"the page could not be written: {told[0]}")
    else:
        say(f"Page: {path}")


def process_start() -> float:
    """When this process began, on the clock of time.time()."""
    try:  # psutil's own figure can be a second off, for Linux tells when it booted in whole seconds
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, AttributeError):
        return psutil.Process().create_time()


def say_waiting(device: str) -> None:
    """Why nothing happens yet."""
    tell(f"waiting for the {device}: another jaxaccel is measuring on it")


def require_cores(name: str, cores: int) -> None:
    """Refuse to keep a process to so many cores where that can't be.

    **Raises** BadInputError where there are not so many, or the system can't keep a process to some.
    """
    if not hasattr(os, "sched_getaffinity"):
        raise BadInputError(f"{name} must be null on {sys.platform}, got {cores}")
    if cores > (there := len(os.sched_getaffinity(0))):
        raise BadInputError(f"{name} must be at most {there}, of which this process may use, got {cores}")


class Launcher:
    """Gives a new worker for a device; those of `devices` start at once, to be given first.

    All that it ever gave or started end with `workers`.
    """

    def __init__(self, devices: Sequence[str], workers: ExitStack) -> None:
        self._workers = workers
        self._flags: Mapping[str, Sequence[str]] = {}
        self._cpu_cores: int | None = None
        self._early = {device: workers.enter_context(Worker(device)) for device in devices}

    def __call__(self, device: str) -> Worker:
        """A worker for the device."""
        flags = self._flags.get(device, ())
        cores = self._cpu_cores if device == "cpu" else None
        early = self._early.pop(device, None)
        return early or self._workers.enter_context(Worker(device, flags=flags, cores=cores))

    def use(self, flags: Mapping[str, Sequence[str]]) -> None:
        """From now on give workers with these XLA flags, by device; those that started without them end."""
        self._flags = flags
        for device in filter(flags.get, list(self._early)):
            self._early.pop(device).stop()

    def keep_cpu_to(self, cores: int | None) -> None:
        """CPU workers are to run on so many cores, or on all; one that has started on all is of no use.

        **Raises** BadInputError where there are not so many, or the system can't keep a process to some.
        """
        if cores is None:
            return
        require_cores("`device.cpu_cores`", cores)
        self._cpu_cores = cores
        if early := self._early.pop("cpu", None):
            early.stop()

    def make_way(self, device: str) -> None:
        """Another jaxaccel measures on the device: idle workers would disturb what we wait for."""
        self.stop_early()
        say_waiting(device)

    def stop_early(self) -> None:
        """End those that were started and not yet given."""
        while self._early:
            self._early.popitem()[1].stop()
