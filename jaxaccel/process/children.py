"""Processes that end with this one, and take all that they started with them.

`Child` starts a process. The first thing that its program does is `keep`, which forks. The forked process,
the worker, does the work. The other one, whose process ID `Child` knows, becomes its keeper. The keeper
waits until the worker has ended, until `Child.end` asks for an end, or until the process that started it is
gone, whatever ended that. Then it ends all that the worker started and that still runs, and ends the way
the worker did.

On Linux a process that outlives its parent becomes the keeper's child (the keeper is a "subreaper").
Neither a double fork nor a session of its own hides it. Elsewhere such processes are found by their
session, or by `MARK` in their environment. If the keeper itself is killed, the kernel ends the worker (on
Linux), and `Child` ends the others, by session and mark.
"""

import contextlib
import ctypes
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

# A variable that whatever a child starts inherits: the process that started the child, and a random part.
MARK = "JAXACCEL_CHILD"
GRACE_S = 5.0  # for a keeper to end what it keeps
SWEEP_S = 10.0  # a process that the kernel can't end yet is given up
LOOK_S = 1.0  # where the kernel does not tell that a process has gone: how often to look

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class Child:
    """A process in a session of its own, so that a terminal's signals do not reach it.

    `stdin` and `stdout` are the pipes that were asked for.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        variables: Mapping[str, str],
        stdin: int,
        stdout: int | IO[bytes],
        stderr: int | IO[bytes],
    ) -> None:
        """Start it. variables: its whole environment.

        **Raises** OSError where it can't be started.
        """
        self._mark = f"{os.getpid()}-{uuid.uuid4().hex}"
        self._swept = False
        self._process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env={**variables, MARK: self._mark},
            start_new_session=True,
        )
        self.stdin, self.stdout = self._process.stdin, self._process.stdout

    def wait(self, timeout_s: float) -> int | None:
        """The exit code, negative for a signal, once all of it has ended; None if it still runs by then."""
        try:
            code = self._process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return None
        if not self._swept:
            self._swept = True  # later the session's ID may be another's
            _sweep(self._mark, self._process.pid)
        return code

    def end(self) -> int:
        """End the process now, and all that it started. Returns the exit code."""
        self._process.terminate()
        if self.wait(GRACE_S) is None:  # no keeper yet, or one that is stopped
            self._process.kill()
        while (code := self.wait(GRACE_S)) is None:
            pass
        return code


def keep(scratch: Path | None = None) -> None:
    """Go on in a process that `Child` and a keeper end; without effect in one that `Child` did not start.

    To be called before there are threads. scratch: a folder of the process that started this one; the keeper
    removes it if that process is gone.
    """
    mark = os.environ.get(MARK)
    if not mark or os.getsid(0) != os.getpid():
        return
    keeper = os.getpid()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    worker = os.fork()
    if worker == 0:
        os.setpgid(0, 0)  # own code that signals its process group must not end the keeper
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:  # it ended before we asked
            os._exit(1)
        return
    try:
        _Keeper(worker, mark, scratch).run()
    finally:
        os._exit(1)


def scratch_prefix(purpose: str) -> str:
    """How to begin the name of a temporary folder, for the keeper to remove it if this process is killed."""
    return f"jaxaccel-{purpose}-{os.environ.get(MARK, os.getpid())}-"


class _Keeper:
    """Waits, ends what is left, and ends as the worker did."""

    def __init__(self, worker: int, mark: str, scratch: Path | None) -> None:
        self._worker, self._mark, self._scratch = worker, mark, scratch
        self._status: int | None = None
        self._asked = False

    def run(self) -> None:
        """Does not return."""
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):  # whoever reads the worker's pipes waits for their end
            os.dup2(nowhere, descriptor)
        orphaned = self._wait()
        _sweep(self._mark, os.getpid(), self._reap)
        if self._status is None:  # killed, but its threads take a moment to end
            self._status = os.waitpid(self._worker, 0)[1]
        with contextlib.suppress(OSError):
            for folder in Path(tempfile.gettempdir()).glob(f"jaxaccel-*-{self._mark}-*"):
                shutil.rmtree(folder, ignore_errors=True)
        if orphaned and self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)
        if os.WIFSIGNALED(self._status):
            number = os.WTERMSIG(self._status)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the worker has left one
            if number != signal.SIGKILL:
                signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        os._exit(os.waitstatus_to_exitcode(self._status))

    def _wait(self) -> bool:
        """Until the worker has ended, or is to end. Returns whether the process that started it is gone."""
        woken, wake = os.pipe()
        for end in (woken, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in _ENDS:
            signal.signal(number, self._ask)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        starter, first = int(self._mark.partition("-")[0]), os.getppid()
        poll = select.poll()
        poll.register(woken, select.POLLIN)
        watched, pause_ms = -1, None
        try:
            watched = os.pidfd_open(starter)
            poll.register(watched, select.POLLIN)
        except ProcessLookupError:
            return True
        except (AttributeError, OSError):  # not Linux, or an old one
            pause_ms = LOOK_S * 1000
        while True:
            self._reap()
            if self._status is not None or self._asked:
                return False
            ready = [descriptor for descriptor, _ in poll.poll(pause_ms)]
            if watched in ready or (watched < 0 and os.getppid() != first):
                return True
            with contextlib.suppress(BlockingIOError):
                os.read(woken, 4096)

    def _ask(self, *_: object) -> None:
        self._asked = True

    def _reap(self) -> None:
        """Take note of children that have ended."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._worker:
                    self._status = ended[1]


def _sweep(mark: str, session: int, reap: Callable[[], None] = lambda: None) -> None:
    """Kill what a child started, until none of it is left or `SWEEP_S` is over: see `_left`."""
    until = time.monotonic() + SWEEP_S
    while (left := _left(mark, session)) and time.monotonic() < until:
        for process in left:
            with contextlib.suppress(psutil.Error, OSError):
                process.kill()
        time.sleep(0.005)
        reap()


def _left(mark: str, session: int) -> list[psutil.Process]:
    """Living processes of the session or with the mark. In the keeper: also its children, and not itself."""
    own = os.getpid()
    found = psutil.Process().children(recursive=True) if own == session else []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != own and (
                os.getsid(process.pid) == session or process.environ().get(MARK) == mark
            ):
                found.append(process)
    return [process for process in found if not _is_zombie(process)]


def _is_zombie(process: psutil.Process) -> bool:
    """Whether it has ended, and only waits to be waited for."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _prctl(option: int, value: int) -> None:
    """Ask Linux for something about this process; elsewhere there is no such call."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)
