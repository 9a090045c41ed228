"""Standard output and error as commands have them: no secret passes, and whatever breaks decides nothing.

A stream may be closed, its disk full, its reader or terminal gone, its encoding ASCII. That changes what is
seen, and neither what is measured nor the exit code.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

from jaxaccel.records.redact import without_secrets

HELD = 1 << 16  # at most so many characters of an unfinished line are held back


class SafeStream:
    """A text stream that writes no secret. It writes whole lines, so that a secret in pieces is found too.

    It raises nothing if the stream that it wraps can't be written to, and sets `lost`. Other attributes are
    those of that stream. None stands for a stream that was closed before Python started.
    """

    def __init__(self, stream: Any) -> None:
        self.lost = stream is None
        self._stream = _Nowhere() if stream is None else stream
        self._kept = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write whole lines; the beginning of the next one waits for its end, or for `flush`."""
        self._kept += text
        whole, end, rest = self._kept.rpartition("\n")
        if len(rest) > HELD:
            whole, end, rest = self._kept, "", ""
        self._kept = rest
        if whole or end:
            self._write(whole + end)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what was held back, too."""
        kept, self._kept = self._kept, ""
        if kept:
            self._write(kept)
        with self._losing():
            self._stream.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal; False if it is closed."""
        with contextlib.suppress(OSError, ValueError):
            return bool(self._stream.isatty())
        return False

    def close(self) -> None:
        """Nothing: what it wraps is Python's, and others may still write to it."""

    def _write(self, text: str) -> None:
        clean = without_secrets(text, numbers=False)
        with self._losing():
            try:
                self._stream.write(clean)
            except UnicodeEncodeError:
                encoding = getattr(self._stream, "encoding", None) or "ascii"
                self._stream.write(clean.encode(encoding, "backslashreplace").decode(encoding))

    @contextlib.contextmanager
    def _losing(self) -> Iterator[None]:
        """An error of the stream inside makes it `lost`, and has no other effect."""
        try:
            yield
        except BlockingIOError:
            pass  # the stream does not block and its reader is slow: only this text is lost
        except (OSError, ValueError):
            self.lost = True
            self._nowhere()

    def settle(self) -> None:
        """Leave nothing in buffers: Python would write it at exit, and a failure would set the exit code."""
        self.flush()
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._nowhere()

    def _nowhere(self) -> None:
        """Send the rest to the null device, where writing never fails."""
        with contextlib.suppress(OSError, ValueError):
            number, nowhere = self._stream.fileno(), os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)


class _Nowhere(io.TextIOBase):
    """In place of a stream that is not there."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return len(text)


@contextlib.contextmanager
def safe_streams() -> Iterator[None]:
    """Standard output and error are `SafeStream`s inside.

    After an exception they stay so, because Python prints its traceback afterwards.
    """
    _fill_gaps()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (
        stream if isinstance(stream, SafeStream) else SafeStream(stream) for stream in before
    )
    ours = sys.stdout, sys.stderr
    try:
        yield
    except (SystemExit, KeyboardInterrupt):
        _restore(before, ours)
        raise
    _restore(before, ours)


def _restore(before: tuple[Any, Any], ours: tuple[Any, Any]) -> None:
    for name, stream, safe in zip(("stdout", "stderr"), before, ours, strict=True):
        if safe is not stream:
            safe.settle()
            if getattr(sys, name) is safe:
                setattr(sys, name, stream)


def _fill_gaps() -> None:
    """Open the null device for each of standard input, output and error that is closed.

    Otherwise the next file that is opened would take its number, and what a library or a child writes to its
    standard output would end up in that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number that is free
