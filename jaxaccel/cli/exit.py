"""How every command begins: broken streams don't fail it, signals end it in order, bad input is one line.

Modules that take long to import are imported once signals are handled.
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
    """A decorator: makes a command's `main` of a function of its arguments that may raise BadInputError.

    The exit code is that of the function; 2 for bad input or a file that can't be used, 1 for a device that
    stays busy, or 128 plus the number of the signal that ended it. Python prints any other exception, without
    secrets.
    """

    @wraps(main)
    def begun(argv: Sequence[str] | None = None, **named: Any) -> int:
        with signals.listening():
            arguments = list(sys.argv[1:] if argv is None else argv)
            try:
                # Imported inside `listening`, because a redacting stream takes long to import.
                from jaxaccel.process.streams import safe_streams

                with safe_streams():
                    return _guarded(main, arguments, named)
            except KeyboardInterrupt as error:  # before `_guarded` began
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
        if not signals.stopped():  # if it is, a library has turned the interrupt into this exception
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
    # A device that another command keeps busy is no fault of the arguments.
    return INCOMPLETE if isinstance(error, TimeoutError) else BAD_INPUT


def in_a_line(error: Exception) -> str:
    """What is wrong, in one line; of a file, which one."""
    if isinstance(error, OSError) and error.strerror:
        return f"can't use {error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error).strip().partition("\n")[0] or type(error).__name__
