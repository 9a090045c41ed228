"""Keeps the records of a command: each in its folder, or else in another folder, or else printed.

`require_room` checks before anything is measured that the folders can be written to. A record that can't be
written later is held in memory, and written again at the end.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jaxaccel.process import signals
from jaxaccel.process.saying import say, tell, warn
from jaxaccel.records import Record, encode_record, escape, store
from jaxaccel.records.errors import BadInputError
from jaxaccel.records.reading import RECORD
from jaxaccel.records.redact.outlets import document

ROOM_BYTES = 4 << 20  # of a folder: 16 records, or the page of a sweep
PRINTED = "printed above as lines of JSON"


def require_utf8(name: str, texts: Iterable[str]) -> None:
    """Refuse text that no record can hold, such as the name of a file in another encoding.

    **Raises** BadInputError.
    """
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BadInputError(f"{name} must be UTF-8, got {text!a}") from error


def require_room(folders: Iterable[Path]) -> None:
    """Refuse folders that records can't be written to. Missing folders are made.

    **Raises** BadInputError if one can't be made or written to, has no room, or has a name that is not UTF-8.
    """
    for number, folder in enumerate(dict.fromkeys(folders)):
        require_utf8("the output folder", [str(folder)])
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".room-") as file:
                # The folders of a command are beside each other: one of them has room for all, or none.
                file.write(os.urandom(1) if number else os.urandom(ROOM_BYTES))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise BadInputError(f"can't write to {folder}: {error.strerror or error}") from error


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """The last record of an arm, and the folder that it is in: its own, another one, or none."""

    record: Record
    place: Path | None


class Keeper:
    """Keeps the records of a command in memory until each is written to its folder.

    A context manager. On exit it calls `settle`.
    """

    def __init__(self) -> None:
        self._kept: dict[Path, _Kept] = {}  # by the folder where it belongs
        self._roots: dict[Path, Path] = {}  # folders for rescued records, by where they are
        self._printed = 0
        self._lost = 0

    def __enter__(self) -> "Keeper":
        return self

    def __exit__(self, *_: object) -> None:
        self.settle()

    def keep(self, record: Record, folders: Sequence[Path]) -> None:
        """Save a record in each folder, over an earlier one of its arm."""
        with signals.held():
            for folder in folders:
                self._keep(record, folder)

    def settle(self) -> None:
        """At the end, write records that are not in their folders again; print those that are nowhere."""
        with signals.held():
            for folder, kept in list(self._kept.items()):
                if kept.place != folder or not (folder / RECORD).is_file():
                    self._keep(kept.record, folder)
            nowhere = [kept.record for kept in self._kept.values() if kept.place is None]
            if nowhere and not self._printed + self._lost:
                if _printed(nowhere):
                    self._printed = len(nowhere)
                else:
                    self._lost = len(nowhere)

    @property
    def complete(self) -> bool:
        """Whether all records are where they belong."""
        return all(kept.place == folder for folder, kept in self._kept.items())

    def where(self, home: Path) -> str:
        """A line that says where the records are whose folders are `home`, or in it."""
        among = {folder: kept for folder, kept in self._kept.items() if home in (folder, *folder.parents)}
        there = sum(kept.place == folder for folder, kept in among.items())
        if there == len(among):
            return f"Records: {home}"
        parts = [f"{there} of {len(among)} records are in {home}"]
        for root in self._roots.values():
            if count := sum(kept.place is not None and root in kept.place.parents for kept in among.values()):
                parts.append(f"{count} in {root}")
        if nowhere := sum(kept.place is None for kept in among.values()):
            parts.append(f"{nowhere} {PRINTED if self._printed else 'lost'}")
        return "; ".join(parts)

    def _keep(self, record: Record, folder: Path) -> None:
        before = self._kept.get(folder)
        reason = _saved(record, folder)
        place = folder if reason is None else self._rescued(record, folder)
        self._kept[folder] = _Kept(record=record, place=place)
        if reason is None:
            if before and before.place not in (None, folder):
                self._drop(before.place)
        elif before is None or before.place != place:
            held = "the record is held in memory, and is written again at the end"
            warn(f"can't write to {folder}: {reason}; " + (f"the record is in {place}" if place else held))

    def _rescued(self, record: Record, folder: Path) -> Path | None:
        """The folder elsewhere that the record is in now; None where no other can be written either."""
        number = list(self._kept).index(folder) if folder in self._kept else len(self._kept)
        for base in _bases():
            try:
                root = self._roots.get(base) or Path(tempfile.mkdtemp(dir=base, prefix="jaxaccel-"))
            except OSError:
                continue
            place = root / escape.file_name([str(number), folder.name])
            if _saved(record, place) is None:
                self._roots[base] = root
                return place
            if base not in self._roots:
                shutil.rmtree(root, ignore_errors=True)
        return None

    def _drop(self, place: Path | None) -> None:
        """Remove a rescued record that is where it belongs by now."""
        if place:
            shutil.rmtree(place, ignore_errors=True)
            with suppress(OSError):
                place.parent.rmdir()


def _saved(record: Record, folder: Path) -> str | None:
    """Save a record. Returns why that failed, or None."""
    try:
        store.save(record, folder)
    except Exception as error:  # whatever it is, the record is not lost
        return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    return None


def _bases() -> Iterator[Path]:
    """Other folders for records: those for temporary files, the home folder, the current folder."""
    bases: tuple[Callable[[], str | Path], ...] = (
        tempfile.gettempdir,
        Path.home,
        lambda: "/var/tmp",
        Path.cwd,
    )
    for find in bases:
        with suppress(OSError, RuntimeError):
            yield Path(find()).absolute()


def _printed(records: Sequence[Record]) -> bool:
    """Print records, a line each, on standard output or else on standard error. Returns whether it worked."""
    lines = b"\n".join(map(encode_record, records))
    text = escape.json_text(document("records.jsonl", lines).decode())
    for out, name in ((say, "stdout"), (tell, "stderr")):
        out(text)
        stream = getattr(sys, name)
        if not getattr(stream, "lost", stream is None):
            return True
    return False
