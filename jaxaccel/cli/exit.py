"""The one way into a command: streams that can't fail it, signals that end it in order, bad input in a line.

What takes long is imported once signals are listened to.
"""

import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Protocol

from jaxaccel.process import early, signals
from jaxaccel.process.early import NO_RESULT

OK, INCOMPLETE, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


class Command(Protocol):
    """A command's `main`: its arguments, or those of the process, to its exit code."""

    def __call__(self, argv: Sequence[str] | None = None, **named: Any) -> int:
        """Run it."""


def command(main: Callable[..., int]) -> Command:
    """Make a `main` of a function of the arguments that raises BadInputError, and knows nothing of signals.

    Returns the exit code of `main`, 2 for bad input or a file that can't be used, or 128 and the number of
    the signal that ended it. An exception that nobody expects comes out, and is printed without secrets.
    """

    @wraps(main)
    def begun(argv: Sequence[str] | None = None, **named: Any) -> int:
        with signals.listening():
            arguments = list(sys.argv[1:] if argv is None else argv)
            try:
                # Behind `listening`: what a redacting stream needs takes long to import.
                from jaxaccel.process.streams import safe_streams

                with safe_streams():
                    return _guarded(main, arguments, named)
            except KeyboardInterrupt as error:  # in the moments before
                signals.note(error)
                signals.over()
                early.tell(signals.number())
                return signals.exit_code() or INTERRUPTED

    return begun


def _guarded(main: Callable[..., int], arguments: list[str], named: dict[str, Any]) -> int:
    from jaxaccel.process.saying import warn

    try:
        code = main(arguments, **named)
        signals.over()
        return code
    except KeyboardInterrupt as error:
        signals.note(error)
    except Exception as error:
        if not signals.stopped():  # else it is what a library made of the interrupt
            return _refused(error, arguments)
    signals.over()
    warn(f"{signals.how()} {NO_RESULT}")
    return signals.exit_code() or INTERRUPTED


def _refused(error: Exception, arguments: Sequence[str]) -> int:
    """Say what was wrong with the arguments, or with a file; any other exception is raised again."""
    import traceback

    from jaxaccel.cli.spelling import as_typed
    from jaxaccel.process.saying import tell, warn
    from jaxaccel.records.errors import BadInputError

    if not isinstance(error, BadInputError | OSError):
        raise error
    if any(argument.lower() == "debug=true" for argument in arguments):
        tell(traceback.format_exc())
    warn(as_typed(in_a_line(error), arguments))
    # Another command that keeps the device is nothing that the arguments could help.
    return INCOMPLETE if isinstance(error, TimeoutError) else BAD_INPUT


def in_a_line(error: Exception) -> str:
    """What is wrong, in one line; of a file, which one."""
    if isinstance(error, OSError) and error.strerror:
        return f"can't use {error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error).strip().partition("\n")[0] or type(error).__name__
