"""What the device's driver says of the conditions of a measurement. Never asked inside a timed region."""

import os
from typing import Any

from jaxaccel.hardware.nvml import Gpu
from jaxaccel.records import Flag
from jaxaccel.records.messages import COMPANIONS
from jaxaccel.worker.devices import open_nvml


class Conditions:
    """Slowdowns and company of a GPU, through NVIDIA's library; silent for other devices."""

    def __init__(self, device: Any) -> None:
        self._ours = int(os.environ.get(COMPANIONS, "0"))
        gpu = None if device.platform == "cpu" else open_nvml(device)
        self._gpu = gpu if isinstance(gpu, Gpu) else None

    def slowdowns(self) -> tuple[str, ...]:
        """Why the clock is lower than it could be, right now."""
        return () if self._gpu is None else self._gpu.slowdowns()

    def warnings(self) -> tuple[Flag, ...]:
        """Whether other processes compute on this GPU than this session's, which take turns."""
        others = 0 if self._gpu is None else self._gpu.other_processes() - self._ours
        if others <= 0:
            return ()
        return (
            Flag(name="gpu shared", metric=None, message=f"{others} other processes have work on this GPU"),
        )
