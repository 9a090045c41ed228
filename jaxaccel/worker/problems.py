"""An exception as a Problem: one line, a hint where we know one, and where in the user's own code it was."""

import bdb
import linecache
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

import jax

from jaxaccel.records import Problem, escape
from jaxaccel.records.redact import without_secrets
from jaxaccel.worker.checks import RefusedError
from jaxaccel.worker.program import ARGUMENTS
from jaxaccel.workloads.importing import BadCodeError

OUT_OF_MEMORY = "the device ran out of memory: take a smaller size"
NOT_TRACEABLE = (
    "JAX traces a function once, without numbers: use jnp.where or jax.lax.cond in place of `if`, or give a "
    "setting by workload.static=[its position]"
)
LEAKED = "the function keeps a traced value beyond its call: return it in place of a side effect"
CAPTURED = (
    "let `workload.args` give the array, and take it as an argument (of a model: its parameters, as "
    "nnx.split gives them)"
)

ENDED = "let it return or raise an exception: what is measured must not end the process"
NO_INPUT = (
    "standard input is empty where the code is measured: give it what it asks for as an argument or a file"
)
DEBUGGER = "the code stops in a debugger, which has no input here: take out breakpoint() or set_trace()"

_NO_LINE = "EOF when reading a line"  # what input() raises

# Whose frames are nobody's concern who looks for a mistake of their own.
_OURS = Path(__file__).resolve().parent.parent
_NOT_THEIRS = ("jax", "jaxlib")
_LONGEST_FRAMES = 12

MESSAGE = 500  # characters
MARGIN = 16_000  # characters read beyond those that are shown: a secret cut in two would not be recognized


def describe(error: BaseException) -> Problem:
    """An exception as one line, with a hint where we know one, and the traceback for those who ask.

    Its words are a user's, and may be long: they are clipped, and what a terminal would obey is escaped.
    """
    text = _said(error)
    if isinstance(error, SystemExit):
        text = f"the code ended the process: SystemExit: {text}"
    theirs = users_traceback(error)
    named = getattr(error, "name", None)
    return Problem(
        type=escape.inert(
            named if named and isinstance(named, str) else type(error).__name__.removesuffix("Error"), 100
        ),
        message=escape.inert(_first_line(text, MESSAGE), MESSAGE),
        hint=_hint(error, text),
        details=escape.report(_clean("".join(traceback.format_exception(error)), escape.TEXT)),
        traceback=theirs and escape.report(theirs),
    )


def is_refusal(error: BaseException) -> bool:
    """Whether what was asked for is at fault, and not the run: it can't be measured as it is."""
    if isinstance(error, RefusedError | BadCodeError):
        return True
    return _hint_of_ending(error) is not None


def _hint_of_ending(error: BaseException) -> str | None:
    """What to do about code that ends the process, or waits for a person."""
    for cause in _causes(error):
        if isinstance(cause, bdb.BdbQuit):
            return DEBUGGER
        if _NO_LINE in _said(cause):
            return NO_INPUT
        if isinstance(cause, SystemExit):
            return ENDED
    return None


def _said(error: BaseException) -> str:
    """What an exception says of itself; its type where that is nothing, or where saying it fails."""
    try:
        return str(error).strip() or type(error).__name__
    except Exception:  # of its author's
        return type(error).__name__


def _first_line(text: str, most: int) -> str:
    """The first line of a text, without secrets."""
    if len(text) <= most + 2 * MARGIN:
        return without_secrets(text).splitlines()[0]
    return _clean(text.splitlines()[0], most)


def _clean(text: str, most: int) -> str:
    """The text without secrets; one that is much longer than `most` is clipped to that.

    Finding secrets in megabytes takes seconds, so only what is shown is searched.
    """
    if len(text) <= most + 2 * MARGIN:
        return without_secrets(text)
    head, missing, tail = escape.cut(len(text), most)
    start = without_secrets(text[: head + MARGIN])[:-MARGIN]
    end = without_secrets(text[len(text) - tail - MARGIN :])[MARGIN:]
    return start + missing + end


def _hint(error: BaseException, text: str) -> str | None:
    if hint := _hint_of_ending(error):
        return hint
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        return OUT_OF_MEMORY
    if isinstance(error, jax.errors.UnexpectedTracerError):
        return LEAKED
    untraceable = (
        jax.errors.ConcretizationTypeError,
        jax.errors.TracerArrayConversionError,
        jax.errors.NonConcreteBooleanIndexError,
    )
    if isinstance(error, untraceable):
        return NOT_TRACEABLE
    return CAPTURED if getattr(error, "name", None) == ARGUMENTS else None


def users_traceback(error: BaseException) -> str | None:
    """The frames that are not jaxaccel's, JAX's or Python's own, and the last line; None without any.

    It is the traceback of the first cause: what it was turned into on its way here is no news to its author.
    """
    for cause in reversed(list(_causes(error))):
        frames = [frame for frame in traceback.extract_tb(cause.__traceback__) if _is_theirs(frame.filename)]
        if isinstance(cause, SyntaxError) and cause.filename and _is_theirs(cause.filename):
            return _clean("".join(traceback.format_exception_only(cause)), escape.TEXT)
        if any("site-packages" not in frame.filename for frame in frames):
            lines = ["Traceback of your code (most recent call last):\n"]
            for frame in frames[-_LONGEST_FRAMES:]:
                line = (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()
                lines.append(f'  File "{_near(frame.filename)}", line {frame.lineno}, in {frame.name}\n')
                lines.append(f"    {line}\n" if line else "")
            name, said = type(cause).__name__, _first_line(_said(cause), escape.LINE)
            lines.append(name if said == name else f"{name}: {said}")
            return _clean("".join(lines), escape.TEXT)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception, then that which it came from, and so on."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)


def _is_theirs(filename: str) -> bool:
    if filename.startswith("<"):
        return False
    path = Path(filename)
    pairs = zip(path.parts, path.parts[1:], strict=False)
    packages = {part for parent, part in pairs if "-packages" in parent}
    if packages:
        return not packages.intersection(_NOT_THEIRS)
    standard = Path(sysconfig.get_path("stdlib"))
    return not (path.is_relative_to(_OURS) or path.is_relative_to(standard))


def _near(filename: str) -> str:
    """A path as seen from where the command was started, or, of a package, from where that is installed."""
    path = Path(filename)
    installed = [at for at, part in enumerate(path.parts) if part.endswith("-packages")]
    if installed:
        return str(Path(*path.parts[installed[-1] + 1 :]))
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name
