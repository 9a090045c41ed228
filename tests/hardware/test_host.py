"""Locks on devices, and the load that others make."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxaccel.measure.host import DeviceBusyError, LoadMeter, hold_devices, physical_name, pressure_percent

HOLDER = """
import sys, time
from pathlib import Path
from jaxaccel.measure.host import hold_devices
with hold_devices(["cpu"], wait_s=1, waiting=print, folder=Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_device_is_held_by_one_command_at_a_time(tmp_path: Path) -> None:
    told: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(DeviceBusyError, match=r"measuring on the cpu for 0 s.*wait_s=N"):
            hold_devices(["gpu", "cpu"], wait_s=0.1, waiting=told.append, folder=tmp_path)
        assert told == ["cpu"]
        with hold_devices(["gpu"], wait_s=0.1, waiting=told.append, folder=tmp_path):
            pass  # the failed attempt let go of it
        other.communicate("")
    with hold_devices(["gpu", "cpu"], wait_s=0.1, waiting=told.append, folder=tmp_path):
        assert told == ["cpu"]


@pytest.mark.parametrize(
    ("visible", "name"), [(None, "gpu-0"), ("3,1", "gpu-3"), ("GPU-ab12", "gpu-GPU-ab12"), ("", "gpu-0")]
)
def test_without_nvml_a_gpu_is_named_by_the_text_of_the_first_that_may_be_seen(
    visible: str | None, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # importing it fails, where it is installed too
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert physical_name("gpu") == name
    assert physical_name("cpu") == "cpu"


def test_what_we_use_ourselves_is_no_load_by_others() -> None:
    meter = LoadMeter()
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        pass
    ours = meter.read()
    busy = "import time; e = time.monotonic() + 0.6\nwhile time.monotonic() < e: pass"
    # Not our child: the shell in between ends at once, and the system takes the loop over.
    subprocess.run(["sh", "-c", f'"{sys.executable}" -c "{busy}" &'], check=True, stdout=subprocess.DEVNULL)
    meter.read()
    time.sleep(0.4)
    assert meter.read().others_cores > 0.3
    assert ours.others_cores >= 0


def test_pressure_is_a_percentage_or_unknown() -> None:
    found = pressure_percent()
    assert found is None or 0 <= found <= 100
