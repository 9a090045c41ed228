"""Starts a worker, talks to it over pipes, and turns whatever happens to it into a message.

The worker's environment is set before it starts, for JAX fixes its backend at first use. Reading blocks in
the kernel: a parent that polled without sleeping would slow down the very call that it waits for.
"""

import contextlib
import os
import re
import selectors
import subprocess
import sys
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, cast

import msgspec
import platformdirs

from jaxaccel.process import signals
from jaxaccel.process.children import Child
from jaxaccel.records import Problem
from jaxaccel.records.messages import Failure, Message, Started, decode_message, encode_message
from jaxaccel.records.redact import all_without_secrets
from jaxaccel.session.last_words import LastWords

START_TIMEOUT_S = 180.0
ANSWER_TIMEOUT_S = 1800.0  # one answer: a large program's compilation is among them
LEAVE_S = 5.0  # for a worker to leave by itself
START_HINT = "is the machine busy, or its disk slow? `python -c 'import jax; jax.devices()'` starts JAX alone"
ANSWER_HINT = (
    "the code may hang, wait for input, or take this long to compile: try a smaller size; "
    "what the worker wrote last is in the details"
)


class Worker:
    """One process with one device. A context manager: leaving it ends the process."""

    def __init__(
        self,
        device: str,
        *,
        variables: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
        cores: int | None = None,
        command: Sequence[str] = ("jaxaccel.worker",),
    ) -> None:
        """Launch at once, without waiting: `ready` waits. On so many `cores` of ours, or on all.

        flags: XLA's, beside those of the environment. command: the module, and words after DEVICE.
        """
        self.device = device
        self._launched_at = time.time()
        self._started: Started | Failure | None = None
        self._pending = b""
        self._answering = False
        self._stopped = False
        self._words = LastWords()
        kept = [] if cores is None else [str(cores)]
        try:
            self._child = Child(
                [sys.executable, "-m", command[0], device, *command[1:], *kept],
                variables={
                    **os.environ,
                    **worker_variables(device),
                    **with_flags(flags),
                    **(variables or {}),
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._words.writing,
            )
        finally:
            self._words.listen()
        # The types allow None, for processes without pipes.
        self._requests = cast("IO[bytes]", self._child.stdin)
        self._replies = cast("IO[bytes]", self._child.stdout)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._replies, selectors.EVENT_READ)
        _WORKERS.add(self)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._child.wait(0.0) is None

    def ready(self) -> Started | Failure:
        """What the worker said first: that it has its device, or why not."""
        if self._started is None:
            answer = self._receive(START_TIMEOUT_S)
            self._started = answer if isinstance(answer, Started | Failure) else _unexpected(answer)
        return self._started

    @property
    def start_s(self) -> float:
        """Seconds from the launch until the worker had its device; 0 where it never had."""
        started = self.ready()
        return max(0.0, started.ready_at - self._launched_at) if isinstance(started, Started) else 0.0

    def ask(self, request: Message) -> Message:
        """The worker's answer; a Failure where it answers with one, dies, or says nothing for too long."""
        started = self.ready()
        if isinstance(started, Failure):
            return started
        self._answering = True  # until the answer is there: an interrupt may come before it
        try:
            self._requests.write(encode_message(request))
            self._requests.flush()
        except BrokenPipeError:
            return self._died()
        answer = self._receive(ANSWER_TIMEOUT_S)
        self._answering = False
        return answer

    def stop(self) -> None:
        """End the process, with all that it started.

        Its standard input closes, and it gets a moment to leave by itself. It gets none if it owes an answer,
        if nobody waited for its start, or if a signal has ended the command: whoever sent it may not wait.
        """
        if self._stopped:
            return
        self._stopped = True
        self._selector.close()
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()
        busy = self._answering or self._started is None or signals.stopped()
        if busy or self._child.wait(LEAVE_S) is None:
            self.kill()
        self._replies.close()
        self._words.close()

    def kill(self) -> None:
        """End the process now, with all that it started, whatever it is doing."""
        self._child.end()

    def _receive(self, timeout_s: float) -> Message:
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._pending:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                self.kill()
                message = f"the {self.device} worker gave no answer within {timeout_s:.0f} s, and was ended"
                hint = ANSWER_HINT if self._answering else START_HINT
                return Failure(
                    error=Problem(type="Timeout", message=message, hint=hint, details=self._words.last())
                )
            chunk = os.read(self._replies.fileno(), 1 << 20)
            if not chunk:
                return self._died()
            self._pending += chunk
        line, self._pending = self._pending.split(b"\n", 1)
        try:
            return all_without_secrets(decode_message(line))
        except msgspec.DecodeError as error:
            return Failure(
                error=Problem(type="Protocol", message=f"the {self.device} worker's answer: {error}")
            )

    def _died(self) -> Failure:
        code = self._child.wait(LEAVE_S)
        if code is None:  # its output is closed, and yet it lives
            code = self._child.end()
        how = f"was ended by signal {-code}" if code < 0 else f"exited with code {code}"
        words = self._words.last()
        # What is wrong with a flag comes first, and then all flags that there are.
        if problem := refused_flags(self._words.first() + words):
            return Failure(error=problem)
        # A worker that the kernel ended for want of memory leaves no words.
        hint = "perhaps the machine ran out of memory: take a smaller size" if code == -9 else None
        last = words.strip().splitlines()[-1][:200] if words.strip() else "it said nothing"
        return Failure(
            error=Problem(
                type="WorkerDied", message=f"the {self.device} worker {how}: {last}", hint=hint, details=words
            )
        )


