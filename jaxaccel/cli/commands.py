"""What the commands that measure share: workers that start early, ceilings, and how they end."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from jaxaccel.cli.config import CeilingsMode, TimingConfig
from jaxaccel.cli.exit import in_a_line
from jaxaccel.cli.keeping import Keeper, require_room, require_utf8
from jaxaccel.process import signals
from jaxaccel.process.saying import say, tell, warn
from jaxaccel.records import Record, Status, escape
from jaxaccel.records.errors import BadInputError
from jaxaccel.records.redact import without_secrets
from jaxaccel.session.worker_process import Worker
from jaxaccel.wandb.config import WandbConfig, WandbMode

if TYPE_CHECKING:
    from jaxaccel.cli.compose import Composed
    from jaxaccel.session.ceilings import Book
    from jaxaccel.session.rounds import Stop


def command_line(module: str, arguments: Sequence[str]) -> str:
    """The command as its records have it, without secrets.

    **Raises** BadInputError for arguments that no record can hold.
    """
    require_utf8("arguments", arguments)
    return without_secrets(escape.shell(["python", "-m", module, *arguments]))


def stop_by(timing: TimingConfig) -> "Stop":
    """When a metric has been sampled enough, by a config's word."""
    from jaxaccel.session.rounds import Stop

    return Stop(relative_ci=timing.relative_ci, limit_s=timing.limit_s, max_rounds=timing.max_rounds)


def open_book(mode: CeilingsMode) -> "Book | None":
    """The ceilings of this user's devices; None where results are to be held against none."""
    import platformdirs

    from jaxaccel.session.ceilings import Book

    if mode is CeilingsMode.off:
        return None
    folder = Path(platformdirs.user_cache_dir("jaxaccel")) / "ceilings"
    return Book(folder=folder, fresh=mode is CeilingsMode.fresh)


def keep_measured(keeper: Keeper, record: Record, sweep_id: str, folders: Sequence[Path]) -> None:
    """Save a record as soon as it is there, if this sweep made it.

    Refused arms wait: where nothing at all was measured, nothing is left behind.
    """
    if record.status is not Status.refused and record.sweep_id == sweep_id:
        keeper.keep(record, folders)


@contextmanager
def ready_to_write(composed: "Composed") -> Iterator[None]:
    """Inside is what is done before anything is measured; where it fails, nothing is left behind.

    **Raises** BadInputError where records can't be written to the folders of the jobs, too.
    """
    try:
        require_room([composed.folder, *(job.folder for job in composed.jobs)])
        yield
    except BaseException:
        composed.discard()
        raise


@contextmanager
def to_its_end(composed: "Composed", found: Callable[[], object]) -> Iterator[None]:
    """Inside is what measures. A signal or an OSError ends it early; the command goes on with the records.

    `found` returns what was measured so far. If that is nothing, the folders of the jobs are removed.
    **Raises** OSError (DeviceBusyError is one) if nothing was measured.
    """
    try:
        with signals.caught():
            yield
    except OSError as error:
        if not found():
            raise
        warn(f"not everything was measured: {in_a_line(error)}")
    finally:
        signals.only_note()
        if not found():
            composed.discard()


@contextmanager
def costs_a_warning(what: str) -> Iterator[None]:
    """What is done with records that are kept: whatever goes wrong is told, and changes nothing else.

    A signal ends it too: what is left of it is skipped.
    """
    with signals.let_through():
        try:
            yield
        except Exception as error:
            warn(f"{what}: {in_a_line(error)}")


def leave_page(records: Sequence[Record], folder: Path) -> None:
    """Write the page of what was measured, and say where; what goes wrong costs a warning, no more."""
    with costs_a_warning("the page could not be written"):
        from jaxaccel.render.page import PAGE, write_page

        path = write_page(records, folder / PAGE)
        say(f"Page: {path}")


def send(
    records: Sequence[Record], config: WandbConfig, folder: Path, *, sweep_id: str, keeper: Keeper
) -> None:
    """Send records to W&B, and say what came of it. After a signal, say which command sends them."""
    if not records or (os.environ.get("WANDB_MODE") or config.mode) == WandbMode.disabled:
        return
    with costs_a_warning("W&B"):
        from jaxaccel.wandb.publish import publish

        if not signals.stopped():
            published = publish(records, config, folder, sweep_id=sweep_id, on_disk=keeper.complete)
            if published.message:
                say(published.message)
            return
    if signals.stopped():
        with costs_a_warning("W&B"):
            from jaxaccel.wandb.publish import later

            say(f"W&B: {signals.how()} before all was sent; to send the rest: {later(config, folder)}")


def last_lines(keeper: Keeper, folder: Path, *, made: int, asked: int | None = None) -> None:
    """Where the records are, and how many results of those asked for, if the command was told to end.

    On standard error, too, where standard output is gone.
    """
    with signals.caught(), signals.held():
        lines = [keeper.where(folder)] if made or not signals.stopped() else []
        if signals.stopped():
            count = f"{made} of {asked}" if asked is not None else str(made)
            lines.insert(0, f"{signals.how()}: {count} results are there")
        for line in lines:
            say(line)
            if getattr(sys.stdout, "lost", False):
                tell(line)


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
