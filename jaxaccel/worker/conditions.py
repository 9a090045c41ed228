"""What the device's driver says of the conditions of a measurement. Never asked inside a timed region."""

from collections.abc import Callable
from typing import Any

from jaxaccel.records import POWER_CAP, Flag
from jaxaccel.worker.devices import nvml_index

# Reasons that make a timing one of a slower device. An idle clock is none: it rises with the first call.
THROTTLES = {
    "nvmlClocksEventReasonSwThermalSlowdown": "thermal",
    "nvmlClocksEventReasonHwThermalSlowdown": "thermal (hardware)",
    "nvmlClocksEventReasonHwPowerBrakeSlowdown": "power brake",
    "nvmlClocksEventReasonSwPowerCap": POWER_CAP,
}


class Conditions:
    """Slowdowns and company of a GPU, through NVIDIA's library; silent for other devices."""

    def __init__(self, device: Any) -> None:
        self._nvml, self._handle = None, None
        if device.platform == "cpu":
            return
        try:
            import pynvml
        except ImportError:
            return
        try:
            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByIndex(nvml_index(device))
            self._nvml = pynvml
        except pynvml.NVMLError:
            return

    def slowdowns(self) -> tuple[str, ...]:
        """Why the clock is lower than it could be, right now."""
        if self._nvml is None:
            return ()
        reasons = self._ask(self._nvml.nvmlDeviceGetCurrentClocksEventReasons, 0)
        names = {word for name, word in THROTTLES.items() if reasons & getattr(self._nvml, name, 0)}
        return tuple(sorted(names))

    def warnings(self) -> tuple[Flag, ...]:
        """Whether other processes compute on this GPU."""
        if self._nvml is None:
            return ()
        others = (
            len(self._ask(self._nvml.nvmlDeviceGetComputeRunningProcesses, ())) - 1
        )  # one is this process
        if others < 1:
            return ()
        return (
            Flag(name="gpu shared", metric=None, message=f"{others} other processes have work on this GPU"),
        )

    def _ask(self, question: Callable[[Any], Any], otherwise: Any) -> Any:
        try:
            return question(self._handle)
        except self._nvml.NVMLError:  # type: ignore[union-attr]  # not every GPU answers every question
            return otherwise
