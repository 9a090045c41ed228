"""Files and folders that leave the process, without secrets; `streams` has standard output and error."""

import contextlib
import gzip
import zlib
from pathlib import Path

import msgspec

from jaxaccel.records.redact import all_without_secrets, without_secrets


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
