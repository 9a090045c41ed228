"""What commands say, beside their tables: on standard output, or on standard error. Nobody else prints.

Whatever the text holds, a terminal shows it and obeys nothing in it.
"""

import sys

from jaxaccel.records import escape

WARNING = 4_000  # characters of a warning; a longer one is clipped


def say(text: str = "", *, end: str = "\n") -> None:
    """Lines on standard output."""
    print(escape.terminal(text), end=end, flush=True)


def tell(text: str) -> None:
    """Lines on standard error: what is being done."""
    print(escape.terminal(text), file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """What is wrong, on standard error, in one line that begins with `jaxaccel: `."""
    print(f"jaxaccel: {escape.inert(text, WARNING)}", file=sys.stderr, flush=True)
