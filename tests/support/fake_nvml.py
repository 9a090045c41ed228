"""NVML as three GPUs would answer it, for a process that has none."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

A = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
B = "GPU-8932aaaa-0f2f-01ac-6b05-8da14d6e9005"
C = "GPU-baca7f5d-7d6b-368f-f79c-3c3e784c93f6"
MIG_OF_B = "MIG-d9a47cfb-d1f2-d08c-b40e-0812b597ae69"
UNSUPPORTED = "Not Supported"


class FakeError(Exception):
    """As NVMLError: every question may raise it."""


class FakeNvml:
    """GPUs, the second with a MIG instance. A handle is a UUID. What is `silent` is not answered."""

    NVMLError = FakeError
    NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2
    NVML_DEVICE_MIG_ENABLE = 1
    nvmlClocksEventReasonSwPowerCap = 0x4  # noqa: N815  # the library's numbers
    nvmlClocksEventReasonSwThermalSlowdown = 0x20  # noqa: N815
    nvmlClocksEventReasonHwThermalSlowdown = 0x40  # noqa: N815
    nvmlClocksEventReasonHwPowerBrakeSlowdown = 0x80  # noqa: N815

    def __init__(
        self,
        *,
        uuids: tuple[str, ...] = (A, B, C),
        silent: tuple[str, ...] = (),
        lost: tuple[str, ...] = (),
        reasons: int = 0,
        processes: int = 1,
        mig_enabled: bool = False,
    ) -> None:
        self.uuids, self.silent, self.lost = uuids, silent, lost
        self.reasons, self.processes, self.mig_enabled = reasons, processes, mig_enabled
        self.users = 0
        self.woken: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvmlDevice") or name == "nvmlInit":
            if name in self.silent:
                return self._refuse
            assert name == "nvmlInit" or self.users > 0, "asked before nvmlInit, or after nvmlShutdown"
        return super().__getattribute__(name)

    def _refuse(self, *_: Any) -> Any:
        raise FakeError(UNSUPPORTED)

    def _wake(self, uuid: str) -> str:
        self.woken.append(uuid)
        if uuid in self.lost:
            raise FakeError("GPU is lost")
        return uuid

    def nvmlInit(self) -> None:  # noqa: N802
        self.users += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        assert self.users > 0
        self.users -= 1

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "595.71"

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.uuids)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        if not 0 <= index < len(self.uuids):
            raise FakeError("Invalid Argument")
        return self._wake(self.uuids[index])

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid not in (*self.uuids, MIG_OF_B):
            raise FakeError("Not Found")
        return self._wake(uuid)

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: str) -> str:  # noqa: N802
        return {MIG_OF_B: B}[handle]

    def nvmlDeviceGetUUID(self, handle: str) -> str:  # noqa: N802
        return handle

    def nvmlDeviceGetName(self, handle: str) -> str:  # noqa: N802
        return f"name of {handle}"

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:  # noqa: N802
        return SimpleNamespace(total=80_000_000_000, free=30_000_000_000)

    def nvmlDeviceGetMaxClockInfo(self, handle: str, clock: int) -> int:  # noqa: N802
        return {self.NVML_CLOCK_SM: 1980, self.NVML_CLOCK_MEM: 2619}[clock]

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: str) -> int:  # noqa: N802
        return {A: 700_000, B: 350_500, C: 400_000}[handle]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        return {A: 12_345_678, B: 2_500, C: 0}[handle]

    def nvmlDeviceGetMigMode(self, handle: str) -> list[int]:  # noqa: N802
        return [int(self.mig_enabled), 0]

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: str) -> int:  # noqa: N802
        return self.reasons

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:  # noqa: N802
        return [SimpleNamespace(pid=pid) for pid in range(self.processes)]


def install(monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml | None, visible: str | None = None) -> None:
    """Put `nvml` where `import pynvml` finds it; None makes that fail."""
    monkeypatch.setitem(sys.modules, "pynvml", nvml)  # type: ignore[arg-type]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
