"""How every command begins: broken streams don't fail it, signals end it in order, bad input is one line.

Modules that take long to import are imported once signals are handled.
"""

import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Protocol

from jaxaccel import early, ending
from jaxaccel.early import NO_RESULT

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
        with ending.listening():
            arguments = list(sys.argv[1:] if argv is None else argv)
            try:
                # Imported inside `listening`, because a redacting stream takes long to import.
                from jaxaccel.streams import safe_streams

                with safe_streams():
                    return _guarded(main, arguments, named)
            except KeyboardInterrupt as error:  # before `_guarded` began
                ending.note(error)
                ending.over()
                early.tell(ending.number())
                return ending.exit_code() or INTERRUPTED

    return begun


def _guarded(main: Callable[..., int], arguments: list[str], named: dict[str, Any]) -> int:
    from jaxaccel.saying import warn

    try:
        code = main(arguments, **named)
        ending.over()
        return code
    except KeyboardInterrupt as error:
        ending.note(error)
    except Exception as error:
        if not ending.stopped():  # if it is, a library has turned the interrupt into this exception
            return _refused(error, arguments)
    ending.over()
    warn(f"{ending.how()} {NO_RESULT}")
    return ending.exit_code() or INTERRUPTED


def _refused(error: Exception, arguments: Sequence[str]) -> int:
    """Say what was wrong with the arguments, or with a file; any other exception is raised again."""
    import traceback

    from jaxaccel.config import BadInputError
    from jaxaccel.saying import tell, warn
    from jaxaccel.spelling import as_typed

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
