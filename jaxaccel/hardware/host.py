"""What else is going on on this machine: load by others, and locks against measuring twice at once."""

import os
import time
from pathlib import Path

import psutil

from jaxaccel.hardware.nvml import open_gpu
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
