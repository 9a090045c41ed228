"""What NVIDIA's management library (NVML) says of a GPU that this process may see; pynvml is used only here.

CUDA counts the GPUs that CUDA_VISIBLE_DEVICES leaves, NVML all of the machine, in PCI order. An index in that
variable is one of NVML's only because workers run with CUDA_DEVICE_ORDER=PCI_BUS_ID.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Self

from jaxaccel.records import POWER_CAP

# Reasons that make a timing one of a slower device. An idle clock is none: it rises with the first call.
THROTTLES = {
    "nvmlClocksEventReasonSwThermalSlowdown": "thermal",
    "nvmlClocksEventReasonHwThermalSlowdown": "thermal (hardware)",
    "nvmlClocksEventReasonHwPowerBrakeSlowdown": "power brake",
    "nvmlClocksEventReasonSwPowerCap": POWER_CAP,
}
UUID_LENGTH = len("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6")


class Gpu:
    """One GPU of the machine. A context manager: leaving it lets go of NVML.

    Where it is divided into MIG instances, everything here is about the whole GPU: the instances share its
    clocks and its power.
    """

    def __init__(self, nvml: Any, handle: Any) -> None:
        """Take over one `nvmlInit`. **Raises** NVMLError where the GPU does not tell its UUID."""
        self._nvml, self._handle = nvml, handle
        self.uuid = str(nvml.nvmlDeviceGetUUID(handle))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of NVML; it answers nothing more through this object."""
        self._nvml.nvmlShutdown()

    def facts(self) -> dict[str, Any] | str:
        """Name, hashed UUID, driver, memory, highest clocks and power limit, or why NVML does not tell."""
        nvml, handle = self._nvml, self._handle
        try:
            return {
                "name": nvml.nvmlDeviceGetName(handle),
                "id": hashlib.sha256(self.uuid.encode()).hexdigest()[:12],
                "driver": nvml.nvmlSystemGetDriverVersion(),
                "memory_bytes": int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
                "sm_clock_max_hz": 1_000_000 * nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM),
                "memory_clock_max_hz": 1_000_000
                * nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_MEM),
                "power_limit_w": nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000,
            }
        except nvml.NVMLError as error:
            return str(error)

    def slowdowns(self) -> tuple[str, ...]:
        """Why the clock is lower than it could be, right now; empty where the GPU does not answer."""
        reasons = self._ask(self._nvml.nvmlDeviceGetCurrentClocksEventReasons, 0)
        return tuple(
            sorted(word for name, word in THROTTLES.items() if reasons & getattr(self._nvml, name, 0))
        )

    def free_bytes(self) -> int | None:
        """Memory that nobody holds, this process included; None where the GPU does not answer."""
        memory = self._ask(self._nvml.nvmlDeviceGetMemoryInfo, None)
        return None if memory is None else int(memory.free)

    def other_processes(self) -> int:
        """How many processes besides this one compute on it; 0 where the GPU does not answer."""
        return max(0, len(self._ask(self._nvml.nvmlDeviceGetComputeRunningProcesses, ())) - 1)

    def energy_j(self) -> float | None:
        """What it has used since its driver was loaded: only differences mean something.

        None where the GPU does not answer (NVML counts from Volta on), or is divided into MIG instances, of
        which others may have used it.
        """
        mode, _ = self._ask(self._nvml.nvmlDeviceGetMigMode, (None, None))
        if mode == self._nvml.NVML_DEVICE_MIG_ENABLE:
            return None
        return _thousandth(self._ask(self._nvml.nvmlDeviceGetTotalEnergyConsumption, None))

    @property
    def power_limit_w(self) -> float | None:
        """The power that the driver holds it to, or None where the GPU does not answer."""
        return _thousandth(self._ask(self._nvml.nvmlDeviceGetEnforcedPowerLimit, None))

    def _ask(self, question: Callable[[Any], Any], otherwise: Any) -> Any:
        try:
            return question(self._handle)
        except self._nvml.NVMLError:  # not every GPU answers every question
            return otherwise


def open_gpu(
    local_index: int = 0, *, variables: Mapping[str, str] = os.environ, library: Any = None
) -> Gpu | str:
    """The GPU that CUDA counts as `local_index` in a worker, or the reason why NVML tells nothing of it.

    `library` is pynvml, or a test's own.
    """
    if library is None:
        try:
            import pynvml
        except ImportError:
            return "nvidia-ml-py is not installed"
        library = pynvml
    try:
        library.nvmlInit()
    except library.NVMLError as error:
        return str(error)
    visible = variables.get("CUDA_VISIBLE_DEVICES")
    try:
        handle = _find(library, visible, local_index)
        if handle is not None:
            return Gpu(library, handle)
        reason = f"CUDA_VISIBLE_DEVICES={visible!r} leaves no GPU {local_index} that NVML knows"
    except library.NVMLError as error:
        reason = str(error)
    library.nvmlShutdown()
    return reason


def _find(nvml: Any, visible: str | None, local_index: int) -> Any | None:
    """The handle of a whole GPU. None where `visible` does not name one, or names more than one.

    The spellings are those of the CUDA programming guide, 5.2.1.1, CUDA_VISIBLE_DEVICES.
    """
    if visible is None:
        return nvml.nvmlDeviceGetHandleByIndex(local_index)
    entry = dict(enumerate(visible.split(","))).get(local_index, "").strip()
    if entry.isascii() and entry.isdecimal():
        index = int(entry)
        return nvml.nvmlDeviceGetHandleByIndex(index) if index < nvml.nvmlDeviceGetCount() else None
    if entry.startswith("MIG-GPU-"):  # MIG-GPU-<the GPU's UUID>/<GPU instance>/<compute instance>
        entry = entry.removeprefix("MIG-").partition("/")[0]
    if entry.startswith("MIG-"):
        return nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvml.nvmlDeviceGetHandleByUUID(entry))
    if not entry.startswith("GPU-"):
        return None
    if len(entry) == UUID_LENGTH:  # without waking the other GPUs
        return nvml.nvmlDeviceGetHandleByUUID(entry)
    named = []
    for index in range(nvml.nvmlDeviceGetCount()):
        with suppress(nvml.NVMLError):  # a GPU that is lost hides no other
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            if nvml.nvmlDeviceGetUUID(handle).startswith(entry):
                named.append(handle)
    return named[0] if len(named) == 1 else None


def _thousandth(number: int | None) -> float | None:
    return None if number is None else number / 1000
