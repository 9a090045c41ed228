"""State that code can change for the whole process: read as a flat mapping, and restored entry by entry.

A key is (kind, name). `Channels` are the file descriptors 0, 1 and 2, which are put back without being read.
"""

import contextlib
import gc
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

Key = tuple[str, str]
State = Mapping[Key, Any]

ABSENT = object()  # in place of the value of what is not there
JAX, ENVIRONMENT = "jax", "environment"  # kinds

# What code leaves running is stopped when its case is left, and not started again when the case goes on.
_NEVER_AGAIN = ("timer", "trace")

_TIMERS = {name: getattr(signal, name) for name in ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF")}
_SIGNALS = {str(int(number)): number for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}}
_STREAMS = {"stdin": (0, "r"), "stdout": (1, "w"), "stderr": (2, "w")}


def read() -> State:
    """The present state."""
    return {(kind, name): value for kind, (get, _) in _KINDS.items() for name, value in get().items()}


def changes(before: State, after: State) -> State:
    """What makes `after` of `before`."""
    found = {key: value for key, value in after.items() if _differ(before.get(key, ABSENT), value)}
    return found | {key: ABSENT for key in before if key not in after}


def lasting(state: State) -> State:
    """Of some changes, those that are made again when a case goes on."""
    return {key: value for key, value in state.items() if key[0] not in _NEVER_AGAIN}


def write(state: State) -> None:
    """Make these changes."""
    for (kind, name), value in state.items():
        _KINDS[kind][1](name, value)


def _differ(first: Any, second: Any) -> bool:
    return first is not second and bool(first != second)


class Channels:
    """Standard input, output and error of the process as they are now, to be put back."""

    def __init__(self) -> None:
        self._saved: dict[int, int] = {}
        for descriptor in range(3):
            with contextlib.suppress(OSError):  # closed already
                self._saved[descriptor] = os.dup(descriptor)

    def put_back(self) -> None:
        """Undo what became of them. To be called once."""
        for descriptor, saved in self._saved.items():
            if _file_of(descriptor) != _file_of(saved):
                os.dup2(saved, descriptor)
            os.close(saved)


def _file_of(descriptor: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino


# --- each kind: how it is read, and how one name of it is written ----------------------------------


def _set_jax(name: str, value: Any) -> None:
    if value is not ABSENT:  # an option that a module of JAX brought with it stays
        jax.config.update(name, value)


def _set_variable(name: str, value: Any) -> None:
    if value is ABSENT:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _cwd() -> str | None:
    try:
        return str(Path.cwd())
    except FileNotFoundError:  # somebody removed it
        return None


def _set_warnings(filters: Any) -> None:
    warnings.resetwarnings()  # JAX and NumPy cache what the filters said
    warnings.filters[:] = filters  # type: ignore[index]


def _streams() -> dict[str, tuple[Any, bool]]:
    """Each, and whether it is closed."""
    return {
        name: (stream, getattr(stream, "closed", True))
        for name in _STREAMS
        for stream in [getattr(sys, name)]
    }


def _set_stream(name: str, value: tuple[Any, bool]) -> None:
    stream, closed = value
    if not closed and stream.closed:
        opened = open(_STREAMS[name][0], _STREAMS[name][1], closefd=False)  # noqa: SIM115  # for good
        if getattr(sys, f"__{name}__") is stream:
            setattr(sys, f"__{name}__", opened)
        stream = opened
    setattr(sys, name, stream)


def _affinity() -> frozenset[int]:
    # macOS has no affinity masks.
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


def _set_affinity(cores: frozenset[int]) -> None:
    if cores:
        os.sched_setaffinity(0, cores)


_PROCESS: Mapping[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "cwd": (_cwd, lambda path: None if path is None else os.chdir(path)),
    "argv": (lambda: tuple(sys.argv), lambda words: setattr(sys, "argv", list(words))),
    "path": (lambda: tuple(sys.path), lambda places: sys.path.__setitem__(slice(None), places)),
    "warnings": (lambda: tuple(warnings.filters), _set_warnings),
    "gc": (gc.isenabled, lambda enabled: gc.enable() if enabled else gc.disable()),
    "gc thresholds": (gc.get_threshold, lambda thresholds: gc.set_threshold(*thresholds)),
    "recursion": (sys.getrecursionlimit, sys.setrecursionlimit),
    "affinity": (_affinity, _set_affinity),
    "excepthook": (lambda: sys.excepthook, lambda hook: setattr(sys, "excepthook", hook)),
    "breakpointhook": (lambda: sys.breakpointhook, lambda hook: setattr(sys, "breakpointhook", hook)),
}


def _handlers() -> dict[str, Any]:
    return {name: signal.getsignal(number) for name, number in _SIGNALS.items()}


def _set_handler(name: str, handler: Any) -> None:
    # Only the main thread may; None is a handler that is not Python's.
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(_SIGNALS[name], handler)


def _set_trace(name: str, function: Any) -> None:
    (sys.settrace if name == "trace" else sys.setprofile)(function)


_KINDS: Mapping[str, tuple[Callable[[], Mapping[str, Any]], Callable[[str, Any], Any]]] = {
    JAX: (lambda: jax.config.values, _set_jax),
    ENVIRONMENT: (lambda: dict(os.environ), _set_variable),
    "process": (
        lambda: {name: get() for name, (get, _) in _PROCESS.items()},
        lambda name, value: _PROCESS[name][1](value),
    ),
    "stream": (_streams, _set_stream),
    "numpy": (lambda: dict(np.geterr()), lambda name, value: np.seterr(**{name: value})),
    "timer": (  # before its signal's handler is another
        lambda: {name: signal.getitimer(timer) != (0.0, 0.0) for name, timer in _TIMERS.items()},
        lambda name, _: signal.setitimer(_TIMERS[name], 0),
    ),
    "signal": (_handlers, _set_handler),
    "trace": (lambda: {"trace": sys.gettrace(), "profile": sys.getprofile()}, _set_trace),
}
