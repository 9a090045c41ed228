"""Signals that end a command: each stops it in order, so that its last line can say what was kept.

A signal raises `Stopped`, which is an interrupt as Ctrl-C raises it. Signals that are ignored, as SIGHUP is
under nohup, stay so. Before a command's `main` begins, `early` handles signals.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from jaxaccel.process import early
from jaxaccel.process.early import BY_SIGNAL, SIGNALS

AT_ONCE_S = 1.0  # service managers and terminals send several signals at once: they are one


class Stopped(KeyboardInterrupt):
    """A signal asks the command to end."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(number)
        self.number = number


class _State:
    """What has come so far. A process has one, as it has one set of handlers."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """None has come."""
        self.number: int | None = None  # of the first signal
        self.raised_s = -AT_ONCE_S
        self.held = 0
        self.only_noting = False
        self.waiting = False
        self.over = False


_state = _State()


def stopped() -> bool:
    """Whether a signal has asked this command to end."""
    return _state.number is not None


def exit_code() -> int | None:
    """128 and the number of the signal that ends this command; None where none does."""
    return None if _state.number is None else BY_SIGNAL + _state.number


def number() -> int:
    """The signal that ends this command, or SIGINT."""
    return _state.number or signal.SIGINT


def how() -> str:
    """How it was ended, in words: `interrupted` by Ctrl-C, `interrupted by SIGTERM`."""
    return early.how(number())


def is_of_signal(code: int) -> bool:
    """Whether a process with this exit code, as subprocess has it, was ended by one of these signals."""
    return any(code in (-sent, BY_SIGNAL + sent) for sent in SIGNALS)


def note(error: KeyboardInterrupt) -> None:
    """Take an interrupt into account that was raised, by us or by Python's own handler."""
    if _state.number is None:
        _state.number = int(getattr(error, "number", signal.SIGINT))


def over() -> None:
    """From now on signals change nothing: the command says its last line, and ends."""
    _state.over = True


@contextlib.contextmanager
def caught() -> Iterator[None]:
    """A signal ends this block, and the command goes on behind it; `stopped` tells that one came."""
    try:
        yield
    except KeyboardInterrupt as error:
        note(error)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """A signal that comes inside this block takes effect at its end. Only for blocks that take a moment."""
    _state.held += 1
    try:
        yield
    finally:
        _state.held -= 1
        if _state.waiting and not _state.held:
            _raise(number())


def only_note() -> None:
    """From now on signals are noted, and raise only inside `let_through`: there are results to tell of."""
    _state.only_noting = True


@contextlib.contextmanager
def let_through() -> Iterator[None]:
    """A signal that comes inside this block ends it; the command goes on behind it."""
    before, _state.only_noting = _state.only_noting, False
    try:
        with caught():
            yield
    finally:
        _state.only_noting = before


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Inside, signals raise `Stopped` in the main thread. Signals from before are forgotten."""
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers are the main thread's to set
        return
    _state.reset()
    before = early.set_handler(_stop)
    try:
        yield
    finally:
        for sent, handler in before.items():
            # The process is about to end with its exit code. A handler of Python's would not do: while the
            # interpreter shuts down, it puts the default back, which ends the process by the signal.
            signal.signal(sent, signal.SIG_IGN if handler is early.leave else handler)
        _state.reset()


def _stop(sent: int, frame: FrameType | None) -> None:
    again = _state.number is not None
    _state.number = _state.number or sent
    if _state.over:
        return
    if _state.only_noting:
        return
    if _state.held:
        _state.waiting = True
    elif not again or time.monotonic() - _state.raised_s >= AT_ONCE_S:
        _raise(sent)


def _raise(sent: int) -> None:
    _state.waiting = False
    if not _state.over:
        _state.raised_s = time.monotonic()
        raise Stopped(sent)
