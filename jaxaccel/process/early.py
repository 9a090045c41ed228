"""Signals while a command still imports its modules: they end it with one line and their exit code.

A command imports this module first, so it imports almost nothing itself.
"""

import os
import signal

COMMANDS = ("run", "crossover", "peers", "report", "advise", "dashboard", "export", "selftest")
# The last three are sent by batch systems before they end a job.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGXCPU", "SIGUSR1", "SIGUSR2")
SIGNALS = tuple(signal.Signals[name] for name in _NAMES if hasattr(signal, name))
BY_SIGNAL = 128  # plus the signal's number: the exit code that shells give a process that a signal ended
NO_RESULT = "before there was a result"


def is_command(words: list[str]) -> bool:
    """Whether the words that started Python name a command of ours, as `-m jaxaccel.run` does."""
    names = {"jaxaccel", *(f"jaxaccel.{name}" for name in COMMANDS)}
    return any(word.removeprefix("-m") in names for word in words)


def how(number: int) -> str:
    """How a command was ended, in words: `interrupted` by Ctrl-C, `interrupted by SIGTERM`."""
    name = signal.Signals(number).name
    return "interrupted" if name == "SIGINT" else f"interrupted by {name}"


def leave_on_signals() -> None:
    """From now on, until a command listens, a signal ends the process with one line."""
    set_handler(leave)


def set_handler(handler: "signal._HANDLER") -> "dict[signal.Signals, signal._HANDLER]":
    """Set a handler for those of `SIGNALS` that are neither ignored nor handled outside of Python.

    Returns the earlier ones, by signal.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: old for number, old in before.items() if old not in (None, signal.SIG_IGN)}
    for number in before:
        signal.signal(number, handler)
    return before


def leave(number: int, frame: object) -> None:
    """End the process: nothing was measured yet. An exception could be swallowed by a module's import."""
    tell(number)
    os._exit(BY_SIGNAL + number)


def tell(number: int) -> None:
    """Say on standard error what ended the command."""
    try:  # noqa: SIM105  # contextlib takes long to import
        os.write(2, f"jaxaccel: {how(number)} {NO_RESULT}\n".encode())
    except OSError:  # nobody listens
        pass
