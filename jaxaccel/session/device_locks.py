"""Locks against measuring twice at once on a device, for all users of a machine."""

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

import platformdirs

from jaxaccel.hardware.host import physical_name
from jaxaccel.records.errors import BadInputError
from jaxaccel.session.worker_process import end_workers

LOCKS = "JAXACCEL_LOCKS"  # a variable that names another folder for the locks
SHARED = (Path("/tmp"), Path("/var/tmp"))  # folders that all users of a machine share
POLL_S = 0.5


class DeviceBusyError(TimeoutError):
    """Another jaxaccel kept measuring on a device for longer than we would wait."""


def hold_devices(
    devices: Iterable[str], *, wait_s: float, waiting: Callable[[str], None], folder: Path | None = None
) -> ExitStack:
    """Lock each physical device until the returned stack closes.

    `waiting` is called with the name of a device that another process has locked. The CPU is locked first, so
    that two commands for both devices never wait for each other. When the stack closes, this process's
    workers on these devices end before the locks are free. folder: where the locks are, else `lock_folder()`.

    **Raises** DeviceBusyError after `wait_s`, and BadInputError where there can be no lock.
    """
    names = sorted(set(devices))
    deadline = time.monotonic() + wait_s
    with ExitStack() as stack:
        for device in names:
            path = (folder or lock_folder()) / f"jaxaccel-{physical_name(device)}.lock"
            if (lock := _lock(path)) is None:
                waiting(device)
            while lock is None:
                if time.monotonic() >= deadline:
                    raise DeviceBusyError(
                        f"another jaxaccel has been measuring on the {device} for {wait_s:.0f} s: "
                        "try again later, or wait longer with wait_s=N"
                    )
                time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))
                lock = _lock(path)
            stack.callback(_unlock, lock)
        held = stack.pop_all()
    held.push(lambda kind, *_: end_workers(names, now=kind is not None))
    return held


def lock_folder() -> Path:
    """Where all users of this machine have their locks. Not TMPDIR: two processes may have two of them."""
    if chosen := os.environ.get(LOCKS):
        return Path(chosen)
    for shared in SHARED:
        if shared.is_dir() and os.access(shared, os.W_OK | os.X_OK):
            return shared
    return Path(platformdirs.user_cache_dir("jaxaccel")) / "locks"


def _lock(path: Path) -> int | None:
    """A descriptor that holds the lock; None where somebody else does.

    **Raises** BadInputError where the file can't be made or opened.
    """
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _open(path)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "not a plain file")
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Somebody may have removed the file in between: then others lock another one.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.lstat()):
                    return descriptor
        except BlockingIOError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    except OSError as error:
        raise BadInputError(
            f"no lock can be taken at {path}: {error.strerror}; "
            f"set {LOCKS} to a folder that all who measure on this machine can write to"
        ) from error
    return None


def _unlock(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_UN)  # a process that was forked from this one may still have it open
    os.close(descriptor)


def _open(path: Path) -> int:
    """The file, made if it is not there. Reading is enough for a lock: nobody else need write to it.

    In a folder like /tmp Linux refuses to open another user's file with O_CREAT (fs.protected_regular).
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        pass
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:  # just now
        return os.open(path, flags)
    os.fchmod(descriptor, 0o644)  # whatever the umask: the next user must be able to open it
    return descriptor