_WORKERS: "weakref.WeakSet[Worker]" = weakref.WeakSet()


def end_workers(devices: Iterable[str], *, now: bool) -> None:
    """End those workers of this process that are on the devices. now: give them no moment to leave."""
    for worker in [worker for worker in _WORKERS if worker.device in devices]:
        if now:
            worker.kill()
        worker.stop()


def worker_variables(device: str) -> dict[str, str]:
    """Environment variables of a worker. JAX takes the first platform, and fails rather than fall back.

    A GPU's has the CPU beside it, on which own code makes its arguments, as a CPU's worker does.
    """
    cache = Path(platformdirs.user_cache_dir("jaxaccel")) / "xla"
    defaults = {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        # JAX would take three quarters of a GPU at the start, which others may be using.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        # Number GPUs as the driver's own tools do, which tell of their clocks and limits.
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    chosen = {name: value for name, value in defaults.items() if name not in os.environ}
    return chosen | {"JAX_PLATFORMS": "cpu" if device == "cpu" else f"{gpu_platform()},cpu"}


def with_flags(flags: Sequence[str]) -> dict[str, str]:
    """The environment variable that gives XLA its flags; of one that is given twice, it takes the last."""
    return {"XLA_FLAGS": " ".join(filter(None, [os.environ.get("XLA_FLAGS"), *flags]))} if flags else {}


def refused_flags(words: str) -> Problem | None:
    """What is wrong with XLA's flags, for which it ends a process: from that one's last words."""
    unknown = re.search(r"Unknown flags? in XLA_FLAGS: (.+)", words)
    wrong = re.search(r"Couldn't interpret value (.*) for flag (\w+)", words)
    if not unknown and not wrong:
        return None
    what = (
        f"XLA knows no flag {unknown.group(1).strip()}"
        if unknown
        else f"XLA can't read the value {wrong.group(1)!r} of its flag --{wrong.group(2)}"
        if wrong
        else ""
    )
    hint = "see device.flags, and XLA_FLAGS of the environment: flags come and go with JAX's versions"
    return Problem(type="XlaFlags", message=what, hint=hint)


def gpu_platform() -> str:
    """JAX's name for the GPU platform whose plugin is installed: cuda, rocm, ...; cuda where none is."""
    return next(iter(gpu_plugins()), "cuda")


def gpu_plugins() -> list[str]:
    """JAX's names for the GPU platforms whose plugins are installed."""
    from importlib.metadata import entry_points

    names = [entry.name.removeprefix("xla_") for entry in entry_points(group="jax_plugins")]
    platforms = [name.rstrip("0123456789") for name in names]
    return [name for name in platforms if name != "tpu"]


def _unexpected(message: Message) -> Failure:
    return Failure(error=Problem(type="Protocol", message=f"a worker began with {type(message).__name__}"))
