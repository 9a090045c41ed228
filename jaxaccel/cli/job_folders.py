"""The folders of jobs: none of them holds a record that would be lost, and refused jobs leave none behind."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxaccel.records import DEVICES
from jaxaccel.records.errors import BadInputError
from jaxaccel.records.reading import RECORD, RECORDS

CONFIGS, SWEEP = ".hydra", "multirun.yaml"  # what Hydra writes: a folder of each job, a file of a sweep
_OF_A_JOB = ("config.yaml", "hydra.yaml", "overrides.yaml")


@dataclass(frozen=True, kw_only=True)
class Made:
    """A folder or a file that Hydra makes. before: what was in the file; None where there was none."""

    path: Path
    is_folder: bool = False
    before: bytes | None = None

    def undo(self) -> None:
        """Leave it as it was; a folder into which something else has come stays."""
        with suppress(OSError):  # it is gone, or can't be written to any more
            if self.is_folder:
                self.path.rmdir()
            elif self.before is None:
                self.path.unlink()
            elif self.before != self.path.read_bytes():
                self.path.write_bytes(self.before)


@contextmanager
def noting_what_is_made() -> Iterator[list[Made]]:
    """What Hydra makes inside, in that order.

    Hydra makes folders and writes into them before a job can be refused. It does not say which were there
    before. It asks for each folder that it writes to, so `os.mkdir` is where we learn of them.
    """
    made: list[Made] = []
    noted: set[Path] = set()
    mkdir = os.mkdir

    def note_files(folder: Path) -> None:
        if folder not in noted:
            noted.add(folder)
            paths = [folder / name for name in (_OF_A_JOB if folder.name == CONFIGS else [SWEEP])]
            made.extend(Made(path=p, before=p.read_bytes() if p.is_file() else None) for p in paths)

    def noting(path: Any, *arguments: Any, **named: Any) -> None:
        folder = Path(path).absolute()
        try:
            mkdir(path, *arguments, **named)
        except FileExistsError:
            note_files(folder)
            raise
        made.append(Made(path=folder, is_folder=True))
        note_files(folder)

    os.mkdir = noting
    try:
        yield made
    finally:
        os.mkdir = mkdir


def discard(made: Sequence[Made]) -> None:
    """Undo what was made for jobs that came to nothing, the last first."""
    for one in reversed(made):
        one.undo()


def is_resumable(folder: Path) -> bool:
    """Whether a folder is empty, or a command has left something in it, were it only its configs."""
    if not any(folder.iterdir()):
        return True
    names = (CONFIGS, SWEEP, RECORD, RECORDS, *(f"{device}/{RECORD}" for device in DEVICES))
    return any((folder / name).exists() for name in names) or any(
        any(folder.glob(f"{below}/{RECORD}")) for below in ("*", "*/*")
    )


def require_no_records(key: str, folder: Path) -> None:
    """Refuse a folder, which `key` names, that holds a record.

    **Raises** BadInputError, with the record's case.
    """
    from jaxaccel.records.store import load_records

    paths = [folder / RECORDS, *(folder / device / RECORD for device in ("", *DEVICES))]
    for path in filter(Path.is_file, paths):
        held = [f"the record of {record.case}" for record in load_records([path], [], peers=True)] or ["one"]
        raise BadInputError(
            f"`{key}`: {folder} holds {held[0]} already: choose another folder, or resume={folder}, "
            "which goes on with it"
        )
