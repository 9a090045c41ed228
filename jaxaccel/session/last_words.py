"""What a worker writes to standard error: its beginning and its end, kept in memory.

A thread drains a pipe, and sleeps in the kernel while nothing is written. A file would need room on a disk.
"""

import os
import select
import threading

from jaxaccel.records import escape
from jaxaccel.records.redact import without_secrets

KEPT_BYTES = 4000  # that are shown, at most, of the beginning and of the end
SECRET_BYTES = 16_000  # read beyond them, so that no secret is cut in two, and the rest of it shown
DRAIN_S = 1.0  # for what an ended process has written to arrive: somebody else may hold the pipe open
_READ = KEPT_BYTES + SECRET_BYTES


class LastWords:
    """A pipe, and what came through it. `writing` is the end to be given to the process."""

    def __init__(self) -> None:
        self._reading, self.writing = os.pipe()
        self._woken, self._wake = os.pipe()
        self._begin, self._end, self._count = b"", b"", 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._drain, name="last words", daemon=True)

    def listen(self) -> None:
        """Close our copy of the writing end, and begin to read. To be called once the process has its own."""
        os.close(self.writing)
        self._thread.start()

    def first(self) -> str:
        """The beginning of what was written, without secrets, and inert."""
        self._thread.join(DRAIN_S)
        with self._lock:
            begin, whole = self._begin, self._count <= _READ
        return escape.report(_start(begin, whole=whole))

    def last(self) -> str:
        """The end of what was written, without secrets, and inert."""
        self._thread.join(DRAIN_S)
        with self._lock:
            end, whole = self._end[-_READ:], self._count <= _READ
        return escape.report(_finish(end, whole=whole))

    def close(self) -> None:
        """Stop reading. Whoever still writes gets a broken pipe."""
        if self._wake < 0:
            return
        os.close(self._wake)
        self._wake = -1
        self._thread.join()
        os.close(self._reading)
        os.close(self._woken)

    def _drain(self) -> None:
        poll = select.poll()
        poll.register(self._reading, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in poll.poll()]
            if self._woken in ready:
                return
            chunk = os.read(self._reading, 1 << 16)
            if not chunk:
                return
            with self._lock:
                self._count += len(chunk)
                self._begin += chunk[: max(0, _READ - len(self._begin))]
                self._end += chunk
                if len(self._end) > 4 * _READ:
                    self._end = self._end[-_READ:]


def _start(words: bytes, *, whole: bool) -> str:
    """The first `KEPT_BYTES` of the words without secrets. whole: they were not cut off at their end."""
    clean = without_secrets(words.decode(errors="replace"))
    if not whole:  # a secret that the cut left a part of is a part in one of these, and hidden in the other
        clean = _same_start(clean, without_secrets(words[:KEPT_BYTES].decode(errors="replace")))
    return clean[:KEPT_BYTES]


def _finish(words: bytes, *, whole: bool) -> str:
    """The last `KEPT_BYTES` of them. whole: they were not cut off at their beginning."""
    clean = without_secrets(words.decode(errors="replace"))
    if not whole:
        shorter = without_secrets(words[-KEPT_BYTES:].decode(errors="replace"))
        clean = _same_start(clean[::-1], shorter[::-1])[::-1]
    return clean[-KEPT_BYTES:]


def _same_start(first: str, second: str) -> str:
    """The characters with which both begin."""
    pairs = enumerate(zip(first, second, strict=False))
    return first[: next((place for place, (a, b) in pairs if a != b), min(len(first), len(second)))]
