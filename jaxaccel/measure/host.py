"""What else is going on on this machine: load by others, and locks against measuring twice at once."""

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

import psutil

from jaxaccel.nvml import open_gpu
from jaxaccel.records import HostLoad

_PRESSURE = Path("/proc/pressure/cpu")


class LoadMeter:
    """Tells what others took of the host since it was made, or since it last told."""

    def __init__(self) -> None:
        self._last = self._now()

    def read(self) -> HostLoad:
        """The load since the last reading."""
        before, self._last = self._last, self._now()
        elapsed = max(1e-9, self._last[0] - before[0])
        busy, stolen, ours = (now - then for now, then in zip(self._last[1:], before[1:], strict=True))
        return HostLoad(
            others_cores=max(0.0, busy - ours) / elapsed,
            stolen_cores=stolen / elapsed if hasattr(psutil.cpu_times(), "steal") else None,
            pressure_percent=pressure_percent(),
        )

    def _now(self) -> tuple[float, float, float, float]:
        """Time, and seconds that all processes, a hypervisor, and our own processes have had of the cores."""
        times = psutil.cpu_times()
        busy = sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))
        return time.monotonic(), busy, getattr(times, "steal", 0.0), _own_cpu_s()


def _own_cpu_s() -> float:
    """What this process and its children have used. A child that has ended counts as waited-for."""
    own = psutil.Process()
    total = sum(own.cpu_times()[:4])  # user, system, and those of children that were waited for
    for child in own.children(recursive=True):
        try:
            total += sum(child.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def pressure_percent() -> float | None:
    """Linux's pressure stall figure: how much of the last 10 s some task waited for a core."""
    try:
        some = _PRESSURE.read_text().splitlines()[0]
    except OSError:
        return None
    return float(some.split("avg10=")[1].split()[0])


class DeviceBusyError(TimeoutError):
    """Another jaxaccel kept measuring on a device for longer than we would wait."""


def hold_devices(
    devices: Iterable[str], *, wait_s: float, waiting: Callable[[str], None], folder: Path | None = None
) -> ExitStack:
    """Lock each physical device until the returned stack closes; `waiting` is told the device that is taken.

    CPU first, so that two commands for both never wait for each other.

    **Raises** DeviceBusyError after `wait_s`.
    """
    from filelock import FileLock, Timeout

    stack, deadline = ExitStack(), time.monotonic() + wait_s
    for device in sorted(set(devices)):
        path = (folder or Path(tempfile.gettempdir())) / f"jaxaccel-{physical_name(device)}.lock"
        lock = FileLock(path, mode=0o666)  # the next user of this machine must be able to take it, too
        try:
            try:
                stack.enter_context(lock.acquire(timeout=0))
            except Timeout:
                waiting(device)
                stack.enter_context(
                    lock.acquire(timeout=max(0.0, deadline - time.monotonic()), poll_interval=0.5)
                )
        except Timeout as error:
            stack.close()
            raise DeviceBusyError(
                f"another jaxaccel has been measuring on the {device} for {wait_s:.0f} s: "
                "try again later, or wait longer with wait_s=N"
            ) from error
    return stack


def physical_name(device: str) -> str:
    """One name for one piece of hardware: a GPU is the first that this process may see.

    Its name is its UUID, however CUDA_VISIBLE_DEVICES spells it. Where NVML does not tell, it is that text.
    """
    if device == "cpu":
        return "cpu"
    gpu = open_gpu()
    if isinstance(gpu, str):
        name = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip() or "0"
    else:
        with gpu:
            name = gpu.uuid
    return f"gpu-{''.join(c for c in name if c.isalnum() or c == '-')}"
