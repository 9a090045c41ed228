"""A run's transaction log, read back: the client tells nobody that a disk was full."""

from collections.abc import Iterator
from pathlib import Path

# The format is LevelDB's log: blocks, in which chunks stand with a header of CRC-32, length and kind.
_FILE_HEADER_BYTES, _BLOCK_BYTES, _HEADER_BYTES = 7, 1 << 15, 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


class TruncatedError(ValueError):
    """The file ends within something."""


def entries(path: Path) -> Iterator[bytes]:
    """The entries of a .wandb file in order, each a serialised Record of W&B's.

    **Raises** TruncatedError where the file ends within one.
    """
    content = path.read_bytes()
    at, entry = _FILE_HEADER_BYTES, b""
    while at < len(content):
        left = _BLOCK_BYTES - at % _BLOCK_BYTES
        if left < _HEADER_BYTES:  # filled up with zeros
            at += left
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6 : at + 7]
        chunk = content[at + _HEADER_BYTES : at + _HEADER_BYTES + length]
        if not kind or len(chunk) < length:
            raise TruncatedError(f"{path} ends within an entry")
        entry = chunk if kind[0] in (_FULL, _FIRST) else entry + chunk
        if kind[0] in (_FULL, _LAST):
            yield entry
        at += _HEADER_BYTES + length
