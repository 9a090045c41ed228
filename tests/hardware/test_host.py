"""Locks on devices, and the load that others make."""

import errno
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes import QUICK, RunCli

from jaxaccel.hardware.host import LoadMeter, physical_name, pressure_percent
from jaxaccel.records.errors import BadInputError
from jaxaccel.session import device_locks
from jaxaccel.session.device_locks import LOCKS, DeviceBusyError, hold_devices, lock_folder

HOLDER = """
import sys, time
from pathlib import Path
from jaxaccel.session.device_locks import hold_devices
with hold_devices(["cpu"], wait_s=1, waiting=print, folder=Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
LOCK = "jaxaccel-cpu.lock"


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


def hold(folder: Path | None = None) -> Any:
    return hold_devices(["cpu"], wait_s=0, waiting=lambda _: None, folder=folder)


@pytest.mark.parametrize("temporary", ["a", "b"])
def test_locks_are_the_same_for_every_tmpdir(
    temporary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(LOCKS)
    monkeypatch.setenv("TMPDIR", str(tmp_path / temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert lock_folder() == Path("/tmp")
    shared = tmp_path / "shared"
    shared.mkdir()
    monkeypatch.setattr(device_locks, "SHARED", (tmp_path / "none", shared))
    assert lock_folder() == shared
    monkeypatch.setattr(device_locks, "SHARED", (tmp_path / "none",))
    assert lock_folder().is_relative_to(device_locks.platformdirs.user_cache_dir("jaxaccel"))
    monkeypatch.setenv(LOCKS, str(tmp_path / "new" / "chosen"))
    with hold():
        assert (tmp_path / "new" / "chosen" / LOCK).exists()


def test_a_lock_file_can_be_opened_by_everybody_and_stays(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with hold(tmp_path):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / LOCK).stat().st_mode & 0o777 == 0o644


def test_another_user_s_lock_file_is_locked_without_making_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in /tmp, where Linux refuses to open it with O_CREAT, and it may only be read."""
    (tmp_path / LOCK).touch()
    real = os.open

    def guarded(path: Any, flags: int, *mode: int) -> int:
        if Path(path).name == LOCK and flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR | os.O_TRUNC):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", guarded)
    with hold(tmp_path), pytest.raises(DeviceBusyError):
        hold(tmp_path)
    with hold(tmp_path):
        pass


def test_a_lock_file_that_was_removed_meanwhile_is_no_lock(tmp_path: Path) -> None:
    with hold(tmp_path):
        (tmp_path / LOCK).unlink()
        with hold(tmp_path), pytest.raises(DeviceBusyError):  # ours is nobody's any more
            hold(tmp_path)


def test_a_lock_is_free_though_a_forked_process_still_has_the_file_open(tmp_path: Path) -> None:
    with hold(tmp_path):
        mine = [
            int(path.name)
            for path in Path("/dev/fd").iterdir()
            if path.exists() and path.samefile(tmp_path / LOCK)
        ]
        copies = [os.dup(descriptor) for descriptor in mine]
    assert len(copies) == 1
    with hold(tmp_path):
        pass
    os.close(copies[0])


def link(path: Path) -> None:
    path.with_name("target").write_text("as it was")
    path.symlink_to(path.with_name("target"))


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nothing"))


@pytest.mark.parametrize("plant", [link, dangling, os.mkfifo, os.mkdir])
def test_what_is_planted_in_a_lock_s_place_is_not_followed(
    plant: Callable[[Path], None], tmp_path: Path
) -> None:
    plant(tmp_path / LOCK)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(BadInputError, match=rf"no lock can be taken at {re.escape(str(tmp_path))}.*{LOCKS}"):
        hold(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert all(path.read_text() == "as it was" for path in tmp_path.glob("target"))


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    def count() -> int:
        return len([*Path("/dev/fd").iterdir()])

    with hold(tmp_path):
        before = count()
        for _ in range(3):
            with pytest.raises(DeviceBusyError):
                hold(tmp_path)
        assert count() == before
    os.mkfifo(tmp_path / "jaxaccel-gpu-0.lock")
    before = count()
    with pytest.raises(BadInputError):
        hold_devices(["cpu", "gpu"], wait_s=0, waiting=print, folder=tmp_path)
    assert count() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "why"),
    [("file", "Not a directory"), ("file/below", "Not a directory"), ("/proc/nothing", "No such file")],
)
def test_a_folder_that_can_hold_no_lock_is_one_line_before_anything_is_measured(
    where: str, why: str, run_cli: RunCli, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    ran = run_cli("size=8", *QUICK, env={LOCKS: str(tmp_path / where)})
    assert ran.code == 2, ran.said
    (told,) = ran.err.splitlines()
    assert told.startswith(f"jaxaccel: no lock can be taken at {tmp_path / where}/{LOCK}: {why}")
    assert LOCKS in told
    assert ran.out == ""
    assert ran.records() == {}


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
