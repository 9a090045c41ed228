"""The ways out of the process, through which no secret passes: files, folders, standard output and error."""

import contextlib
import gzip
import sys
import zlib
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import msgspec

from jaxaccel.redact import all_without_secrets, without_secrets

HELD = 1 << 16  # characters of a line without an end, which a stream keeps back at most
P = ParamSpec("P")


def document(name: str, content: bytes) -> bytes:
    """The content of a file without secrets; as it is where it holds none, or is no text.

    In JSON only texts are looked at, so that it stays JSON. In other files, numbers are left alone.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return content
    with contextlib.suppress(msgspec.DecodeError, RecursionError):
        if name.endswith(".jsonl"):
            return b"\n".join(_json(line) if line.strip() else line for line in content.split(b"\n"))
        if name.endswith(".json"):
            return _json(content)
    clean = without_secrets(text, numbers=False)
    return content if clean == text else clean.encode()


def _json(content: bytes) -> bytes:
    """A JSON document, with the layout that it has."""
    plain = msgspec.json.decode(content)
    clean = all_without_secrets(plain)
    if clean is plain:
        return content
    found = msgspec.json.encode(clean)
    if b"\n " in content.strip():
        found = msgspec.json.format(found, indent=2)
    return found + content[len(content.rstrip()) :]


def scrub(folder: Path) -> dict[str, str]:
    """Take the secrets out of all files below a folder, compressed text among them.

    A file that is no text and holds one is removed. Returns those, by their place, with the reason.
    """
    removed: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        clean = _content(path.name, content)
        if clean is None:
            path.unlink()
            removed[str(path.relative_to(folder))] = "it held a secret"
        elif clean != content:
            path.write_bytes(clean)
    return removed


def _content(name: str, content: bytes) -> bytes | None:
    """The same without secrets; None where it is no text, and holds one."""
    if name.endswith(".gz"):
        try:
            inner = gzip.decompress(content)
        except (OSError, EOFError, zlib.error):
            return content
        clean = _content(name.removesuffix(".gz"), inner)
        return content if clean == inner else clean and gzip.compress(clean, mtime=0)
    try:
        content.decode()
    except UnicodeDecodeError:
        text = content.decode("latin-1")
        return content if without_secrets(text, numbers=False) == text else None
    return document(name, content)


class SafeStream:
    """A text stream that writes no secret, not even one that arrives in pieces: it keeps back a line's begin.

    For all else it is the stream that it wraps.
    """

    def __init__(self, stream: Any) -> None:
        self._stream, self._kept = stream, ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write whole lines; what comes after the last of them waits for its end, or for `flush`."""
        self._kept += text
        whole, end, rest = self._kept.rpartition("\n")
        if len(rest) > HELD:
            whole, end, rest = self._kept, "", ""
        self._kept = rest
        if whole or end:
            self._stream.write(without_secrets(whole + end, numbers=False))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what was kept back, too."""
        kept, self._kept = self._kept, ""
        if kept:
            self._stream.write(without_secrets(kept, numbers=False))
        self._stream.flush()


@contextlib.contextmanager
def safe_streams() -> Iterator[None]:
    """Standard output and error write no secret inside.

    After an exception they stay so, for it will be printed.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (
        stream if isinstance(stream, SafeStream | None) else SafeStream(stream) for stream in before
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
        if safe is not None and safe is not stream:
            with contextlib.suppress(OSError, ValueError):  # nobody listens any more
                safe.flush()
            if getattr(sys, name) is safe:
                setattr(sys, name, stream)


def speaks_safely(main: Callable[P, int]) -> Callable[P, int]:
    """A command whose standard output and error hold no secret."""

    @wraps(main)
    def wrapped(*arguments: P.args, **named: P.kwargs) -> int:
        with safe_streams():
            return main(*arguments, **named)

    return wrapped
